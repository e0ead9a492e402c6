//! Channels beside the main one, each a pair of handles.

use bytes::Bytes;

use super::{
    Delivery, Session,
    lanes::{MAIN, STREAMS},
};
use crate::{
    error::{Error, Result},
    message::{Content, Message},
    protocol::{self, ChannelOffer},
};

/// Channels that can be declared beside the main one.
const MAX_DECLARED: usize = 14;
/// Bytes of a label.
const MAX_LABEL: usize = 64;

/// The label of the channel of streams and files.
const STREAMS_LABEL: &str = "sealwire.streams";

/// What a channel promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChannelKind {
    /// Every message arrives, once and in order, as long as the session lives.
    Reliable,
    /// Messages may be lost and overtake each other; none waits for another, and each fits one frame. For what is
    /// worthless when late: positions, cursors, voice.
    Lossy,
}

/// A channel as this side declared it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) id: u8,
    pub(super) label: String,
    pub(super) kind: ChannelKind,
}

/// What the machine is to offer: the main channel, those declared, in their order, and that of streams.
///
/// # Errors
/// [`Error::InvalidConfig`] for too many, and for labels that are empty, too long or used twice.
pub(super) fn offers(declared: &[Declared], streams: bool) -> Result<Vec<ChannelOffer>> {
    if declared.len() + usize::from(streams) > MAX_DECLARED {
        let reason = "a session has at most 14 channels beside the main one, 13 beside streams";
        return Err(Error::InvalidConfig(reason));
    }
    let mut offers = vec![ChannelOffer::main()];
    for Declared { id, label, kind } in declared {
        if !(1..=MAX_LABEL).contains(&label.len()) {
            return Err(Error::InvalidConfig("a channel's label has 1 to 64 bytes"));
        }
        if offers.iter().any(|offer| offer.label == *label) {
            let reason = "two channels have the same label, or one is called main";
            return Err(Error::InvalidConfig(reason));
        }
        offers.push(ChannelOffer {
            id: *id,
            delivery: match kind {
                ChannelKind::Reliable => protocol::Delivery::Reliable,
                ChannelKind::Lossy => protocol::Delivery::Lossy,
            },
            label: label.clone(),
        });
    }
    if streams {
        offers.push(ChannelOffer {
            id: STREAMS,
            delivery: protocol::Delivery::Reliable,
            label: STREAMS_LABEL.into(),
        });
    }
    Ok(offers)
}

/// The number of the next channel to be declared; the first is the one after the main channel.
pub(super) fn next_id(declared: &[Declared]) -> u8 {
    let next = usize::from(MAIN) + 1 + declared.len();
    u8::try_from(next).unwrap_or(u8::MAX)
}

/// Channels.
impl Session {
    /// Both ends of a reliable channel that was declared by [`Builder::channel`](super::Builder::channel); `None` when
    /// this side or the peer did not declare it so. The main channel has no ends: its messages come by
    /// [`Session::next`].
    ///
    /// The handles keep the session alive, as a clone of it does. Asked again, the handles are of the same channel:
    /// each message goes to one of its receivers.
    ///
    /// ```no_run
    /// use sealwire::{Identity, session::{ChannelKind, Session}};
    ///
    /// # async fn example(me: Identity, text: &str) -> Result<(), Box<dyn std::error::Error>> {
    /// let session = Session::builder(me)
    ///     .redeem(text.parse()?)
    ///     .channel("log", ChannelKind::Reliable)
    ///     .channel("cursor", ChannelKind::Lossy)
    ///     .connect()
    ///     .await?;
    /// let (log, mut entries) = session.channel("log").ok_or("the peer has no such channel")?;
    /// tokio::spawn(async move {
    ///     while let Some(Ok(entry)) = entries.recv().await {
    ///         println!("{entry}");
    ///     }
    /// });
    /// log.send("opened").await?.delivered().await?;
    ///
    /// let (cursor, mut cursors) = session.lossy_channel("cursor").ok_or("nor this one")?;
    /// cursor.send([3, 4].as_slice())?;
    /// println!("{:?}", cursors.recv().await);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn channel(&self, label: &str) -> Option<(ChannelSender, ChannelReceiver)> {
        let channel = self.find_channel(label, ChannelKind::Reliable)?;
        let sender = ChannelSender {
            session: self.clone(),
            channel,
        };
        let receiver = ChannelReceiver {
            session: self.clone(),
            channel,
        };
        Some((sender, receiver))
    }

    /// [`channel`](Self::channel) for a lossy one.
    #[must_use]
    pub fn lossy_channel(&self, label: &str) -> Option<(LossySender, LossyReceiver)> {
        let channel = self.find_channel(label, ChannelKind::Lossy)?;
        let sender = LossySender {
            session: self.clone(),
            channel,
        };
        let receiver = LossyReceiver {
            session: self.clone(),
            channel,
        };
        Some((sender, receiver))
    }

    fn find_channel(&self, label: &str, kind: ChannelKind) -> Option<u8> {
        let live = self.facts()?.live;
        let fits = |one: &&Declared| one.label == label && one.kind == kind;
        let found = self.declared.iter().find(fits)?.id;
        (live & (1 << found) != 0).then_some(found)
    }
}

/// The sending end of a reliable channel. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChannelSender {
    session: Session,
    channel: u8,
}

impl ChannelSender {
    /// [`Session::send`] on this channel, which has a window of its own: it waits for no other channel.
    ///
    /// # Errors
    /// As [`Session::send`].
    ///
    /// # Cancel safety
    /// As [`Session::send`].
    pub async fn send(&self, content: impl Into<Content>) -> Result<Delivery> {
        self.session.send_on(self.channel, content.into()).await
    }
}

/// The receiving end of a reliable channel.
#[derive(Debug)]
pub struct ChannelReceiver {
    session: Session,
    channel: u8,
}

impl ChannelReceiver {
    /// The next message, each once and in order; `None` once the session is over and everything was taken.
    ///
    /// It counts as taken, and is acknowledged to the peer, when this returns it. What is not taken waits, up to the
    /// window (8 MiB by default); then the peer's `send` on this channel waits, and on no other.
    ///
    /// # Errors
    /// A message whose content this version cannot read; the channel goes on.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing was taken.
    pub async fn recv(&mut self) -> Option<Result<Message>> {
        let Self { session, channel } = self;
        let (number, body) = session
            .wait_for(*channel, |shared| shared.take_from(*channel))
            .await?;
        Some(session.open_message((*channel, number), body, None))
    }
}

/// The sending end of a lossy channel. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LossySender {
    session: Session,
    channel: u8,
}

impl LossySender {
    /// Sends bytes as they are, and never waits: without a transport they are lost at once, and on a slow path the
    /// oldest go when more than 256 KiB wait.
    ///
    /// # Errors
    /// [`Error::MessageTooLarge`] beyond [`max_len`](Self::max_len); [`Error::Untrusted`]; the reason of the end when
    /// the session is over.
    pub fn send(&self, body: impl Into<Bytes>) -> Result<()> {
        let body = body.into();
        let (len, max) = (body.len(), self.max_len());
        if len > max {
            return Err(Error::MessageTooLarge { len, max });
        }
        self.session.check_trust()?;
        self.session.shared.push_datagram(self.channel, body)
    }

    /// The most bytes that one message can have: 65 511 unless a side is configured to less. Above about 1 150 bytes a
    /// message travels in several packets, and is lost with any of them.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.session.facts().map_or(0, |facts| facts.max_datagram)
    }
}

/// The receiving end of a lossy channel.
#[derive(Debug)]
pub struct LossyReceiver {
    session: Session,
    channel: u8,
}

impl LossyReceiver {
    /// The next message that arrives; `None` once the session is over. What is not taken waits, up to 256 KiB, then the
    /// oldest go.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing was taken.
    pub async fn recv(&mut self) -> Option<Bytes> {
        let Self { session, channel } = self;
        session
            .wait_for(*channel, |shared| shared.take_datagram(*channel))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declare(labels: &[&str]) -> Vec<Declared> {
        let mut declared = Vec::new();
        for label in labels {
            declared.push(Declared {
                id: next_id(&declared),
                label: (*label).to_owned(),
                kind: ChannelKind::Reliable,
            });
        }
        declared
    }

    #[test]
    fn numbers_follow_the_order_of_declaration() {
        let offers = offers(&declare(&["a", "b"]), true).unwrap();
        let named: Vec<(u8, &str)> = offers
            .iter()
            .map(|offer| (offer.id, offer.label.as_str()))
            .collect();
        assert_eq!(
            named,
            [(1, "main"), (2, "a"), (3, "b"), (15, "sealwire.streams")]
        );
    }

    #[test]
    fn labels_that_cannot_be_are_refused() {
        let long = "x".repeat(65);
        for labels in [&["a", "a"][..], &["main"], &[""], &[long.as_str()]] {
            let refused = offers(&declare(labels), false);
            assert!(
                matches!(refused, Err(Error::InvalidConfig(_))),
                "{labels:?}"
            );
        }
        let many: Vec<String> = (0..15).map(|n: u8| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(offers(&declare(&many), false).is_err());
        assert!(offers(&declare(&many[1..]), true).is_err());
        for (first, streams) in [(1, false), (2, true)] {
            let offers = offers(&declare(&many[first..]), streams);
            assert_eq!(offers.map(|all| all.len()), Ok(15));
        }
    }
}
