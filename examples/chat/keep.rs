//! Who we are, whom we know and what was said: in files, or for this run only.

use std::path::Path;

use sealwire::{
    Contact, Contacts, Identity,
    history::{Archive, HistoryError},
    store::{DiskHistory, IdentityStore, Passphrase, StoreKey},
};

use crate::{Outcome, args::Args};

/// Who we are, whom we know, and what was said.
pub struct Keep {
    owner: Owner,
    archive: Archive,
}

enum Owner {
    Vault(Box<IdentityStore>),
    Nothing(Identity, Contacts),
}

impl Keep {
    /// Asks for the passphrase when there is a vault. `SEALWIRE_PASSPHRASE` answers for scripts.
    pub fn open(args: &Args) -> Outcome<Self> {
        let Some(path) = &args.vault else {
            if args.history.is_some() {
                return Err("--history needs --vault, where the key of the history is kept".into());
            }
            let owner = Owner::Nothing(Identity::generate(), Contacts::new());
            let archive = Archive::in_memory();
            return Ok(Self { owner, archive });
        };
        let mut store = open_vault(path)?;
        let history = args.history.clone();
        let history = history.unwrap_or_else(|| path.with_extension("history"));
        let archive = open_history(&history, store.history_key()?)?;
        let owner = Owner::Vault(Box::new(store));
        Ok(Self { owner, archive })
    }

    pub fn identity(&self) -> &Identity {
        match &self.owner {
            Owner::Vault(store) => store.identity(),
            Owner::Nothing(identity, _) => identity,
        }
    }

    pub fn contacts(&self) -> &Contacts {
        match &self.owner {
            Owner::Vault(store) => store.contacts(),
            Owner::Nothing(_, contacts) => contacts,
        }
    }

    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Keeps a contact, in the place of one of the same name and key.
    pub fn add(&mut self, contact: Contact) -> Outcome {
        let contacts = match &mut self.owner {
            Owner::Vault(store) => store.contacts_mut(),
            Owner::Nothing(_, contacts) => contacts,
        };
        let known = contacts.get(contact.label());
        if known.is_some_and(|known| known.peer() == contact.peer()) {
            contacts.remove(contact.label());
        }
        contacts.add(contact)?;
        if let Owner::Vault(store) = &mut self.owner {
            store.save()?;
        }
        Ok(())
    }

    /// Whether anything outlives this run.
    pub fn lasts(&self) -> bool {
        matches!(self.owner, Owner::Vault(_))
    }
}

fn open_vault(path: &Path) -> Outcome<IdentityStore> {
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
    let store = IdentityStore::open_or_create(path, &passphrase, Identity::generate);
    Ok(store.map_err(|error| format!("{}: {error}", path.display()))?)
}

fn open_history(path: &Path, key: &StoreKey) -> Outcome<Archive> {
    let history = DiskHistory::open(path, key).map_err(|error| {
        let advice = match &error {
            HistoryError::InUse(_) => {
                ". Is another chat open? For two at once give each a file: --history FILE"
            }
            HistoryError::WrongKeyOrDamaged => {
                ". If it belongs to another vault, name one for this: --history FILE"
            }
            _ => "",
        };
        format!("{}: {error}{advice}", path.display())
    })?;
    Ok(Archive::new(history))
}
