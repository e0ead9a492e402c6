//! No secret shows in a log or in a Debug form (C9): whole sessions at TRACE, and everything printed that can be.

use std::{
    collections::HashSet,
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex},
    time::Duration,
};

use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding};
use sealwire::{
    Config, Identity, Invite, MinTrust, PlainSignaling,
    crypto::{epoch, kdf, noise, secret::Secret},
    protocol::{ChannelOffer, Input, Meeting, PayloadKind, Setup, SigSender},
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use super::payloads::say;
use crate::{
    mallory::Key,
    thief::{live_on, record, secrets, secrets_of_a_life},
    victim::{SCENES, Seat, Victim},
    world::{Case, Honest, Letter, Packet, Relay, Seeded, Told, Wire, World, draws, invite, parse},
};

/// Writes down every field of every span and event, of every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").expect("a string takes it");
    }
}

impl Log {
    fn line(&self, metadata: Option<&Metadata<'_>>, record: impl FnOnce(&mut Line<'_>)) {
        let mut text = self.0.lock().expect("nobody panicked");
        if let Some(metadata) = metadata {
            write!(text, "{} {}", metadata.target(), metadata.name()).expect("a string takes it");
        }
        record(&mut Line(&mut text));
        text.push('\n');
    }

    fn text(&self) -> String {
        self.0.lock().expect("nobody panicked").clone()
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.line(Some(span.metadata()), |line| span.record(line));
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        self.line(None, |line| values.record(line));
    }
    fn event(&self, event: &Event<'_>) {
        self.line(Some(event.metadata()), |line| event.record(line));
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// What must not occur in a text: each secret in the forms that programs print bytes in, piece by piece.
#[derive(Default)]
struct Needles {
    /// The first bytes of the longer ones, which are many.
    starts: HashSet<[u8; START]>,
    short: Vec<String>,
}

/// Enough of a piece to tell it from others.
const START: usize = 12;

impl Needles {
    fn of<'a>(secrets: impl IntoIterator<Item = &'a [u8; 32]>) -> Self {
        let mut needles = Self::default();
        for secret in secrets {
            for piece in secret.as_chunks::<8>().0 {
                let hex: String = piece.iter().map(|byte| format!("{byte:02x}")).collect();
                let list =
                    |form: fn(&u8) -> String| piece.iter().map(form).collect::<Vec<_>>().join(", ");
                needles.add(hex.to_uppercase());
                needles.add(hex);
                needles.add(list(u8::to_string));
                needles.add(list(|byte| format!("{byte:#04x}")));
                needles.add(list(|byte| format!("{byte:02x}")));
                needles.add(piece.escape_ascii().to_string());
            }
            // At any place in a longer text of base64.
            for piece in secret.windows(9) {
                needles.add(Base64Unpadded::encode_string(piece));
                needles.add(Base64UrlUnpadded::encode_string(piece));
            }
        }
        needles
    }

    fn add(&mut self, needle: String) {
        match needle.as_bytes().first_chunk() {
            Some(start) => drop(self.starts.insert(*start)),
            None => self.short.push(needle),
        }
    }

    /// Descriptions, addresses, and what people wrote.
    fn and_texts(mut self) -> Self {
        let texts = [
            "127.0.0.1",
            "candidate:",
            "a=ice",
            "ice-pwd",
            "a=fingerprint",
            "m=application",
            "a word",
            "another word",
            "sealwire1:",
        ];
        self.short.extend(texts.map(String::from));
        self
    }

    /// Where a needle is. Lists that were printed one item to a line are looked at as if they stood in one.
    fn find(&self, text: &str) -> Option<String> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut windows = text.as_bytes().windows(START);
        let start = windows.position(|window| {
            let window: &[u8; START] = window.try_into().expect("of this length");
            self.starts.contains(window)
        });
        let mut short = self.short.iter();
        let at = start.or_else(|| short.find_map(|needle| text.find(needle.as_str())))?;
        let before = at.saturating_sub(200)..text.len().min(at + START);
        Some(text.as_bytes()[before].escape_ascii().to_string())
    }

    #[track_caller]
    fn check(&self, text: &str) {
        if let Some(found) = self.find(text) {
            panic!("a secret shows: {found}");
        }
    }
}

/// Runs `work` and returns what was logged.
fn logged(work: impl FnOnce()) -> String {
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), work);
    log.text()
}

fn draws_as_secrets(drawn: &[Vec<u8>]) -> Vec<[u8; 32]> {
    let all = drawn.iter().flat_map(|draw| draw.as_chunks::<32>().0);
    all.copied().collect()
}

#[test]
fn a_leak_would_be_found_in_every_form() {
    let secret: [u8; 32] = std::array::from_fn(|i| (i * 7 + 3) as u8);
    let needles = Needles::of([&secret]).and_texts();
    let leaks: [fn(&[u8; 32]); 9] = [
        |secret| tracing::trace!(?secret, "a list"),
        |secret| tracing::debug!("{:02x?}", secret),
        |secret| tracing::info!("{:#04x?}", &secret[8..24]),
        |secret| tracing::warn!(key = Base64Unpadded::encode_string(&secret[5..]), "base64"),
        |secret| tracing::error!(key = %Base64UrlUnpadded::encode_string(secret), "base64url"),
        |secret| drop(tracing::trace_span!("a span", key = ?bytes::Bytes::copy_from_slice(secret))),
        |secret| {
            tracing::trace!(
                "{}",
                kdf::sha256(&[secret]).len().to_string() + "sealwire1:"
            )
        },
        |_| tracing::trace!("to 127.0.0.1"),
        |secret| {
            let hex: String = secret.iter().map(|byte| format!("{byte:02X}")).collect();
            tracing::trace!(hex);
        },
    ];
    for (at, leak) in leaks.into_iter().enumerate() {
        let text = logged(|| leak(&secret));
        assert!(needles.find(&text).is_some(), "{at}: {text}");
    }
    let text = logged(|| tracing::trace!(public = ?kdf::sha256(&[&secret]), "no leak"));
    assert_eq!(needles.find(&text), None);
}

/// What can be printed of a node at this moment.
fn print(world: &World<'_>, text: &mut String) {
    for node in &world.nodes {
        write!(text, "{:?} {:#?}", node.machine, node.identity).expect("a string takes it");
        write!(text, "{:?}", node.events).expect("a string takes it");
    }
}

///
#[test]
fn c9_whole_sessions_show_no_secret_in_logs_or_debug_forms() {
    for case in Case::ALL {
        let (recording, drawn) = record(case);
        let secrets = secrets(case, &recording, &drawn);
        let mut printed = String::new();
        let mut rooms = Vec::new();
        let log = logged(|| {
            let mut world = World::of(case, 95, Honest);
            let up = world.run_until(|world| {
                print(world, &mut printed);
                world.both_established()
            });
            assert!(up);
            for text in ["a word", "another word"] {
                world.send(0, text);
                world.send(1, text);
                print(&world, &mut printed);
            }
            world.run(Duration::from_secs(1));
            world.close(0);
            world.run(Duration::from_secs(10));
            print(&world, &mut printed);
            if case != Case::Open {
                rooms.extend(world.nodes.iter().filter_map(|node| node.room));
            }
        });
        let rooms = rooms.iter().map(|room| &room.0);
        let needles = Needles::of(secrets.iter().chain(rooms)).and_texts();
        needles.check(&log);
        needles.check(&printed);
        assert!(printed.len() > 1_000);
    }
}

#[test]
fn rekeys_resumptions_short_codes_and_contacts_show_no_secret() {
    for case in Case::ALL {
        let secrets = secrets_of_a_life(case);
        let (mut printed, mut contacts) = (String::new(), Vec::new());
        let log = logged(|| {
            let mut world = World::of(case, 95, Honest);
            live_on(&mut world, case);
            print(&world, &mut printed);
            world.give(0, Input::Compare);
            world.run(Duration::from_secs(1));
            for node in 0..2 {
                world.give(node, Input::Pair);
                print(&world, &mut printed);
            }
            world.run(Duration::from_secs(1));
            print(&world, &mut printed);
            contacts = world
                .nodes
                .iter()
                .flat_map(|node| node.contacts.clone())
                .collect();
        });
        assert_eq!(contacts.len(), 2, "both keep the contact");
        let contacts = contacts.iter().map(|(_, secret)| secret);
        let needles = Needles::of(secrets.iter().chain(contacts)).and_texts();
        needles.check(&log);
        needles.check(&printed);
    }
}

/// What goes wrong, one thing at a time.
fn go_wrong(case: Case, what: usize) {
    let mut world = World::of(
        case,
        95,
        Relay(move |mut letter: Letter| {
            if let Told::Blob { blob, .. } = &mut letter.told
                && usize::from(blob[0]) == what
            {
                let at = blob.len() / 2;
                blob[at] ^= 1;
            }
            vec![letter]
        }),
    );
    world.run(Duration::from_secs(15));
    world.run_until(World::both_established);
    match what {
        5 => world.cut(0),
        6 => world.cut_signaling(0),
        7 => world.set_hostile(Wire(|mut packet: Packet| {
            packet.frame[9] ^= 1;
            vec![packet]
        })),
        8 => {
            let link = world.nodes[0].machine.link().expect("a session");
            let frame = bytes::BytesMut::from(&[0xff; 40][..]);
            world.give(
                0,
                Input::LinkFrame {
                    link,
                    channel: 9,
                    frame,
                },
            );
        }
        9 => {
            let from = sealwire::EndpointId([0x77; 16]);
            for blob in [vec![], vec![9; 40], vec![1; 2_000]] {
                world.give(0, Input::Blob { from, blob });
            }
        }
        _ => {}
    }
    world.send(0, "a word");
    world.send(1, "another word");
    world.run(Duration::from_secs(400));
}

///
#[test]
fn what_goes_wrong_is_logged_without_secrets() {
    let mut lines = 0;
    for case in Case::ALL {
        for what in 1..=9 {
            let mut drawn = Vec::new();
            let log = logged(|| ((), drawn) = draws(|| go_wrong(case, what)));
            Needles::of(&draws_as_secrets(&drawn))
                .and_texts()
                .check(&log);
            lines += log.lines().count();
        }
    }
    assert!(lines > 20, "failures are logged: {lines}");
}

#[test]
fn attacks_are_logged_without_secrets() {
    let mut lines = 0;
    for (seat, initiates) in SCENES {
        for attack in 0..4 {
            let mut drawn = Vec::new();
            let mut printed = String::new();
            let log = logged(|| {
                ((), drawn) = draws(|| {
                    let (mut victim, mut mallory) = Victim::against(seat, initiates, 96);
                    let mode = mallory.terms.mode;
                    let kind = match (attack, initiates) {
                        (3, _) => PayloadKind::Sig(SigSender::Other),
                        (_, true) => PayloadKind::Hs2(mode),
                        (_, false) => PayloadKind::Hs3(mode),
                    };
                    let mut payload = mallory.payload(kind);
                    match attack {
                        0 => mallory.ephemeral = Some(Key::Point([0; 32])),
                        1 => mallory.key = Key::of(&victim.identity),
                        2 => mallory.key = Key::of(&Identity::generate_from(&mut Seeded::new(1))),
                        _ => payload = vec![0xff; 256],
                    }
                    if attack == 0 && !initiates {
                        let (hs1, _) = mallory.hs1(victim.endpoint, &[0xff; 512]);
                        victim.blob(mallory.endpoint, &hs1);
                    } else {
                        say(&mut victim, &mut mallory, kind, &payload);
                    }
                    victim.wait(Duration::from_secs(60));
                    printed = format!("{:?} {:?}", victim.machine, victim.events);
                });
            });
            let needles = Needles::of(&draws_as_secrets(&drawn)).and_texts();
            needles.check(&log);
            needles.check(&printed);
            lines += log.lines().count();
        }
    }
    assert!(lines > 5, "attacks are logged: {lines}");
    assert!(SCENES.contains(&(Seat::Open, true)));
}

/// Every public type that holds a secret.
#[test]
fn debug_forms_show_no_secret() {
    let (forms, drawn) = draws(|| {
        let mut entropy = Seeded::new(97);
        let identity = Identity::generate_from(&mut entropy);
        let text = invite(&identity, 0, 98);
        let plain = PlainSignaling::LoopbackOnly;
        let url = "ws://127.0.0.1:8080";
        let fresh = Invite::expiring_at(&identity, url, 0, plain, &mut entropy).expect("valid");
        let secret = Secret::<32>::random(&mut entropy);
        let key = noise::StaticKey::generate(&mut entropy);
        let kem = noise::DecapsulationKey::generate(&mut entropy);
        let ek = noise::EncapsulationKey::new(&kem.encapsulation_key()).expect("honest");
        let handshake = noise::Setup {
            pattern: &noise::XXHFS_PSK0,
            prologue: secret.expose(),
            local_static: Some(&key),
            psks: &[&secret],
        };
        let setup_form = format!("{handshake:?} {handshake:#?}");
        let writer = noise::initiate(handshake);
        let pairing = kdf::pairing(kdf::PairingKind::Invite, &secret, b"");
        let mut epoch = epoch::derive(secret.duplicate(), [1; 32], epoch::Role::Initiator);
        let session = epoch::session_secrets(&secret, &[1; 32]);
        let (_, message_key) = epoch.send[1].next().expect("a fresh chain");
        let meetings = [Meeting::Invite(parse(&text)), Meeting::Redeem(parse(&text))];
        let mut forms = vec![
            format!("{identity:?} {identity:#?} {fresh:?} {fresh:#?}"),
            format!("{secret:?} {key:?} {kem:?} {ek:?} {pairing:?} {epoch:?} {session:?}"),
            format!("{writer:?} {writer:#?} {message_key:?} {:?}", epoch.send[1]),
            setup_form,
        ];
        for meeting in meetings {
            let setup = Setup {
                config: Config::default(),
                identity: identity.clone(),
                meeting,
                required: MinTrust::Invited,
                channels: vec![ChannelOffer::main()],
            };
            forms.push(format!("{setup:?} {setup:#?}"));
        }
        let secrets = [*pairing.psk.expose(), pairing.room.expect("a room")];
        let more = [
            *message_key.expose(),
            *epoch.resume.expose(),
            *session.contact.expose(),
        ];
        (forms, [secrets.to_vec(), more.to_vec()].concat())
    });
    let (forms, derived) = forms;
    let mut secrets = draws_as_secrets(&drawn);
    secrets.extend(derived);
    let needles = Needles::of(&secrets);
    for form in forms {
        needles.check(&form);
    }
}
