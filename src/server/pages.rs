//! Files of a web page, served beside the WebSocket: read once at the start, so that a request can name nothing else.

use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc};

use bytes::Bytes;

use super::ConfigError;

/// Files that are served at most, and their bytes together.
const MAX_FILES: usize = 256;
const MAX_BYTES: u64 = 64 << 20;

/// Folders within folders.
const MAX_DEPTH: usize = 8;

/// Nothing is loaded from elsewhere, nothing written into the page runs, nobody frames it. It connects to signaling
/// servers, which invites name: anywhere by TLS, on this machine without.
const SECURITY: &str = "Content-Security-Policy: default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; \
    style-src 'self'; img-src 'self' data: blob:; \
    connect-src 'self' wss: ws://127.0.0.1:* ws://localhost:*; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
    X-Content-Type-Options: nosniff\r\n\
    Referrer-Policy: no-referrer\r\n\
    Cross-Origin-Opener-Policy: same-origin\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n\
    Permissions-Policy: camera=(), microphone=(), geolocation=()\r\n\
    Cache-Control: no-cache\r\n";

/// The files of a folder, in memory. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Pages {
    /// By path, from the `/` on.
    files: Arc<BTreeMap<String, File>>,
}

#[derive(Debug)]
struct File {
    kind: &'static str,
    body: Bytes,
}

impl Pages {
    /// Reads a folder with all folders in it: at most 256 files and 64 MiB. Files whose name begins with a dot, whose
    /// kind is not one of web pages, and links are left out. `index.html` is also served for its folder.
    ///
    /// # Errors
    /// What cannot be read, or that it is too much.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let folder = folder.as_ref();
        let mut found = Found::default();
        let read = found.collect(folder, "/", MAX_DEPTH);
        read.map_err(|error| ConfigError::new("pages", format!("{}: {error}", folder.display())))?;
        Ok(Self {
            files: Arc::new(found.files),
        })
    }

    /// The answer to a request for this path: its head and the file.
    pub(super) fn answer(&self, path: &str) -> Option<(String, Bytes)> {
        let index = path.ends_with('/').then(|| format!("{path}index.html"));
        let File { kind, body } = self.files.get(index.as_deref().unwrap_or(path))?;
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\n{SECURITY}Content-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        Some((head, body.clone()))
    }
}

/// What was read so far.
#[derive(Default)]
struct Found {
    files: BTreeMap<String, File>,
    bytes: u64,
}

impl Found {
    fn collect(&mut self, folder: &Path, prefix: &str, depth: usize) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
                continue;
            };
            // Of the entry itself: links are neither.
            let about = entry.metadata()?;
            let path = format!("{prefix}{name}");
            if about.is_dir() && depth > 0 {
                self.collect(&entry.path(), &format!("{path}/"), depth - 1)?;
            } else if let Some(kind) = media_type(name).filter(|_| about.is_file()) {
                self.bytes += about.len();
                if self.files.len() >= MAX_FILES || self.bytes > MAX_BYTES {
                    return Err(io::Error::other("more than 256 files or 64 MiB"));
                }
                let body = Bytes::from(fs::read(entry.path())?);
                self.files.insert(path, File { kind, body });
            }
        }
        Ok(())
    }
}

/// What browsers must be told of a file; they do not guess.
fn media_type(name: &str) -> Option<&'static str> {
    let (_, ending) = name.rsplit_once('.')?;
    Some(match ending {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> (tempfile::TempDir, Pages) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("pkg")).unwrap();
        for name in ["index.html", "pkg/a.js", ".secret.html", "key.pem"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let pages = Pages::read(folder.path()).unwrap();
        (folder, pages)
    }

    #[test]
    fn the_files_of_the_folder_are_served_and_nothing_else() {
        let (_folder, pages) = pages();
        for path in ["/", "/index.html", "/pkg/a.js"] {
            assert!(pages.answer(path).is_some(), "{path}");
        }
        for path in [
            "",
            "//",
            "/pkg",
            "/pkg/",
            "/.secret.html",
            "/key.pem",
            "/../index.html",
            "/pkg/../index.html",
            "/%69ndex.html",
            "/index.html/",
            "/etc/passwd",
        ] {
            assert!(pages.answer(path).is_none(), "{path}");
        }
    }

    #[test]
    fn answers_say_what_they_are_and_what_a_page_may_do() {
        let (_folder, pages) = pages();
        let (head, body) = pages.answer("/pkg/a.js").unwrap();
        assert_eq!(&body[..], b"pkg/a.js");
        for line in [
            "HTTP/1.1 200 OK",
            "Content-Type: text/javascript; charset=utf-8",
            "Content-Length: 8",
            "X-Content-Type-Options: nosniff",
            "Referrer-Policy: no-referrer",
        ] {
            assert!(head.split("\r\n").any(|found| found == line), "{head}");
        }
        assert!(
            head.contains("script-src 'self' 'wasm-unsafe-eval';") && head.ends_with("\r\n\r\n")
        );
        assert!(!head.contains("unsafe-inline"));
    }

    #[test]
    #[cfg(unix)]
    fn links_out_of_the_folder_are_not_followed() {
        let (folder, _) = pages();
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("host.txt")).unwrap();
        let pages = Pages::read(folder.path()).unwrap();
        assert!(pages.answer("/host.txt").is_none());
    }

    #[test]
    fn a_folder_that_is_not_there_is_told() {
        assert!(Pages::read("/nowhere/at/all").is_err());
    }
}
