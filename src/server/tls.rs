//! TLS by rustls, with a certificate that can be replaced while the server runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::SystemTime,
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};
use tracing::{info, warn};

/// A certificate and its key, in files. Clones share them.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Files>);

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
    /// When the files were last written, as far as it is known.
    seen: Mutex<Seen>,
}

type Seen = [Option<SystemTime>; 2];

impl Tls {
    /// The certificate chain and the private key in these PEM files. New connections use what the files held at the last
    /// [`Tls::reload`]; the server reloads them when they change.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn from_pem_files(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> io::Result<Self> {
        let (certificate, key) = (certificate.into(), key.into());
        let seen = modified(&certificate, &key);
        let config = load(&certificate, &key)?;
        Ok(Self(Arc::new(Files {
            certificate,
            key,
            config: RwLock::new(config),
            seen: Mutex::new(seen),
        })))
    }

    /// Reads the files again. Connections that are open keep the certificate they have.
    ///
    /// # Errors
    /// As [`Tls::from_pem_files`]; the old certificate stays in use.
    pub fn reload(&self) -> io::Result<()> {
        let files = &*self.0;
        let config = load(&files.certificate, &files.key)?;
        *files.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Reads the files again if they were written since they were last looked at.
    pub(super) fn reload_if_changed(&self) {
        let files = &*self.0;
        let now = modified(&files.certificate, &files.key);
        let mut seen = files.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return;
        }
        *seen = now;
        drop(seen);
        match self.reload() {
            Ok(()) => info!("the certificate was reloaded"),
            // A renewal writes one file after the other: between them they do not fit.
            Err(error) => warn!(%error, "the old certificate stays in use"),
        }
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let config = self.0.config.read();
        TlsAcceptor::from(Arc::clone(&config.unwrap_or_else(PoisonError::into_inner)))
    }
}

fn modified(certificate: &Path, key: &Path) -> Seen {
    [certificate, key].map(|path| fs::metadata(path).and_then(|file| file.modified()).ok())
}

fn load(certificate: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| about(certificate, error))?;
    if chain.is_empty() {
        return Err(about(certificate, "there is no certificate in it"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| about(key, error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring implements the default versions")
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| about(key, error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn about(path: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}
