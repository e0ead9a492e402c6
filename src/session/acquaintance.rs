//! Getting to know the peer: short codes compared within a session, and contacts that meet again without an invite.

use super::{Session, clock};
use crate::{
    contact::{Contact, ContactError, ContactSecret},
    error::{Error, Result},
    protocol::{HistoryInput, Input},
    trust::{PeerTrust, Verification},
    verify::ShortCode,
};

/// What a host may want of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overture {
    /// A code to compare.
    Compare,
    /// To be contacts.
    Contact,
    /// To go on although the histories differ.
    AcceptHistory,
}

impl From<Overture> for Input {
    fn from(overture: Overture) -> Self {
        match overture {
            Overture::Compare => Self::Compare,
            Overture::Contact => Self::Pair,
            Overture::AcceptHistory => Self::History(HistoryInput::Accept),
        }
    }
}

impl Session {
    /// Asks for a short code: both sides then see [`Event::ShortCode`](crate::protocol::Event::ShortCode) with the same three
    /// numbers, if nobody is in between. People compare them by voice, and call
    /// [`confirm_code`](Self::confirm_code). Somebody in the middle has one guess in 2^39 at each.
    ///
    /// Returns at once. [`Event::ShortCodeFailed`](crate::protocol::Event::ShortCodeFailed) tells that no code came of it; the
    /// next may be asked for 10 s later.
    pub fn compare_code(&self) {
        self.shared.make(Overture::Compare);
    }

    /// People compared the short code, and this is what the other side read out: the peer is verified if it is ours.
    ///
    /// # Errors
    /// [`Error::ShortCodeDiffers`], also when no code was shown; the trust stays as it was.
    pub fn confirm_code(&self, compared: ShortCode) -> Result<()> {
        if self.shared.short_code() != Some(compared) {
            return Err(Error::ShortCodeDiffers);
        }
        self.shared.set_trust(PeerTrust::Verified {
            how: Verification::ShortCode,
            when: clock::timestamp(),
        });
        Ok(())
    }

    /// Asks the peer to be a contact, or agrees when it asked ([`Event::ContactRequested`](crate::protocol::Event::ContactRequested)).
    /// When both did, [`Event::ContactMade`](crate::protocol::Event::ContactMade) comes on both sides: [`contact`](Self::contact)
    /// then is what to keep.
    ///
    /// Returns at once; asked again after every reconnection until there is an answer.
    pub fn make_contact(&self) {
        self.shared.make(Overture::Contact);
    }

    /// The peer as a contact to keep, under a label of the host's choice: with the secret that both sides agreed on
    /// ([`make_contact`](Self::make_contact)), or a mere pin without. [`Builder::contact`](super::Builder::contact) meets
    /// it again.
    ///
    /// # Errors
    /// [`ContactError`] for a label that is empty or longer than 256 bytes, or a peer that is not to be kept: blocked or
    /// changed.
    pub fn contact(&self, label: impl Into<String>) -> Result<Contact, ContactError> {
        let contact = Contact::new(label, self.peer(), self.trust(), clock::timestamp())?;
        Ok(match self.shared.contact_secret() {
            Some(secret) => contact.with_secret(ContactSecret::from(&secret)),
            None => contact,
        })
    }
}
