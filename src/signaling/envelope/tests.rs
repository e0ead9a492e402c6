use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const ROOM: RoomId = RoomId([1; 32]);
const EP: EndpointId = EndpointId([2; 16]);

fn room_field() -> String {
    base64url::encode(&ROOM.0)
}

fn ep_field() -> String {
    base64url::encode(&EP.0)
}

fn from_client(frame: Value) -> Result<(), EnvelopeError> {
    ClientEnvelope::decode(&frame.to_string()).map(|_| ())
}

fn bad_field<T>(field: &'static str) -> Result<T, EnvelopeError> {
    Err(EnvelopeError::BadField { field })
}

#[test]
fn frames_look_exactly_as_specified() {
    let blob = || Blob::new(&[255; 3]).unwrap();
    let (room, ep) = (room_field(), ep_field());
    for (frame, text) in [
        (
            ClientEnvelope::Join { room: ROOM, ep: EP }.encode(),
            format!(r#"{{"type":"join","room":"{room}","ep":"{ep}"}}"#),
        ),
        (
            ClientEnvelope::Send {
                to: EP,
                blob: blob(),
            }
            .encode(),
            format!(r#"{{"type":"send","to":"{ep}","blob":"____"}}"#),
        ),
        (
            ClientEnvelope::Leave.encode(),
            r#"{"type":"leave"}"#.to_owned(),
        ),
        (
            ServerEnvelope::Welcome {
                peers: vec![EP, EP],
                ice: vec![],
            }
            .encode(),
            format!(r#"{{"type":"welcome","peers":["{ep}","{ep}"]}}"#),
        ),
        (
            ServerEnvelope::Welcome {
                peers: vec![],
                ice: vec![
                    IceServer::stun("stun:a"),
                    IceServer::turn("turn:b", "name", "password"),
                ],
            }
            .encode(),
            concat!(
                r#"{"type":"welcome","peers":[],"ice":[{"urls":["stun:a"]},"#,
                r#"{"urls":["turn:b"],"username":"name","credential":"password"}]}"#
            )
            .to_owned(),
        ),
        (
            ServerEnvelope::Joined { ep: EP }.encode(),
            format!(r#"{{"type":"joined","ep":"{ep}"}}"#),
        ),
        (
            ServerEnvelope::Left { ep: EP }.encode(),
            format!(r#"{{"type":"left","ep":"{ep}"}}"#),
        ),
        (
            ServerEnvelope::Message {
                from: EP,
                blob: blob(),
            }
            .encode(),
            format!(r#"{{"type":"message","from":"{ep}","blob":"____"}}"#),
        ),
        (
            ServerEnvelope::from(ErrorCode::NotJoined).encode(),
            r#"{"type":"error","code":"not_joined","message":"join a room first"}"#.to_owned(),
        ),
    ] {
        assert_eq!(frame, text);
    }
}

#[test]
fn the_largest_blob_fits_into_a_frame_in_both_directions() {
    let blob = Blob::new(&[255; MAX_BLOB]).unwrap();
    assert!(
        ClientEnvelope::Send {
            to: EP,
            blob: blob.clone()
        }
        .encode()
        .len()
            < MAX_FRAME
    );
    assert!(ServerEnvelope::Message { from: EP, blob }.encode().len() < MAX_FRAME);
}

/// R-37.
#[test]
fn unknown_fields_order_escapes_and_spaces_do_not_matter() {
    let ep = ep_field();
    let text = format!(
        " \n{{ \"x\" : [ {{}} , null ], \"to\":\"\\u0041{}\", \"blob\":\"\", \"type\":\"send\" }} ",
        &ep[1..]
    );
    let decoded = ClientEnvelope::decode(&text).unwrap();
    assert!(matches!(decoded, ClientEnvelope::Send { blob, .. } if blob.is_empty()));
}

#[test]
fn what_is_no_object_with_a_type_is_a_bad_frame() {
    let (room, ep) = (room_field(), ep_field());
    for text in [
        String::new(),
        "x".into(),
        "null".into(),
        "\"leave\"".into(),
        "[\"leave\"]".into(),
        format!("[\"join\",\"{room}\",\"{ep}\",null,null]"),
        "{}".into(),
        "{\"type\":null}".into(),
        "{\"type\":7}".into(),
        "{\"type\":[\"leave\"]}".into(),
        "{\"type\":\"leave\"".into(),
        "{\"type\":\"leave\"}x".into(),
        "{\"type\":\"leave\"}{\"type\":\"leave\"}".into(),
        "{\"type\":\"leave\",\"type\":\"join\"}".into(),
        "{\"type\":\"\\ud800\"}".into(),
        "{'type':'leave'}".into(),
        format!("{{\"type\":\"leave\",\"ep\":{}", "[".repeat(10_000)),
    ] {
        assert_eq!(
            ClientEnvelope::decode(&text),
            Err(EnvelopeError::BadFrame),
            "{text}"
        );
        assert_eq!(
            ServerEnvelope::decode(&text),
            Err(EnvelopeError::BadFrame),
            "{text}"
        );
    }
}

#[test]
fn deep_nesting_is_skipped_without_recursion() {
    for field in ["x", "ep"] {
        let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
        let text = format!("{{\"type\":\"leave\",\"{field}\":{open}{close}}}");
        assert_eq!(ClientEnvelope::decode(&text), Ok(ClientEnvelope::Leave));
    }
}

#[test]
fn an_unknown_type_is_told_apart_whatever_else_the_frame_holds() {
    for frame in [
        json!({"type": ""}),
        json!({"type": "Join"}),
        json!({"type": "welcome", "peers": []}),
        json!({"type": "x", "to": 7, "room": [1, {"a": []}], "blob": null, "ep": true, "n": -1.5}),
    ] {
        assert_eq!(from_client(frame), Err(EnvelopeError::UnknownType));
    }
    assert_eq!(
        ServerEnvelope::decode(r#"{"type":"join"}"#),
        Err(EnvelopeError::UnknownType)
    );
}

#[test]
fn missing_and_malformed_fields_are_named() {
    let (room, ep) = (room_field(), ep_field());
    for wrong in [
        json!(null),
        json!(1),
        json!(true),
        json!([ep]),
        json!({"a": 1}),
        json!(""),
        json!("AAAA"),
        json!(format!("{ep}=")),
    ] {
        assert_eq!(
            from_client(json!({"type": "join", "room": wrong, "ep": ep})),
            bad_field("room")
        );
        assert_eq!(
            from_client(json!({"type": "join", "room": room, "ep": wrong})),
            bad_field("ep")
        );
        assert_eq!(
            from_client(json!({"type": "send", "to": wrong, "blob": ""})),
            bad_field("to")
        );
    }
    assert_eq!(
        from_client(json!({"type": "join", "ep": ep})),
        bad_field("room")
    );
    assert_eq!(
        from_client(json!({"type": "join", "room": room})),
        bad_field("ep")
    );
    assert_eq!(
        from_client(json!({"type": "send", "blob": ""})),
        bad_field("to")
    );
    for wrong in [
        json!(null),
        json!(1),
        json!("A"),
        json!("AA=="),
        json!("AB"),
        json!("+/8A"),
    ] {
        assert_eq!(
            from_client(json!({"type": "send", "to": ep, "blob": wrong})),
            bad_field("blob")
        );
    }
}

/// R-44.
#[test]
fn sizes_end_exactly_at_the_limits() {
    let ep = ep_field();
    let send =
        |bytes| json!({"type": "send", "to": ep, "blob": base64url::encode(&vec![0; bytes])});
    assert_eq!(from_client(send(MAX_BLOB)), Ok(()));
    assert_eq!(
        from_client(send(MAX_BLOB + 1)),
        Err(EnvelopeError::TooLarge)
    );
    let padded = |bytes: usize| format!("{{\"type\":\"leave\"}}{}", " ".repeat(bytes - 16));
    assert_eq!(
        ClientEnvelope::decode(&padded(MAX_FRAME)),
        Ok(ClientEnvelope::Leave)
    );
    assert_eq!(
        ClientEnvelope::decode(&padded(MAX_FRAME + 1)),
        Err(EnvelopeError::TooLarge)
    );
    assert_eq!(
        ServerEnvelope::decode(&padded(MAX_FRAME + 1)),
        Err(EnvelopeError::TooLarge)
    );
}

#[test]
fn of_the_ice_servers_of_a_welcome_what_is_well_formed_is_kept() {
    let server = |url: &str| IceServer::turn(url, "n", "p");
    let long = "x".repeat(257);
    for (ice, kept) in [
        (json!(7), vec![]),
        (json!([null, 7, {}, {"urls": 7}, {"urls": [7, {}]}]), vec![]),
        (
            json!([{"urls": "turn:a", "username": "n", "credential": "p", "more": 1}]),
            vec![server("turn:a")],
        ),
        (
            json!([{"urls": ["turn:a", 7, "turn:b"], "username": "n", "credential": "p"}]),
            vec![server("turn:a"), server("turn:b")],
        ),
        (
            json!([{"urls": "stun:a"}, {"urls": "a b"}, {"urls": long}, {"urls": "b", "username": 7}]),
            vec![IceServer::stun("stun:a")],
        ),
        (
            json!(vec![json!({"urls": vec!["stun:a"; 5]}); 5]),
            vec![IceServer::stun("stun:a"); 8],
        ),
    ] {
        let text = json!({"type": "welcome", "peers": [], "ice": ice}).to_string();
        let decoded = ServerEnvelope::decode(&text);
        let expected = ServerEnvelope::Welcome {
            peers: vec![],
            ice: kept,
        };
        assert_eq!(decoded, Ok(expected), "{text}");
    }
}

/// R-39.
#[test]
fn a_welcome_keeps_what_is_well_formed_among_its_first_32_entries() {
    let ep = ep_field();
    let welcome = |peers: Value| json!({"type": "welcome", "peers": peers}).to_string();
    let decoded = |text: &str| match ServerEnvelope::decode(text) {
        Ok(ServerEnvelope::Welcome { peers, .. }) => peers.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(decoded(&welcome(json!([]))), 0);
    assert_eq!(
        decoded(&welcome(
            json!([ep, "AAAA", null, 7, [ep], {"a": ep}, format!("{ep}="), ep])
        )),
        2
    );
    assert_eq!(decoded(&welcome(json!(vec![&ep; 32]))), 32);
    assert_eq!(decoded(&welcome(json!(vec![&ep; 900]))), 32);
    for wrong in [
        json!(null),
        json!(ep),
        json!({"0": ep}),
        json!(3),
        json!(1.5),
        json!(-1),
        json!(true),
    ] {
        assert_eq!(ServerEnvelope::decode(&welcome(wrong)), bad_field("peers"));
    }
    assert_eq!(
        ServerEnvelope::decode(r#"{"type":"welcome"}"#),
        bad_field("peers")
    );
}

#[test]
fn texts_of_errors_are_short_and_printable() {
    let long = "x".repeat(1_000);
    let text =
        json!({"type": "error", "code": "a\u{1b}[31mb\n", "message": format!("\u{7f}{long}")})
            .to_string();
    let expected = ServerEnvelope::Error {
        code: "a[31mb".into(),
        message: long[..256].into(),
    };
    assert_eq!(ServerEnvelope::decode(&text), Ok(expected));
    let bare = ServerEnvelope::Error {
        code: "x".into(),
        message: "".into(),
    };
    assert_eq!(
        ServerEnvelope::decode(r#"{"type":"error","code":"x"}"#),
        Ok(bare)
    );
    assert_eq!(
        ServerEnvelope::decode(r#"{"type":"error"}"#),
        bad_field("code")
    );
}

fn client_envelopes() -> impl Strategy<Value = ClientEnvelope<'static>> {
    let blob =
        proptest::collection::vec(any::<u8>(), 0..100).prop_map(|bytes| Blob::new(&bytes).unwrap());
    prop_oneof![
        any::<([u8; 32], [u8; 16])>().prop_map(|(room, ep)| ClientEnvelope::Join {
            room: RoomId(room),
            ep: EndpointId(ep)
        }),
        (any::<[u8; 16]>(), blob).prop_map(|(to, blob)| ClientEnvelope::Send {
            to: EndpointId(to),
            blob
        }),
        Just(ClientEnvelope::Leave),
    ]
}

fn ice_server() -> impl Strategy<Value = IceServer> {
    let text = || "[!-~]{0,256}";
    (text(), text(), text()).prop_map(|(url, name, password)| IceServer::turn(url, name, password))
}

fn server_envelopes() -> impl Strategy<Value = ServerEnvelope<'static>> {
    let ep = || any::<[u8; 16]>().prop_map(EndpointId);
    let blob =
        proptest::collection::vec(any::<u8>(), 0..100).prop_map(|bytes| Blob::new(&bytes).unwrap());
    prop_oneof![
        (
            proptest::collection::vec(ep(), 0..=MAX_MEMBERS),
            proptest::collection::vec(ice_server(), 0..=MAX_ICE_SERVERS)
        )
            .prop_map(|(peers, ice)| ServerEnvelope::Welcome { peers, ice }),
        ep().prop_map(|ep| ServerEnvelope::Joined { ep }),
        ep().prop_map(|ep| ServerEnvelope::Left { ep }),
        (ep(), blob).prop_map(|(from, blob)| ServerEnvelope::Message { from, blob }),
        ("[a-z_]{1,20}", "[ -~]{0,50}").prop_map(|(code, message)| ServerEnvelope::Error {
            code: code.into(),
            message: message.into()
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(client in client_envelopes(), server in server_envelopes()) {
        let (client_text, server_text) = (client.encode(), server.encode());
        prop_assert_eq!(ClientEnvelope::decode(&client_text), Ok(client));
        prop_assert_eq!(ServerEnvelope::decode(&server_text), Ok(server));
    }

    #[test]
    fn a_send_is_read_the_same_with_and_without_a_parser(
        to: [u8; 16],
        blob in prop::collection::vec(any::<u8>(), 0..20),
        at: prop::sample::Index,
        byte in "[ -~]",
    ) {
        let blob = Blob::new(&blob).unwrap();
        let mut text = ClientEnvelope::Send { to: EndpointId(to), blob }.encode();
        prop_assert!(ClientEnvelope::send_as_written(&text).is_some());
        prop_assert_eq!(ClientEnvelope::decode(&text), ClientEnvelope::parse(&text));
        let at = at.index(text.len());
        text.replace_range(at..=at, &byte);
        prop_assert_eq!(ClientEnvelope::decode(&text), ClientEnvelope::parse(&text));
    }

    #[cfg(feature = "server")]
    #[test]
    fn what_the_server_writes_itself_is_what_a_serializer_writes(server in server_envelopes()) {
        let mut written = Vec::new();
        server.encode_to(&mut written);
        prop_assert_eq!(written, server.encode().into_bytes());
    }

    #[test]
    fn any_text_is_answered_without_a_panic(text in "\\PC{0,200}", json in "[\\[\\]{}\",:a-z0-9\\\\ ]{0,200}") {
        for text in [text, json] {
            let _ = ClientEnvelope::decode(&text);
            let _ = ServerEnvelope::decode(&text);
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_a_bad_frame(client in client_envelopes(), at: prop::sample::Index) {
        let text = client.encode();
        let cut = &text[..at.index(text.len())];
        prop_assert_eq!(ClientEnvelope::decode(cut), Err(EnvelopeError::BadFrame));
    }
}
