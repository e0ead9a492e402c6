//! The identity and the contacts, in a vault or for this run only.

use std::path::Path;

use sealwire::{
    Contact, Contacts, Identity,
    store::{IdentityStore, Passphrase},
};

use crate::Outcome;

/// Who we are and whom we know.
pub enum Keep {
    Vault(Box<IdentityStore>),
    Nothing(Identity, Contacts),
}

impl Keep {
    /// Asks for the passphrase when there is a vault. `SEALWIRE_PASSPHRASE` answers for scripts.
    pub fn open(vault: Option<&Path>) -> Outcome<Self> {
        let Some(path) = vault else {
            return Ok(Self::Nothing(Identity::generate(), Contacts::new()));
        };
        let text = match std::env::var("SEALWIRE_PASSPHRASE") {
            Ok(text) => text,
            Err(_) if path.exists() => rpassword::prompt_password("passphrase: ")?,
            Err(_) => {
                let text = rpassword::prompt_password("a passphrase for the new vault: ")?;
                if rpassword::prompt_password("again: ")? != text {
                    return Err("the two differ".into());
                }
                text
            }
        };
        let passphrase = Passphrase::new(text)?;
        let store = IdentityStore::open_or_create(path, &passphrase, Identity::generate)?;
        Ok(Self::Vault(Box::new(store)))
    }

    pub fn identity(&self) -> &Identity {
        match self {
            Self::Vault(store) => store.identity(),
            Self::Nothing(identity, _) => identity,
        }
    }

    pub fn contacts(&self) -> &Contacts {
        match self {
            Self::Vault(store) => store.contacts(),
            Self::Nothing(_, contacts) => contacts,
        }
    }

    /// Keeps a contact, in the place of one of the same name and key.
    pub fn add(&mut self, contact: Contact) -> Outcome {
        let contacts = match self {
            Self::Vault(store) => store.contacts_mut(),
            Self::Nothing(_, contacts) => contacts,
        };
        let known = contacts.get(contact.label());
        if known.is_some_and(|known| known.peer() == contact.peer()) {
            contacts.remove(contact.label());
        }
        contacts.add(contact)?;
        if let Self::Vault(store) = self {
            store.save()?;
        }
        Ok(())
    }

    /// Whether anything outlives this run.
    pub fn lasts(&self) -> bool {
        matches!(self, Self::Vault(_))
    }
}
