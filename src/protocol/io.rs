//! What goes into the machine and what comes out of it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::{
    crypto::secret::Secret,
    error::{CloseCode, Error},
    history::{
        chain::{Author, Head, Standing},
        record::Record,
    },
    identity::PeerId,
    message::Message,
    room::{EndpointId, RoomId},
    trust::PeerTrust,
    verify::ShortCode,
};

/// The time, as the shell tells it with every input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Since an arbitrary start; never goes back.
    pub monotonic: Duration,
    /// Unix time in milliseconds, by the device's clock.
    pub unix_ms: u64,
}

/// The machine's name for one peer connection. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What happened outside.
#[derive(Debug)]
pub enum Input {
    /// Begin: the first join follows.
    Start,
    /// Time passed; see [`Machine::next_timeout`](super::Machine::next_timeout).
    Tick,
    /// The server welcomed the last join.
    Welcome {
        /// The others in the room.
        peers: Vec<EndpointId>,
    },
    /// Somebody joined the room.
    PeerJoined(EndpointId),
    /// Somebody left the room, says the server.
    PeerLeft(EndpointId),
    /// A blob came through the server.
    Blob {
        /// From whom, says the server.
        from: EndpointId,
        /// The bytes.
        blob: Vec<u8>,
    },
    /// The connection to the server ended; the shell can join again.
    SignalingLost,
    /// A link has made its description and gathered candidates for as long as it may.
    LinkDescribed {
        /// The link.
        link: LinkId,
        /// Its description.
        sdp: String,
        /// What it gathered.
        candidates: Vec<String>,
    },
    /// A link found another candidate.
    LinkCandidate {
        /// The link.
        link: LinkId,
        /// The candidate.
        candidate: String,
    },
    /// All channels of a link are open.
    LinkOpen {
        /// The link.
        link: LinkId,
        /// SHA-256 of the certificate that the peer showed; `None` where the stack does not tell.
        fingerprint: Option<[u8; 32]>,
    },
    /// A binary message on a channel of a link.
    LinkFrame {
        /// The link.
        link: LinkId,
        /// The channel.
        channel: u8,
        /// The message; opened in place.
        frame: BytesMut,
    },
    /// Something on a link that no honest peer does.
    LinkForeign(LinkId),
    /// A link takes application frames: up to this many bytes now. Control frames never wait for it.
    LinkWritable {
        /// The link.
        link: LinkId,
        /// Bytes.
        bytes: usize,
    },
    /// A link ended.
    LinkClosed {
        /// The link.
        link: LinkId,
        /// Why, where it was not closed.
        reason: Option<Error>,
    },
    /// The host sends a message body. It leaves with the next [`Input::LinkWritable`].
    Send {
        /// The channel, 1 to 15.
        channel: u8,
        /// The body.
        body: Bytes,
    },
    /// The shell dropped what it had not given to the host; see [`Output::Discard`].
    Discarded,
    /// The host wants new keys now; see [`Machine::rekey_goal`](super::Machine::rekey_goal).
    Rekey,
    /// The host wants no traffic until [`Input::Resume`]: the session goes on without a transport.
    Suspend,
    /// The host wants traffic again.
    Resume,
    /// The host wants to compare a short code with the peer's.
    Compare,
    /// The host wants the peer as a contact, or agrees to be one.
    Pair,
    /// Somebody is in the room of [`Output::Watch`].
    Watched(EndpointId),
    /// The membership of [`Output::Watch`] ended; the shell can join again.
    WatchLost,
    /// What became of what the machine asked the history for; see [`Output::History`].
    History(HistoryInput),
    /// The host took messages that were delivered.
    Taken {
        /// The channel.
        channel: u8,
        /// How many.
        messages: u64,
    },
    /// The host learned more of the peer, or less: messages flow from the required trust on.
    Trust(PeerTrust),
    /// The host ends the session.
    Close {
        /// Why.
        code: CloseCode,
        /// In words: at most 128 bytes, cut there.
        reason: String,
    },
}

/// What is to be done outside.
#[derive(Debug)]
pub enum Output {
    /// Join a room under a fresh endpoint id; any earlier membership is left.
    Join {
        /// The room.
        room: RoomId,
        /// The endpoint id.
        endpoint: EndpointId,
    },
    /// Leave the room.
    Leave,
    /// Also be in another room, under another endpoint id, whatever [`Output::Join`] and [`Output::Leave`] say.
    Watch {
        /// The room.
        room: RoomId,
        /// The endpoint id.
        endpoint: EndpointId,
    },
    /// Leave the room of [`Output::Watch`].
    Unwatch,
    /// Send a blob to a member of the room of [`Output::Watch`].
    WatchBlob {
        /// To whom.
        to: EndpointId,
        /// The bytes.
        blob: Vec<u8>,
    },
    /// Send a blob through the server.
    SendBlob {
        /// To whom.
        to: EndpointId,
        /// The bytes.
        blob: Vec<u8>,
    },
    /// Start a link.
    OpenLink {
        /// Its name.
        link: LinkId,
        /// The offer to answer; `None`: make one.
        offer: Option<String>,
        /// The data channels, and whether each may lose frames.
        channels: Vec<(u8, Delivery)>,
    },
    /// Give a link the peer's answer.
    LinkAnswer {
        /// The link.
        link: LinkId,
        /// The description.
        sdp: String,
    },
    /// Give a link a candidate of the peer.
    LinkCandidate {
        /// The link.
        link: LinkId,
        /// The candidate.
        candidate: String,
    },
    /// Send a frame. Never wait: application frames come only within [`Input::LinkWritable`].
    LinkFrame {
        /// The link.
        link: LinkId,
        /// The channel.
        channel: u8,
        /// The bytes.
        frame: Vec<u8>,
    },
    /// End a link: `Graceful` sends first what is queued.
    CloseLink {
        /// The link.
        link: LinkId,
        /// How.
        how: CloseHow,
    },
    /// A message for the host, each once and in order.
    Deliver {
        /// The channel.
        channel: u8,
        /// Its number on the channel, from 0.
        number: u64,
        /// The body.
        body: Bytes,
    },
    /// A message of a lossy channel for the host.
    Datagram {
        /// The channel.
        channel: u8,
        /// The body.
        body: Bytes,
    },
    /// The transport went. Drop the messages that the host has not taken, then report those that it took before by
    /// [`Input::Taken`], then answer [`Input::Discarded`]: the dropped ones come again.
    Discard,
    /// Both hosts want to be contacts: what to meet by from now on.
    Contact {
        /// The peer.
        peer: PeerId,
        /// The contact secret.
        secret: Secret,
    },
    /// The keys of this epoch are confirmed: the peer sends under them.
    Rekeyed {
        /// The epoch.
        epoch: u16,
    },
    /// The peer took all messages below `next`.
    Acknowledged {
        /// The channel.
        channel: u8,
        /// The number.
        next: u64,
    },
    /// Something for the history, in order.
    History(HistoryOutput),
    /// Something for the host to know.
    Event(Event),
}

/// What the history has to do, in the order in which it is asked. `ledger` says for which session, and is repeated in the
/// answer.
#[derive(Debug)]
pub enum HistoryOutput {
    /// Look the history with this peer through; answered by [`HistoryInput::Loaded`].
    Load {
        /// The session.
        ledger: LinkId,
        /// The peer.
        peer: PeerId,
    },
    /// The session begins; answered by [`HistoryInput::Begun`].
    Begin {
        /// The session.
        ledger: LinkId,
        /// The peer confirmed this many messages of this side's chain. What is beyond them it never had: the chain is
        /// cut back to here, and what was cut waits to be sent again. `None`: the chain stays as it is.
        agreed: Option<u64>,
    },
    /// Store this; answered by [`HistoryInput::Recorded`] when it is durable.
    Record {
        /// The session.
        ledger: LinkId,
        /// What.
        record: Record,
    },
    /// The peer confirmed this many messages of this side's chain. It need not be durable soon.
    Confirmed {
        /// The session.
        ledger: LinkId,
        /// Messages.
        n: u64,
    },
    /// The two sides differed and the host goes on: this side's chain continues from here.
    Rebase {
        /// The session.
        ledger: LinkId,
        /// From where.
        head: Head,
    },
}

/// What the history has done, and what the host decides about it.
#[derive(Debug)]
pub enum HistoryInput {
    /// Where both chains stand.
    Loaded {
        /// The session.
        ledger: LinkId,
        /// Where.
        standing: Box<Standing>,
    },
    /// The session can begin.
    Begun {
        /// The session.
        ledger: LinkId,
    },
    /// This many records more are durable, in the order in which they were given.
    Recorded {
        /// The session.
        ledger: LinkId,
        /// How many.
        records: u64,
    },
    /// The host goes on although the two histories differ.
    Accept,
}

/// Whether a history is kept, and whether the peer has to keep one as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HistoryUse {
    /// None is kept.
    #[default]
    Off,
    /// It is kept; where the peer keeps one too, the two are compared.
    Kept,
    /// It is kept, and a peer that keeps none is not talked to.
    Required,
}

/// What a channel promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Every message arrives, once and in order, as long as the session lives.
    Reliable,
    /// Messages may be lost and overtake each other; none waits for another, and each fits one frame.
    Lossy,
}

/// How a link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseHow {
    /// At once; what is queued is lost.
    Abrupt,
    /// After what is queued was sent.
    Graceful,
}

/// What a host sees. The machine makes all of these but [`Event::Message`], which the session decodes when the host
/// takes it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A message: each once, in the order it was sent.
    Message(Message),
    /// A message whose content this version cannot read; the session goes on.
    Unreadable {
        /// Why.
        error: Error,
    },
    /// The peer proved its keys over the data channel, both ways: messages can flow.
    Established {
        /// Who it is.
        peer: PeerId,
        /// How well it is known.
        trust: PeerTrust,
    },
    /// The transport was lost. Nothing else is: messages wait, and the session looks for another.
    Disconnected {
        /// What became of it.
        error: Error,
    },
    /// A new transport is being looked for.
    Reconnecting,
    /// The session goes on over a new transport; messages that were not acknowledged are sent again.
    Resumed,
    /// The peer was restarted and does not know the session any more. A new one is established in its place; messages
    /// of the old one that the peer had not taken are reported here and not sent again, unless both sides keep a history
    /// ([`Event::Undelivered`]). What was delivered before this and not taken stays with the host: it is reported by no
    /// [`Input::Taken`], and no [`Output::Discard`] concerns it.
    SessionReset {
        /// How many.
        unacked: u64,
    },
    /// The histories of the two sides are not the same: messages were changed, removed or lost on one of them. No message
    /// travels until the host decides: to go on all the same, or to close.
    HistoryDiverged {
        /// Whose messages differ.
        author: Author,
        /// How many of them this side holds.
        here: u64,
        /// How many the peer says that it holds.
        there: u64,
    },
    /// So many messages of earlier sessions had not reached the peer. They wait in the history, and are sent in this
    /// session.
    Undelivered {
        /// How many.
        messages: u64,
    },
    /// The code to compare with the one that the peer's device shows. If they are the same, nobody is in between.
    ShortCode {
        /// The code.
        code: ShortCode,
    },
    /// No code came of it: the peer or somebody in between broke the rules of it, or took too long. The next run may
    /// begin after 10 s.
    ShortCodeFailed,
    /// The peer's host wants this side as a contact.
    ContactRequested,
    /// Both hosts want to be contacts: what to keep is there.
    ContactMade,
    /// An attempt to connect failed and another is made.
    Retrying {
        /// What failed.
        error: Error,
    },
    /// Two different keys tried to redeem one invite: both hold its secret, so it leaked.
    InviteContested {
        /// Who claimed it first and keeps it.
        first: PeerId,
        /// Who came second and was refused.
        second: PeerId,
    },
    /// Somebody appeared in the room of an invite that is used: a hint that its text went further than meant.
    InviteAlreadyUsed,
    /// More handshakes arrive than an honest room has.
    Flood,
    /// The stack does not show the peer's certificate: its own check is relied on.
    NoFingerprintCheck,
    /// The server that introduces peers is unreachable; a running session does not need it.
    SignalingLost,
    /// The session ended in good order.
    Closed {
        /// Why.
        code: CloseCode,
        /// In the words of the side that closed.
        reason: String,
        /// Messages sent that the peer did not acknowledge.
        unacked: u64,
    },
    /// The session ended otherwise.
    Failed {
        /// Why.
        error: Error,
    },
}

/// Why the machine wants to be called again at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The server has not welcomed the join.
    Welcome,
    /// It is time to join again.
    Rejoin,
    /// A handshake takes too long.
    Handshake,
    /// The peer has not shown up.
    PeerAbsent,
    /// READY has not come.
    Ready,
    /// An invite expires.
    InviteExpiry,
    /// An acknowledgement is due.
    Ack,
    /// A PING or PONG is due.
    Ping,
    /// The peer was silent for too long.
    Lost,
    /// New keys are due, or old ones go.
    Rekey,
    /// The comparison of a short code takes too long.
    ShortCode,
    /// A session without a transport is given up.
    Resume,
    /// Closing takes too long.
    Close,
}
