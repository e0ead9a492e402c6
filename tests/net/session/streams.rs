//! Streams of bytes, and peers that lie about them.

use sealwire::{
    Error,
    session::{Bodies, ChannelKind, IncomingOffer, Session, StreamError, StreamReader},
    stream::{Kind, MAX_STREAMS, Message, Offer, Reason},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::{
    Running, assert_works, connect, eventually, give_up_after, invited, soon, texts_until_closed,
};

async fn stream_pair(server: &Running) -> (Session, Session) {
    let (inviter, redeemer) = invited(server);
    connect(inviter.streams(), redeemer.streams()).await
}

/// Takes the next offer, a stream of this name.
async fn accepted(session: &Session, name: &str) -> StreamReader {
    match soon(session.next_offer()).await {
        Some(IncomingOffer::Stream(offer)) => {
            assert_eq!(offer.name(), name);
            offer.accept().unwrap()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reader_that_stops_reading_one_stream_stops_no_other() {
    let server = Running::start().await;
    let (one, other) = stream_pair(&server).await;
    let (slow, slow_reader) = tokio::join!(soon(one.open_stream("slow")), accepted(&other, "slow"));
    let (mut slow, mut slow_reader) = (slow.unwrap(), slow_reader);
    let (fast, fast_reader) = tokio::join!(soon(one.open_stream("fast")), accepted(&other, "fast"));
    let (mut fast, mut fast_reader) = (fast.unwrap(), fast_reader);

    let block = vec![7; 3 << 20];
    let mut stuck = Box::pin(slow.write(&block));
    assert!(give_up_after(500, stuck.as_mut()).await.is_none());
    let writing = async {
        for n in 0..8 {
            fast.write(&vec![n; 1 << 20]).await.unwrap();
        }
        fast.finish().await.unwrap();
    };
    let reading = async {
        let mut all = Vec::new();
        while let Some(chunk) = fast_reader.read_chunk().await.unwrap() {
            all.extend_from_slice(&chunk);
        }
        all
    };
    let ((), all) = soon(async { tokio::join!(writing, reading) }).await;
    assert_eq!(all.len(), 8 << 20);
    assert!(
        all.chunks(1 << 20)
            .zip(0..)
            .all(|(chunk, n)| chunk.iter().all(|byte| *byte == n))
    );
    assert!(give_up_after(20, stuck.as_mut()).await.is_none());

    let reading = async {
        let mut read = 0;
        while read < block.len() {
            read += slow_reader.read_chunk().await.unwrap().unwrap().len();
        }
    };
    let (written, ()) = soon(async { tokio::join!(stuck, reading) }).await;
    written.unwrap();
    soon(async { tokio::join!(slow.finish(), slow_reader.read_chunk()) })
        .await
        .0
        .unwrap();
    assert_works(&one, &other).await;
}

#[tokio::test]
async fn a_stream_is_a_reader_and_a_writer_of_tokio() {
    let server = Running::start().await;
    let (one, other) = stream_pair(&server).await;
    let (writer, mut reader) = tokio::join!(soon(one.open_stream("log")), accepted(&other, "log"));
    let mut writer = writer.unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let writing = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut read = Vec::new();
    let reading = async { reader.read_to_end(&mut read).await.unwrap() };
    soon(async { tokio::join!(writing, reading) }).await;
    assert!(read == sent);
}

#[tokio::test]
async fn ends_that_are_dropped_are_errors_and_no_ends() {
    let server = Running::start().await;
    let (one, other) = stream_pair(&server).await;
    let open = async |name| {
        let (writer, reader) = tokio::join!(soon(one.open_stream(name)), accepted(&other, name));
        (writer.unwrap(), reader)
    };
    let (mut writer, mut reader) = open("dropped writer").await;
    soon(writer.write(b"some")).await.unwrap();
    drop(writer);
    let mut read = Vec::new();
    let error = loop {
        match soon(reader.read_chunk()).await {
            Ok(chunk) => read.extend_from_slice(&chunk.expect("it did not end")),
            Err(error) => break error,
        }
    };
    assert_eq!(
        (read.as_slice(), error),
        (&b"some"[..], StreamError::Ended(Reason::Cancelled))
    );

    let (mut writer, reader) = open("dropped reader").await;
    drop(reader);
    let error = soon(async {
        loop {
            if let Err(error) = writer.write(&[0; 1_000]).await {
                return error;
            }
        }
    })
    .await;
    assert_eq!(error, StreamError::Ended(Reason::Cancelled));

    let (writer, mut reader) = open("ended session").await;
    let (closed, texts) = tokio::join!(soon(one.close()), texts_until_closed(&other));
    closed.unwrap();
    assert!(texts.is_empty());
    let error = soon(reader.read_chunk()).await.unwrap_err();
    assert!(
        matches!(error, StreamError::Session(Error::Closed { .. })),
        "{error:?}"
    );
    assert!(soon(writer.finish()).await.is_err());
    assert!(soon(other.next_offer()).await.is_none());
}

/// An honest side, and one that speaks on the channel of streams by itself.
async fn with_liar(server: &Running) -> (Session, Session) {
    let (inviter, redeemer) = invited(server);
    let mut liar = redeemer.bodies(Bodies::Raw);
    for n in 0..13 {
        liar = liar.channel(format!("unused {n}"), ChannelKind::Lossy);
    }
    let liar = liar.channel("sealwire.streams", ChannelKind::Reliable);
    connect(inviter.bodies(Bodies::Raw).streams(), liar).await
}

async fn say(liar: &Session, message: Message) {
    let (sender, _) = liar.channel("sealwire.streams").unwrap();
    soon(sender.send(message.encode())).await.unwrap();
}

async fn hear(liar: &Session) -> Message {
    let (_, mut receiver) = liar.channel("sealwire.streams").unwrap();
    let heard = soon(receiver.recv()).await.unwrap().unwrap();
    let sealwire::Content::Bytes(bytes) = heard.content else {
        panic!("raw bodies are bytes")
    };
    Message::decode(&bytes).unwrap()
}

fn file(name: &str, size: u64) -> Offer {
    Offer {
        kind: Kind::File,
        name: name.into(),
        size: Some(size),
        content: [1; 32],
    }
}

#[tokio::test]
async fn a_wrong_hash_leaves_nothing_behind_and_ends_one_stream() {
    let server = Running::start().await;
    let (one, liar) = with_liar(&server).await;
    let target = tempfile::tempdir().unwrap();
    for stream in 0..2 {
        say(
            &liar,
            Message::Offer {
                stream,
                offer: file("../../x\u{202e}", 4),
            },
        )
        .await;
        let Some(IncomingOffer::File(offer)) = soon(one.next_offer()).await else {
            panic!("a file was offered")
        };
        assert_eq!(offer.name(), "_.._x_");
        let receiving = soon(offer.accept(target.path().join(offer.name())))
            .await
            .unwrap();
        assert!(matches!(
            hear(&liar).await,
            Message::Accept { offset: 0, .. }
        ));
        say(&liar, Message::Begin { stream, offset: 0 }).await;
        let bytes = bytes::Bytes::from_static(b"lies");
        say(&liar, Message::Data { stream, bytes }).await;
        say(
            &liar,
            Message::End {
                stream,
                hash: [9; 32],
            },
        )
        .await;
        let refused = soon(receiving.finished()).await.unwrap_err();
        assert_eq!(refused, StreamError::HashMismatch);
        let reason = Reason::Hash;
        assert_eq!(hear(&liar).await, Message::Stop { stream, reason });
        assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_peer_that_breaks_a_rule_loses_all_streams_and_keeps_the_session() {
    let server = Running::start().await;
    for lie in 0..3 {
        let (one, liar) = with_liar(&server).await;
        let writing = one.open_stream("ours");
        let lying = async {
            assert!(matches!(
                hear(&liar).await,
                Message::Offer { stream: 0, .. }
            ));
            match lie {
                0 => say(&liar, Message::Done { stream: 0 }).await,
                1 => {
                    say(
                        &liar,
                        Message::Offer {
                            stream: 5,
                            offer: file("x", 1),
                        },
                    )
                    .await
                }
                _ => {
                    for stream in 0..=MAX_STREAMS as u32 {
                        say(
                            &liar,
                            Message::Offer {
                                stream,
                                offer: file("x", 1),
                            },
                        )
                        .await;
                    }
                }
            }
            assert_eq!(hear(&liar).await, Message::Fault);
        };
        let (refused, ()) = soon(async { tokio::join!(writing, lying) }).await;
        assert!(
            matches!(refused, Err(StreamError::Violation(_))),
            "{refused:?}"
        );
        let refused = soon(one.open_stream("more")).await.unwrap_err();
        assert!(matches!(refused, StreamError::Violation(_)));
        while soon(one.next_offer()).await.is_some() {}
        // What it still says is taken off the channel, and nothing comes of it.
        for _ in 0..100 {
            say(&liar, Message::Done { stream: 7 }).await;
        }
        soon(liar.send(b"still here".as_slice())).await.unwrap();
        let message = super::support::message(&one).await;
        assert_eq!(message.content.as_bytes(), Some(&b"still here"[..]));
        eventually(|| one.state() == sealwire::session::State::Connected).await;
    }
}
