//! How a peer can break the protocol within a session. All of them are fatal; they differ only in what they tell the
//! reader of a log.

/// What exactly the peer did (protocol.md §1.6 to §1.10). Numbers are bytes where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolViolation {
    // --- Frames (§1.6, §1.7). ---
    /// A text message where only binary frames travel.
    #[error("a text message on channel {channel}")]
    TextFrame {
        /// The channel.
        channel: u8,
    },
    /// A frame that cannot hold a header, a kind and a tag.
    #[error("a frame of {len} bytes, which is too short")]
    FrameTooShort {
        /// Its length.
        len: usize,
    },
    /// A frame longer than this side accepts.
    #[error("a frame of {len} bytes, where at most {max} are accepted")]
    FrameTooLong {
        /// Its length.
        len: usize,
        /// This side's [`max_frame`](crate::Limits::max_frame).
        max: usize,
    },
    /// A frame that its key does not open: changed, repeated, reordered or forged.
    #[error("a frame that does not authenticate")]
    FrameRejected,
    /// A frame of a reliable channel out of its turn.
    #[error("frame {epoch}/{seq} of channel {channel}, out of order")]
    OutOfOrder {
        /// The channel.
        channel: u8,
        /// The frame's epoch.
        epoch: u16,
        /// The frame's number in that epoch.
        seq: u64,
    },
    /// A frame under keys that do not exist yet.
    #[error("a frame of epoch {epoch}, whose keys do not exist")]
    UnknownEpoch {
        /// The frame's epoch.
        epoch: u16,
    },
    /// A frame of a lossy channel further ahead than loss explains.
    #[error("frame {seq} of the lossy channel {channel} is too far ahead")]
    TooFarAhead {
        /// The channel.
        channel: u8,
        /// The frame's number.
        seq: u64,
    },
    /// Padding and nothing else.
    #[error("a frame without a kind")]
    NoKind,
    /// A kind that does not exist.
    #[error("a frame of the unknown kind {kind:#04x}")]
    UnknownKind {
        /// The kind.
        kind: u8,
    },
    /// A kind that does not belong on this channel, or that this role does not send.
    #[error("a frame of kind {kind:#04x} on channel {channel}, where it does not belong")]
    MisplacedKind {
        /// The kind.
        kind: u8,
        /// The channel.
        channel: u8,
    },
    /// A frame on a channel that is not part of the session.
    #[error("a frame on channel {channel}, which is not live")]
    DeadChannel {
        /// The channel.
        channel: u8,
    },
    /// A frame before the peer was ready to send it.
    #[error("a frame on channel {channel} before READY")]
    BeforeReady {
        /// The channel.
        channel: u8,
    },
    /// A frame on channel 0 after CLOSE.
    #[error("a control frame after CLOSE")]
    AfterClose,

    // --- Control (§1.8). ---
    /// A body of the wrong length or form.
    #[error("a frame of kind {kind:#04x} with a malformed body of {len} bytes")]
    MalformedBody {
        /// The kind.
        kind: u8,
        /// The length of the body.
        len: usize,
    },
    /// A control text that is not UTF-8.
    #[error("a control text that is not utf-8")]
    ControlText,
    /// A second READY or READY_OK, or one out of its turn.
    #[error("READY or READY_OK out of its turn")]
    UnexpectedReady,
    /// READY names other channels than the session has, or in another order.
    #[error("READY does not list exactly the session's channels")]
    ReadyChannels,

    /// READY says something else of the history than applies to this session.
    #[error("READY does not say of the history what applies to this session")]
    ReadyHistory,
    /// An acknowledgement with the head of a history where there is none, or without one where there is.
    #[error("an acknowledgement on channel {channel} with or without a head, against the rule")]
    AckHead {
        /// The channel.
        channel: u8,
    },

    // --- Delivery (§1.10). ---
    /// A split message without content in one of its parts.
    #[error("an empty part of a message on channel {channel}")]
    EmptyPart {
        /// The channel.
        channel: u8,
    },
    /// Another message between the parts of one.
    #[error("a message within the parts of another on channel {channel}")]
    Interleaved {
        /// The channel.
        channel: u8,
    },
    /// A message longer than both sides agreed on.
    #[error("a message of more than {max} bytes")]
    MessageTooLong {
        /// The smaller of both sides' [`max_message`](crate::Limits::max_message).
        max: usize,
    },
    /// An acknowledgement of messages never sent, or less than one before.
    #[error(
        "an acknowledgement of {next} messages on channel {channel}, where {low} to {high} are possible"
    )]
    ImpossibleAck {
        /// The channel.
        channel: u8,
        /// What the peer claims to have taken.
        next: u64,
        /// What it claimed before.
        low: u64,
        /// What was ever sent.
        high: u64,
    },

    /// A message that is sent again is not the one that came before under its number.
    #[error("a message of channel {channel} was changed before it was sent again")]
    MessageChanged {
        /// The channel.
        channel: u8,
    },

    // --- Rekey (§1.9). ---
    /// A rekey message that nobody asked for, or a second one.
    #[error("a rekey message of kind {kind:#04x} out of its turn")]
    UnexpectedRekey {
        /// The kind.
        kind: u8,
    },
    /// A rekey that does not authenticate.
    #[error("a rekey that does not authenticate")]
    RekeyRejected,
    /// An epoch that does not start with EPOCH, or EPOCH elsewhere.
    #[error("the marker of a new epoch is not where it belongs on channel {channel}")]
    MisplacedEpoch {
        /// The channel.
        channel: u8,
    },
}
