//! A thief with a recording of a session: what it reads with which secrets, and, with all of them, every key there
//! was.

use std::{collections::VecDeque, time::Duration};

use ml_kem::{Decapsulate as _, ml_kem_768};
use sealwire::{
    Entropy, Identity,
    crypto::{
        epoch::{self, Role},
        kdf::{self, Label, NONCE_CHANNEL, NONCE_MESSAGE},
        noise::{self, XXHFS, XXHFS_PSK0},
        secret::Secret,
    },
    protocol::{Blob, Event, Input, Mode, open_frame},
};

use super::mallory::{DATA, Key, READY, Symmetric, Terms, hkdf};
use super::world::{Case, Honest, Seeded, World, draws, invite};

/// A session as the server and the network saw it.
pub struct Recording {
    pub mode: Mode,
    pub prologue: Vec<u8>,
    /// The messages of the handshake.
    pub noise: [Vec<u8>; 3],
    /// Frames that the initiator sent, and those that the responder sent, each with its channel.
    pub frames: [Vec<(u8, Vec<u8>)>; 2],
}

/// What a thief came by.
#[derive(Clone, Default)]
pub struct Loot {
    pub psk: Option<[u8; 32]>,
    /// Secret static keys: the initiator's, the responder's.
    pub statics: Vec<[u8; 32]>,
    /// Other secrets of 32 bytes, ephemeral keys among them.
    pub ephemerals: Vec<[u8; 32]>,
    /// Seeds of ML-KEM keys.
    pub seeds: Vec<[u8; 64]>,
}

/// How far a recording could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Read {
    Nothing,
    /// The first payload.
    Hello,
    /// As far as the ML-KEM ciphertext.
    Ciphertext,
    /// All of the second message.
    Answer,
    /// The third message too, and this many frames.
    Frames(usize),
}

/// A session of a pair that says a few words, and all that was drawn for it.
pub fn record(case: Case) -> (Recording, Vec<Vec<u8>>) {
    let (world, drawn) = draws(|| {
        let mut world = World::of(case, 95, Honest);
        world.establish();
        for text in ["a word", "another word"] {
            world.send(0, text);
            world.send(1, text);
        }
        world.run(std::time::Duration::from_secs(1));
        assert_eq!(world.bodies(1), ["a word", "another word"]);
        world
    });
    let of_kind = |kind: u8| {
        let mut blobs = world.seen_by_server.iter();
        let (from, to, blob) = blobs
            .find(|(.., blob)| blob[0] == kind)
            .expect("a handshake");
        (*from, *to, blob.clone())
    };
    let (initiator, responder, hs1) = of_kind(1);
    let (.., hs2) = of_kind(2);
    let (.., hs3) = of_kind(3);
    let (Ok(Blob::Hs1 { mode, noise, .. }), Ok(Blob::Hs2(second)), Ok(Blob::Hs3(third))) =
        (Blob::decode(&hs1), Blob::decode(&hs2), Blob::decode(&hs3))
    else {
        panic!("an honest handshake");
    };
    let frames = [case.responder(), case.initiator()].map(|receiver| {
        let all = world.seen_on_wire.iter().filter(|(to, ..)| *to == receiver);
        all.map(|(_, channel, frame)| (*channel, frame.clone()))
            .collect()
    });
    let recording = Recording {
        mode,
        prologue: terms(case).prologue(initiator, responder),
        noise: [noise, second, third].map(<[u8]>::to_vec),
        frames,
    };
    (recording, drawn)
}

fn terms(case: Case) -> Terms {
    match case {
        Case::Open => Terms::open("lobby"),
        _ => Terms::invite(&invite(&identities()[0], 0, 3)),
    }
}

fn identities() -> [Identity; 2] {
    [1, 2].map(|seed| Identity::generate_from(&mut Seeded::new(seed)))
}

impl Loot {
    /// All that lasts: both static keys, and the room's secret.
    pub fn long_term(case: Case) -> Self {
        let of = |node: usize| *identities()[node].secret_bytes();
        Self {
            psk: terms(case).psk,
            statics: vec![of(case.initiator()), of(case.responder())],
            ..Self::default()
        }
    }

    /// And the secrets of X25519 that were erased.
    pub fn with_ephemerals(mut self, drawn: &[Vec<u8>]) -> Self {
        let keys = drawn
            .iter()
            .filter_map(|draw| draw.as_slice().try_into().ok());
        self.ephemerals = keys.collect();
        self
    }

    /// And those of ML-KEM.
    pub fn with_seeds(mut self, drawn: &[Vec<u8>]) -> Self {
        let seeds = drawn
            .iter()
            .filter_map(|draw| draw.as_slice().try_into().ok());
        self.seeds = seeds.collect();
        self
    }

    /// Every Diffie-Hellman of a known secret with a public key that was seen or can be made, and zero.
    fn results(&self, seen: &[[u8; 32]]) -> Vec<[u8; 32]> {
        let secrets = || self.statics.iter().chain(&self.ephemerals);
        let mut publics = seen.to_vec();
        publics.extend(self.statics.iter().map(|key| Key::Pair(*key).public()));
        let results =
            secrets().flat_map(|secret| publics.iter().map(|public| Key::Pair(*secret).dh(public)));
        std::iter::once([0; 32]).chain(results).collect()
    }

    /// Reads as far as any guess leads.
    pub fn read(&self, recording: &Recording) -> Read {
        self.try_all(recording).0
    }

    /// The state of a handshake that could be read to its end.
    pub fn finish(&self, recording: &Recording) -> Option<Symmetric> {
        self.try_all(recording).1
    }

    fn try_all(&self, recording: &Recording) -> (Read, Option<Symmetric>) {
        let [first, second, _] = &recording.noise;
        let paired = recording.mode == Mode::Paired;
        let pattern = if paired { &XXHFS_PSK0 } else { &XXHFS };
        let mut symmetric = Symmetric::new(pattern.name());
        symmetric.mix_hash(&recording.prologue);
        if paired {
            symmetric.mix_key_and_hash(&self.psk.unwrap_or_default());
        }
        let e_i = mix_ephemeral(&mut symmetric, first, paired);
        let tag = if paired { 16 } else { 0 };
        let (e1, payload) = first[32..].split_at(1_184 + tag);
        if symmetric.decrypt(e1).is_none() || symmetric.decrypt(payload).is_none() {
            return (Read::Nothing, None);
        }
        let e_r = mix_ephemeral(&mut symmetric, second, paired);
        let guesses = self.results(&[e_i, e_r]);
        let read = guesses.iter().map(|ee| {
            let mut symmetric = symmetric.clone();
            symmetric.mix_key(ee);
            self.read_answer(recording, symmetric, [e_i, e_r], &guesses)
        });
        let furthest = read.max_by_key(|(read, _)| *read);
        furthest.unwrap_or((Read::Hello, None))
    }

    fn read_answer(
        &self,
        recording: &Recording,
        mut symmetric: Symmetric,
        ephemerals: [[u8; 32]; 2],
        guesses: &[[u8; 32]],
    ) -> (Read, Option<Symmetric>) {
        let (ekem1, rest) = recording.noise[1][32..].split_at(1_088 + 16);
        let (s, payload) = rest.split_at(48);
        let Some(ciphertext) = symmetric.decrypt(ekem1) else {
            return (Read::Hello, None);
        };
        let ciphertext = ciphertext.as_slice().try_into().expect("1 088 bytes");
        let shared = self.seeds.iter().map(|seed| {
            let key = ml_kem_768::DecapsulationKey::from_seed((*seed).into());
            key.decapsulate(ciphertext).into()
        });
        for shared in shared.chain(guesses.iter().copied()) {
            let mut symmetric = symmetric.clone();
            symmetric.mix_key(&shared);
            if symmetric.decrypt(s).is_none() {
                continue;
            }
            symmetric.mix_key(&Key::Pair(self.statics[1]).dh(&ephemerals[0]));
            if symmetric.decrypt(payload).is_some() {
                return self.read_rest(recording, symmetric, ephemerals[1]);
            }
        }
        (Read::Ciphertext, None)
    }

    fn read_rest(
        &self,
        recording: &Recording,
        mut symmetric: Symmetric,
        e_r: [u8; 32],
    ) -> (Read, Option<Symmetric>) {
        let (s, payload) = recording.noise[2].split_at(48);
        if symmetric.decrypt(s).is_none() {
            return (Read::Answer, None);
        }
        symmetric.mix_key(&Key::Pair(self.statics[0]).dh(&e_r));
        if symmetric.decrypt(payload).is_none() {
            return (Read::Answer, None);
        }
        let frames = read_frames(recording, &symmetric);
        (Read::Frames(frames), Some(symmetric))
    }
}

fn mix_ephemeral(symmetric: &mut Symmetric, message: &[u8], paired: bool) -> [u8; 32] {
    let public: [u8; 32] = message[..32].try_into().expect("32 bytes");
    symmetric.mix_hash(&public);
    if paired {
        symmetric.mix_key(&public);
    }
    public
}

/// How many frames a finished handshake opens.
fn read_frames(recording: &Recording, symmetric: &Symmetric) -> usize {
    let [_, _, exporter] = hkdf(&symmetric.ck, b"");
    let mut kinds = Vec::new();
    for (role, frames) in [Role::Responder, Role::Initiator]
        .into_iter()
        .zip(&recording.frames)
    {
        let mut epoch = epoch::derive(Secret::new(exporter), symmetric.h, role);
        for (channel, frame) in frames {
            let chain = &mut epoch.recv[usize::from(*channel)];
            let mut frame = bytes::BytesMut::from(frame.as_slice());
            if let Ok((kind, _)) = open_frame(chain.key().expect("a fresh chain"), &mut frame) {
                chain.commit();
                kinds.push(kind);
            }
        }
    }
    assert!(kinds.is_empty() || kinds.contains(&READY) && kinds.contains(&DATA));
    kinds.len()
}

/// Every secret of a session, out of its recording and all that was drawn: what was drawn, every state of the
/// handshake, what is derived from it, and the first keys of every chain. Nothing of it ever leaves a machine.
pub fn secrets(case: Case, recording: &Recording, drawn: &[Vec<u8>]) -> Vec<[u8; 32]> {
    let loot = Loot::long_term(case)
        .with_ephemerals(drawn)
        .with_seeds(drawn);
    let symmetric = loot.finish(recording).expect("all secrets are there");
    let public = [&recording.noise[0][..32], &recording.noise[1][..32]];
    let mut secrets = symmetric.trail.clone();
    secrets.retain(|secret| !public.contains(&secret.as_slice()));
    secrets.extend(drawn.iter().flat_map(|draw| draw.as_chunks::<32>().0));
    secrets.extend(loot.psk);
    let [k1, k2, exporter] = hkdf(&symmetric.ck, b"");
    secrets.extend([k1, k2, exporter]);
    secrets.extend(epoch_secrets(exporter, symmetric.h));
    secrets
}

/// The keys of an epoch and the first keys of all its chains, out of its exporter secret and handshake hash.
fn epoch_secrets(exporter: [u8; 32], hash: [u8; 32]) -> Vec<[u8; 32]> {
    let mut secrets = vec![exporter];
    let exporter = Secret::new(exporter);
    for label in [Label::RekeyPsk, Label::Resume, Label::Contact, Label::Sas] {
        secrets.push(*kdf::expand::<32>(&exporter, label, &hash).expose());
    }
    for label in [
        Label::EpochInitiatorToResponder,
        Label::EpochResponderToInitiator,
    ] {
        let root = kdf::expand(&exporter, label, &hash);
        secrets.push(*root.expose());
        let mut chains = [0; 512];
        kdf::fke(&root, NONCE_CHANNEL, &mut chains);
        for chain in chains.as_chunks::<32>().0 {
            let mut block = [0; 512];
            kdf::fke(&Secret::new(*chain), NONCE_MESSAGE, &mut block);
            secrets.push(*chain);
            secrets.extend(block.as_chunks::<32>().0);
        }
    }
    secrets
}

/// What opens the frames of a recording and what came before them: all of it, but for what the next frames, the next
/// keys, the next transport and the next meeting need.
pub fn past(case: Case, recording: &Recording, drawn: &[Vec<u8>]) -> Vec<[u8; 32]> {
    let loot = Loot::long_term(case)
        .with_ephemerals(drawn)
        .with_seeds(drawn);
    let symmetric = loot.finish(recording).expect("all secrets are there");
    let [_, _, exporter] = hkdf(&symmetric.ck, b"");
    let exporter = Secret::new(exporter);
    let hash = &symmetric.h;
    let mut kept: Vec<[u8; 32]> = loot.psk.into_iter().chain(loot.statics).collect();
    for label in [Label::RekeyPsk, Label::Resume, Label::Contact, Label::Sas] {
        kept.push(*kdf::expand::<32>(&exporter, label, hash).expose());
    }
    let directions = [
        Label::EpochInitiatorToResponder,
        Label::EpochResponderToInitiator,
    ];
    for (label, frames) in directions.into_iter().zip(&recording.frames) {
        let mut chains = [0; 512];
        kdf::fke(
            &kdf::expand(&exporter, label, hash),
            NONCE_CHANNEL,
            &mut chains,
        );
        for (channel, chain) in chains.as_chunks::<32>().0.iter().enumerate() {
            let used = frames.iter().filter(|(on, _)| usize::from(*on) == channel);
            let used = used.count();
            if used > 0 {
                let mut block = [0; 512];
                kdf::fke(&Secret::new(*chain), NONCE_MESSAGE, &mut block);
                let [next_chain, keys @ ..] = block.as_chunks::<32>().0 else {
                    panic!("a block has keys");
                };
                kept.push(*next_chain);
                kept.extend(&keys[used..]);
            }
        }
    }
    let mut past = secrets(case, recording, drawn);
    past.retain(|secret| !kept.contains(secret));
    past
}

/// What is drawn, in order.
struct Script(VecDeque<u8>);

impl Entropy for Script {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill_with(|| self.0.pop_front().expect("enough was drawn"));
    }
}

/// Changes a session's keys, and then its transport: every step of a whole life.
pub fn live_on(world: &mut World<'_>, case: Case) {
    world.establish();
    change_keys(world, case);
    change_transport(world);
}

fn change_keys(world: &mut World<'_>, case: Case) {
    world.give(case.initiator(), Input::Rekey);
    world.run(Duration::from_secs(2));
    assert_eq!(world.nodes[0].epochs, [1]);
}

fn change_transport(world: &mut World<'_>) {
    for node in 0..2 {
        world.send(node, "a word");
    }
    world.cut(0);
    let resumed = |world: &World<'_>, node: usize| {
        let mut events = world.nodes[node].events.iter();
        events.any(|event| matches!(event, Event::Resumed))
    };
    assert!(world.run_until(|world| resumed(world, 0) && resumed(world, 1)));
    for node in 0..2 {
        world.send(node, "another word");
    }
    world.run(Duration::from_secs(1));
}

/// Every secret of such a life: of its first epochs, and all that was drawn later.
pub fn secrets_of_a_life(case: Case) -> Vec<[u8; 32]> {
    let (recording, drawn) = record(case);
    let mut all = secrets(case, &recording, &drawn);
    let mut world = World::of(case, 95, Honest);
    world.establish();
    let ((), rekey) = draws(|| change_keys(&mut world, case));
    let ((), later) = draws(|| change_transport(&mut world));
    // e and d || z, then e and m.
    let rekey: Vec<_> = rekey.into_iter().filter(|draw| draw.len() >= 32).collect();
    let [e, seed, f, m] = &rekey[..] else {
        panic!("a rekey draws four times: {rekey:?}");
    };
    let loot = Loot::long_term(case)
        .with_ephemerals(&drawn)
        .with_seeds(&drawn);
    let symmetric = loot.finish(&recording).expect("all secrets are there");
    let [_, _, exporter] = hkdf(&symmetric.ck, b"");
    let psk = kdf::expand(&Secret::new(exporter), Label::RekeyPsk, &symmetric.h);
    let prologue = kdf::rekey_prologue(1, &symmetric.h);
    let psk_ref = &psk;
    let setup = || noise::Setup {
        pattern: &noise::NNHFS_PSK0,
        prologue: &prologue,
        local_static: None,
        psks: std::slice::from_ref(&psk_ref),
    };
    let script = |parts: [&Vec<u8>; 2]| Script(parts.into_iter().flatten().copied().collect());
    let (rekey1, _) = noise::initiate(setup())
        .write(b"", &mut script([e, seed]))
        .expect("a first message");
    let Ok((_, noise::ReadDone::Writer(writer))) = noise::respond(setup()).read(&rekey1) else {
        panic!("an honest message");
    };
    let Ok((_, noise::Written::Done(done))) = writer.write(b"", &mut script([f, m])) else {
        panic!("an honest message");
    };
    all.extend([*done.k1.expose(), *done.k2.expose()]);
    all.extend(epoch_secrets(*done.exporter.expose(), done.hash));
    let drawn = rekey.iter().chain(&later);
    all.extend(drawn.flat_map(|draw| draw.as_chunks::<32>().0));
    all
}
