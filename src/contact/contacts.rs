//! All that are known, by label: what a key that appears under a label is worth, and the few ways in which that changes.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Contact, ContactError, ContactSecret, MAX_CONTACTS, Secrets, Verification, check_label, lasting,
};
use crate::identity::PeerId;
use crate::message::Timestamp;
use crate::trust::PeerTrust;

/// Contacts and pins by label, in the order of the labels' bytes. At most [`MAX_CONTACTS`].
///
/// A pinned key never changes by itself (R-197): another key under the label is [`PeerTrust::Changed`], which meets no
/// [`MinTrust`](crate::MinTrust), until [`accept_new_key`](Self::accept_new_key) names exactly that key. The pinned
/// key's own sessions go on meanwhile, so that nobody can lock a peer out by appearing under its label.
///
/// ```
/// use sealwire::{PeerId, PeerTrust, Timestamp, contact::Contacts};
///
/// let (first, other) = (PeerId::from_bytes([1; 32]), PeerId::from_bytes([2; 32]));
/// let now = Timestamp::from_unix_ms(1_700_000_000_000);
/// let mut contacts = Contacts::new();
///
/// // Trust on first use: whoever comes first to the room is remembered under the room's name.
/// assert_eq!(contacts.trust("lobby", first), PeerTrust::Unknown);
/// contacts.met("lobby", first, PeerTrust::Unknown, now)?;
/// assert_eq!(contacts.trust("lobby", first), PeerTrust::Pinned);
///
/// // Another key is refused until a person, having asked the peer, accepts exactly this one.
/// let changed = PeerTrust::Changed { old: first, new: other };
/// assert_eq!(contacts.trust("lobby", other), changed);
/// contacts.accept_new_key("lobby", other, now)?;
/// assert_eq!(contacts.trust("lobby", other), PeerTrust::Pinned);
/// # Ok::<(), sealwire::contact::ContactError>(())
/// ```
#[derive(Debug, Default)]
pub struct Contacts {
    by_label: BTreeMap<String, Contact>,
    /// The keys of blocked contacts.
    blocked: BTreeSet<PeerId>,
}

impl Contacts {
    /// Nobody is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a contact.
    ///
    /// # Errors
    /// [`ContactError::LabelTaken`], also by the same key; [`ContactError::Untrusted`] when the key is blocked under
    /// another label; [`ContactError::TooMany`].
    pub fn add(&mut self, contact: Contact) -> Result<(), ContactError> {
        if let Some(known) = self.by_label.get(&contact.label) {
            let label = known.label.clone();
            return Err(ContactError::LabelTaken { label });
        }
        if !contact.blocked {
            self.check_not_blocked(contact.peer)?;
        }
        if self.by_label.len() >= MAX_CONTACTS {
            return Err(ContactError::TooMany);
        }
        self.insert(contact);
        Ok(())
    }

    /// Notes a session with `key` under `label`, which ended up as trusted as `proven`
    /// ([`Session::trust`](crate::session::Session::trust)). A new label pins the key; a known one is trusted more if
    /// the session proved more, never less, and is marked as seen.
    ///
    /// Returns what the key was worth in this session: [`PeerTrust::Unknown`] when it was new and nothing was proved.
    /// [`PeerTrust::Changed`] and [`PeerTrust::Blocked`], by the pins or in `proven`, are returned and change nothing.
    ///
    /// # Errors
    /// [`ContactError::BadLabel`] or [`ContactError::TooMany`] for a label that is new.
    pub fn met(
        &mut self,
        label: &str,
        key: PeerId,
        proven: PeerTrust,
        now: Timestamp,
    ) -> Result<PeerTrust, ContactError> {
        let known = self.trust(label, key);
        for trust in [known, proven] {
            if lasting(trust).is_err() {
                return Ok(trust);
            }
        }
        let reached = known.max(proven);
        match self.by_label.get_mut(label) {
            Some(contact) => {
                contact.trust = lasting(reached)?;
                contact.seen = contact.seen.max(now);
            }
            None => self.add(Contact::new(label, key, reached, now)?)?,
        }
        Ok(reached)
    }

    /// Replaces the pinned key of `label` by exactly `key`, after a person asked the peer. The new key is
    /// [`PeerTrust::Pinned`]: what was proved and agreed with the old one, its verification and its secret, is erased.
    /// Nothing happens when `key` is the pinned one already.
    ///
    /// # Errors
    /// [`ContactError::NoSuchContact`]; [`ContactError::Untrusted`] when the contact or the key is blocked.
    pub fn accept_new_key(
        &mut self,
        label: &str,
        key: PeerId,
        now: Timestamp,
    ) -> Result<(), ContactError> {
        self.check_not_blocked(key)?;
        let contact = self.contact_mut(label)?;
        if contact.blocked {
            let trust = PeerTrust::Blocked;
            return Err(ContactError::Untrusted { trust });
        }
        if contact.peer != key {
            contact.peer = key;
            contact.trust = PeerTrust::Pinned;
            contact.secrets = Secrets::None;
            contact.seen = contact.seen.max(now);
        }
        Ok(())
    }

    /// Notes that people compared `key`, which must be the pinned one of `label`, at `when`.
    ///
    /// # Errors
    /// [`ContactError::NoSuchContact`]; [`ContactError::KeyDiffers`].
    pub fn verify(
        &mut self,
        label: &str,
        key: PeerId,
        how: Verification,
        when: Timestamp,
    ) -> Result<(), ContactError> {
        let contact = self.contact_with_key(label, key)?;
        contact.trust = PeerTrust::Verified { how, when };
        Ok(())
    }

    /// Keeps a secret agreed with `key`, which must be the pinned one of `label`: from here on the two meet without an
    /// invite, and the key is trusted at least as [`PeerTrust::Invited`].
    ///
    /// An older secret stays until [`confirm_newer_secret`](Self::confirm_newer_secret), for the peer may have kept
    /// only that one; a newer one that was not confirmed is replaced and erased (R-204).
    ///
    /// # Errors
    /// [`ContactError::NoSuchContact`]; [`ContactError::KeyDiffers`].
    pub fn pair(
        &mut self,
        label: &str,
        key: PeerId,
        secret: ContactSecret,
    ) -> Result<(), ContactError> {
        let contact = self.contact_with_key(label, key)?;
        contact.trust = contact.trust.max(PeerTrust::Invited);
        contact.secrets = match std::mem::take(&mut contact.secrets) {
            Secrets::None => Secrets::One(secret),
            Secrets::One(current) | Secrets::Two { current, .. } => Secrets::Two {
                current,
                newer: secret,
            },
        };
        Ok(())
    }

    /// Erases the older of two secrets, now that the peer has shown to have the newer (R-204). Nothing happens when
    /// there is only one.
    ///
    /// # Errors
    /// [`ContactError::NoSuchContact`]; [`ContactError::NotPaired`].
    pub fn confirm_newer_secret(&mut self, label: &str) -> Result<(), ContactError> {
        let contact = self.contact_mut(label)?;
        contact.secrets = match std::mem::take(&mut contact.secrets) {
            Secrets::None => {
                let label = label.to_owned();
                return Err(ContactError::NotPaired { label });
            }
            Secrets::One(only) => Secrets::One(only),
            Secrets::Two { newer, .. } => Secrets::One(newer),
        };
        Ok(())
    }

    /// Refuses the key of this contact, under every label that it has or is given, until [`unblock`](Self::unblock).
    ///
    /// # Errors
    /// [`ContactError::NoSuchContact`].
    pub fn block(&mut self, label: &str) -> Result<(), ContactError> {
        let key = self.contact_mut(label)?.peer;
        self.set_blocked(key, true);
        Ok(())
    }

    /// Takes [`block`](Self::block) back, under every label: the key is trusted as before.
    ///
    /// # Errors
    /// [`ContactError::NoSuchContact`].
    pub fn unblock(&mut self, label: &str) -> Result<(), ContactError> {
        let key = self.contact_mut(label)?.peer;
        self.set_blocked(key, false);
        Ok(())
    }

    /// Gives a contact another label.
    ///
    /// # Errors
    /// [`ContactError::NoSuchContact`]; [`ContactError::LabelTaken`]; [`ContactError::BadLabel`].
    pub fn rename(&mut self, label: &str, new: &str) -> Result<(), ContactError> {
        check_label(new)?;
        self.contact_mut(label)?;
        if label != new && self.by_label.contains_key(new) {
            let label = new.to_owned();
            return Err(ContactError::LabelTaken { label });
        }
        if let Some(mut contact) = self.by_label.remove(label) {
            new.clone_into(&mut contact.label);
            self.by_label.insert(contact.label.clone(), contact);
        }
        Ok(())
    }

    /// Forgets a contact. What appears under the label afterwards is new and unknown: to refuse a key,
    /// [`block`](Self::block) it instead.
    pub fn remove(&mut self, label: &str) -> Option<Contact> {
        let removed = self.by_label.remove(label)?;
        if self.of(removed.peer).next().is_none() {
            self.blocked.remove(&removed.peer);
        }
        Some(removed)
    }

    /// What `key` is worth under `label`, before a session proves more: [`PeerTrust::Unknown`] when the label is new,
    /// the contact's trust when this key is pinned, [`PeerTrust::Changed`] when another one is, and
    /// [`PeerTrust::Blocked`] when the key is blocked under any label.
    #[must_use]
    pub fn trust(&self, label: &str, key: PeerId) -> PeerTrust {
        if self.is_blocked(key) {
            return PeerTrust::Blocked;
        }
        match self.by_label.get(label) {
            None => PeerTrust::Unknown,
            Some(contact) if contact.peer == key => contact.trust,
            Some(contact) => PeerTrust::Changed {
                old: contact.peer,
                new: key,
            },
        }
    }

    /// The contact of this label.
    #[must_use]
    pub fn get(&self, label: &str) -> Option<&Contact> {
        self.by_label.get(label)
    }

    /// The contacts with this key: one key may have several labels.
    pub fn of(&self, key: PeerId) -> impl Iterator<Item = &Contact> {
        self.iter().filter(move |contact| contact.peer == key)
    }

    /// All, in the order of their labels.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Contact> {
        self.by_label.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_label.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_label.is_empty()
    }

    /// Puts a stored contact back as the last one; `false` when it is not the last by its label, or one too many.
    #[cfg(feature = "store")]
    pub(crate) fn restore(&mut self, contact: Contact) -> bool {
        let last = self.by_label.last_key_value();
        if last.is_some_and(|(label, _)| *label >= contact.label)
            || self.by_label.len() >= MAX_CONTACTS
        {
            return false;
        }
        if contact.blocked {
            self.blocked.insert(contact.peer);
        }
        self.by_label.insert(contact.label.clone(), contact);
        true
    }

    fn insert(&mut self, contact: Contact) {
        let (key, blocked) = (contact.peer, contact.blocked);
        self.by_label.insert(contact.label.clone(), contact);
        if blocked {
            self.set_blocked(key, true);
        }
    }

    /// Blocking is of keys: all contacts with one agree.
    fn set_blocked(&mut self, key: PeerId, blocked: bool) {
        let contacts = self.by_label.values_mut();
        for contact in contacts.filter(|contact| contact.peer == key) {
            contact.blocked = blocked;
        }
        if blocked {
            self.blocked.insert(key);
        } else {
            self.blocked.remove(&key);
        }
    }

    fn is_blocked(&self, key: PeerId) -> bool {
        self.blocked.contains(&key)
    }

    fn check_not_blocked(&self, key: PeerId) -> Result<(), ContactError> {
        if self.is_blocked(key) {
            let trust = PeerTrust::Blocked;
            return Err(ContactError::Untrusted { trust });
        }
        Ok(())
    }

    fn contact_mut(&mut self, label: &str) -> Result<&mut Contact, ContactError> {
        self.by_label
            .get_mut(label)
            .ok_or_else(|| ContactError::NoSuchContact {
                label: label.to_owned(),
            })
    }

    fn contact_with_key(&mut self, label: &str, key: PeerId) -> Result<&mut Contact, ContactError> {
        let contact = self.contact_mut(label)?;
        if contact.peer != key {
            return Err(ContactError::KeyDiffers {
                label: label.to_owned(),
                pinned: contact.peer,
                given: key,
            });
        }
        Ok(contact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::MinTrust;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);
    const LATER: Timestamp = Timestamp::from_unix_ms(1_700_000_000_001);
    const VERIFIED: PeerTrust = PeerTrust::Verified {
        how: Verification::SafetyNumber,
        when: NOW,
    };

    fn key(byte: u8) -> PeerId {
        PeerId::from_bytes([byte; 32])
    }

    fn secret(byte: u8) -> ContactSecret {
        ContactSecret::from_secret_bytes([byte; 32])
    }

    fn knowing(label: &str, byte: u8) -> Contacts {
        let mut contacts = Contacts::new();
        let met = contacts.met(label, key(byte), PeerTrust::Unknown, NOW);
        assert_eq!(met, Ok(PeerTrust::Unknown));
        contacts
    }

    fn secrets(contacts: &Contacts, label: &str) -> [Option<[u8; 32]>; 2] {
        let contact = contacts.get(label).unwrap();
        [contact.secret(), contact.newer_secret()]
            .map(|secret| secret.map(|secret| *secret.secret_bytes()))
    }

    /// R-197, C4: whatever a session with another key proves, the pin stays and the key meets no requirement.
    #[test]
    fn c4_another_key_is_changed_and_blocked_until_exactly_it_is_accepted() {
        let mut contacts = knowing("ann", 1);
        contacts
            .verify("ann", key(1), Verification::SafetyNumber, NOW)
            .unwrap();
        contacts.pair("ann", key(1), secret(7)).unwrap();
        let changed = PeerTrust::Changed {
            old: key(1),
            new: key(2),
        };
        for proven in [PeerTrust::Unknown, PeerTrust::Invited, VERIFIED] {
            assert_eq!(contacts.met("ann", key(2), proven, LATER), Ok(changed));
        }
        assert!(!changed.meets(MinTrust::Unknown));
        let differs = ContactError::KeyDiffers {
            label: "ann".into(),
            pinned: key(1),
            given: key(2),
        };
        let verified = contacts.verify("ann", key(2), Verification::QrCode, NOW);
        assert_eq!(verified, Err(differs.clone()));
        assert_eq!(contacts.pair("ann", key(2), secret(8)), Err(differs));
        let again = Contact::new("ann", key(2), PeerTrust::Invited, LATER).unwrap();
        assert!(matches!(
            contacts.add(again),
            Err(ContactError::LabelTaken { .. })
        ));
        assert_eq!(contacts.trust("ann", key(1)), VERIFIED, "nothing changed");
        assert_eq!(contacts.get("ann").unwrap().seen(), NOW);

        contacts.accept_new_key("ann", key(2), LATER).unwrap();
        assert_eq!(contacts.trust("ann", key(2)), PeerTrust::Pinned);
        assert_eq!(secrets(&contacts, "ann"), [None, None], "the old key's");
        for unaccepted in [key(1), key(3)] {
            let trust = contacts.trust("ann", unaccepted);
            assert!(matches!(trust, PeerTrust::Changed { old, .. } if old == key(2)));
        }
    }

    #[test]
    fn accepting_the_pinned_key_takes_nothing_away() {
        let mut contacts = knowing("ann", 1);
        contacts.pair("ann", key(1), secret(7)).unwrap();
        contacts.accept_new_key("ann", key(1), LATER).unwrap();
        assert_eq!(contacts.trust("ann", key(1)), PeerTrust::Invited);
        assert!(contacts.get("ann").unwrap().is_paired());
    }

    #[test]
    fn sessions_raise_the_trust_and_never_lower_it() {
        let mut contacts = knowing("ann", 1);
        let mut met = |proven| contacts.met("ann", key(1), proven, LATER).unwrap();
        assert_eq!(met(PeerTrust::Unknown), PeerTrust::Pinned);
        assert_eq!(met(PeerTrust::Invited), PeerTrust::Invited);
        assert_eq!(met(PeerTrust::Unknown), PeerTrust::Invited);
        assert_eq!(met(VERIFIED), VERIFIED);
        assert_eq!(met(PeerTrust::Invited), VERIFIED);
        let contact = contacts.get("ann").unwrap();
        assert_eq!((contact.added(), contact.seen()), (NOW, LATER));
        contacts
            .met("ann", key(1), PeerTrust::Unknown, NOW)
            .unwrap();
        assert_eq!(contacts.get("ann").unwrap().seen(), LATER, "clocks go back");
    }

    #[test]
    fn what_a_session_refused_is_not_pinned() {
        let mut contacts = Contacts::new();
        let changed = PeerTrust::Changed {
            old: key(1),
            new: key(2),
        };
        for refused in [changed, PeerTrust::Blocked] {
            assert_eq!(contacts.met("ann", key(2), refused, NOW), Ok(refused));
        }
        assert!(contacts.is_empty());
    }

    #[test]
    fn a_blocked_key_is_blocked_under_every_label_and_cannot_be_accepted() {
        let mut contacts = knowing("eve", 6);
        contacts
            .met("ann", key(1), PeerTrust::Unknown, NOW)
            .unwrap();
        contacts.block("eve").unwrap();
        assert_eq!(contacts.get("eve").unwrap().trust(), PeerTrust::Blocked);
        let blocked = Err(ContactError::Untrusted {
            trust: PeerTrust::Blocked,
        });
        for label in ["eve", "ann", "new"] {
            assert_eq!(contacts.trust(label, key(6)), PeerTrust::Blocked);
            let met = contacts.met(label, key(6), VERIFIED, NOW);
            assert_eq!(met, Ok(PeerTrust::Blocked));
        }
        assert_eq!(contacts.accept_new_key("ann", key(6), NOW), blocked);
        assert_eq!(contacts.accept_new_key("eve", key(7), NOW), blocked);
        let under_another_name = Contact::new("new", key(6), PeerTrust::Invited, NOW).unwrap();
        assert_eq!(contacts.add(under_another_name), blocked);
        assert_eq!(contacts.trust("ann", key(1)), PeerTrust::Pinned);

        contacts.unblock("eve").unwrap();
        assert_eq!(contacts.trust("eve", key(6)), PeerTrust::Pinned);
    }

    #[test]
    fn a_key_is_blocked_under_all_its_labels_or_under_none() {
        let mut contacts = knowing("eve", 6);
        contacts
            .met("also eve", key(6), PeerTrust::Unknown, NOW)
            .unwrap();
        let trust = |contacts: &Contacts| {
            ["eve", "also eve"].map(|label| contacts.get(label).map(Contact::trust))
        };
        let (blocked, pinned) = (Some(PeerTrust::Blocked), Some(PeerTrust::Pinned));
        contacts.block("eve").unwrap();
        assert_eq!(trust(&contacts), [blocked; 2]);
        contacts.unblock("also eve").unwrap();
        assert_eq!(trust(&contacts), [pinned; 2]);

        contacts.block("also eve").unwrap();
        let removed = contacts.remove("eve").unwrap();
        assert_eq!(contacts.trust("new", key(6)), PeerTrust::Blocked);
        contacts.remove("also eve").unwrap();
        assert_eq!(contacts.trust("new", key(6)), PeerTrust::Unknown);
        contacts
            .met("also eve", key(6), PeerTrust::Unknown, NOW)
            .unwrap();
        contacts.add(removed).unwrap();
        assert_eq!(trust(&contacts), [blocked; 2]);
    }

    /// R-204.
    #[test]
    fn a_newer_secret_replaces_the_older_only_once_confirmed() {
        let mut contacts = knowing("ann", 1);
        let [seven, eight, nine] = [7, 8, 9].map(|byte| Some([byte; 32]));
        assert!(matches!(
            contacts.confirm_newer_secret("ann"),
            Err(ContactError::NotPaired { .. })
        ));
        contacts.pair("ann", key(1), secret(7)).unwrap();
        assert_eq!(secrets(&contacts, "ann"), [seven, None]);
        contacts.confirm_newer_secret("ann").unwrap();
        contacts.pair("ann", key(1), secret(8)).unwrap();
        contacts.pair("ann", key(1), secret(9)).unwrap();
        assert_eq!(secrets(&contacts, "ann"), [seven, nine]);
        contacts.confirm_newer_secret("ann").unwrap();
        assert_eq!(secrets(&contacts, "ann"), [nine, None]);
        contacts.pair("ann", key(1), secret(8)).unwrap();
        assert_eq!(secrets(&contacts, "ann"), [nine, eight]);
    }

    #[test]
    fn labels_can_be_changed_and_not_taken() {
        let mut contacts = knowing("ann", 1);
        contacts
            .met("bob", key(2), PeerTrust::Unknown, NOW)
            .unwrap();
        contacts.rename("ann", "anna").unwrap();
        assert_eq!(contacts.get("anna").unwrap().label(), "anna");
        assert_eq!(contacts.trust("anna", key(1)), PeerTrust::Pinned);
        contacts.rename("anna", "anna").unwrap();
        assert!(matches!(
            contacts.rename("anna", "bob"),
            Err(ContactError::LabelTaken { .. })
        ));
        assert!(matches!(
            contacts.rename("ann", "x"),
            Err(ContactError::NoSuchContact { .. })
        ));
        assert!(matches!(
            contacts.rename("anna", ""),
            Err(ContactError::BadLabel { len: 0 })
        ));
        assert_eq!(contacts.len(), 2);
        assert_eq!(contacts.remove("anna").unwrap().peer(), key(1));
        assert_eq!(contacts.trust("anna", key(3)), PeerTrust::Unknown);
    }

    #[test]
    fn the_number_of_contacts_is_bounded() {
        let mut contacts = Contacts::new();
        for n in 0..MAX_CONTACTS {
            contacts
                .add(Contact::new(n.to_string(), key(1), PeerTrust::Unknown, NOW).unwrap())
                .unwrap();
        }
        let met = contacts.met("one more", key(1), PeerTrust::Unknown, NOW);
        assert_eq!(met, Err(ContactError::TooMany));
        let met = contacts.met("7", key(1), PeerTrust::Unknown, NOW);
        assert_eq!(met, Ok(PeerTrust::Pinned), "those known stay known");
    }
}
