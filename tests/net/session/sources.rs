//! Files that a host reads itself.

use std::{
    fs,
    io::{self, ErrorKind},
};

use bytes::Bytes;
use sealwire::{
    session::{FileSource, StreamError},
    stream::Reason,
};
use sha2::{Digest as _, Sha256};

use super::{
    files::{offered, stream_pair},
    support::{Running, soon},
};

const LEN: usize = 1_000_000;

/// A file in memory that fails where it is told to.
#[derive(Debug)]
struct Memory {
    content: Bytes,
    version: Option<u64>,
    fails: Option<(u64, ErrorKind)>,
}

impl Memory {
    fn new(seed: u8) -> Self {
        let content: Vec<u8> = (0..LEN).map(|at| (at / 7) as u8 ^ seed).collect();
        Self {
            content: content.into(),
            version: None,
            fails: None,
        }
    }

    fn failing(seed: u8, at: u64, kind: ErrorKind) -> Self {
        Self {
            fails: Some((at, kind)),
            ..Self::new(seed)
        }
    }
}

#[async_trait::async_trait]
impl FileSource for Memory {
    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    fn version(&self) -> Option<u64> {
        self.version
    }

    async fn read(&self, at: u64, len: usize) -> io::Result<Bytes> {
        if let Some((from, kind)) = self.fails
            && at + len as u64 > from
        {
            return Err(kind.into());
        }
        let at = usize::try_from(at).unwrap();
        Ok(self.content.slice(at..at + len))
    }
}

#[tokio::test]
async fn what_is_not_on_disk_arrives_on_disk_and_as_a_stream() {
    let server = Running::start().await;
    let (one, other) = stream_pair(&server).await;
    let content = Memory::new(1).content;
    let sha256: [u8; 32] = Sha256::digest(&content).into();

    let sending = one.send_source("../a:b.bin", Memory::new(1)).unwrap();
    let offer = offered(&other).await;
    assert_eq!(
        (offer.name().as_str(), offer.size()),
        ("_a_b.bin", LEN as u64)
    );
    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("to");
    let receiving = soon(offer.accept(&to)).await.unwrap();
    let (sent, received) = tokio::join!(soon(sending.finished()), soon(receiving.finished()));
    assert_eq!(sent.unwrap().sha256, sha256);
    assert_eq!(received.unwrap().sha256, sha256);
    assert!(fs::read(&to).unwrap() == content);

    let sending = one.send_source("again", Memory::new(1)).unwrap();
    let mut reader = offered(&other).await.read().unwrap();
    let mut read = Vec::new();
    while let Some(chunk) = soon(reader.read_chunk()).await.unwrap() {
        read.extend_from_slice(&chunk);
    }
    assert!(read == content);
    assert_eq!(reader.sha256(), sha256);
    assert_eq!(soon(sending.finished()).await.unwrap().sha256, sha256);
}

/// S-21: what is there of the same version is not sent again; of another one it is.
#[tokio::test]
async fn it_goes_on_where_it_was_interrupted() {
    let server = Running::start().await;
    let (one, other) = stream_pair(&server).await;
    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("to");
    let first = Memory {
        version: Some(5),
        ..Memory::failing(1, 600_000, ErrorKind::PermissionDenied)
    };
    let sending = one.send_source("part", first).unwrap();
    let receiving = soon(offered(&other).await.accept(&to)).await.unwrap();
    let failed = soon(sending.finished()).await.unwrap_err();
    assert!(matches!(failed, StreamError::Io { kind, .. } if kind == ErrorKind::PermissionDenied));
    let told = soon(receiving.finished()).await.unwrap_err();
    assert_eq!(told, StreamError::Ended(Reason::Storage));

    let second = Memory {
        version: Some(5),
        ..Memory::new(1)
    };
    let sending = one.send_source("part", second).unwrap();
    let receiving = soon(offered(&other).await.accept(&to)).await.unwrap();
    let sent = soon(sending.finished()).await.unwrap();
    // Two blocks of four whole frames.
    assert_eq!(sent.resumed_from, 8 * 65_506);
    soon(receiving.finished()).await.unwrap();
    assert!(fs::read(&to).unwrap() == Memory::new(1).content);
}

#[tokio::test]
async fn a_source_that_is_not_what_it_was_is_noticed() {
    let server = Running::start().await;
    let (one, other) = stream_pair(&server).await;
    for from in [300_000, 0] {
        let source = Memory::failing(1, from, ErrorKind::InvalidData);
        let sending = one.send_source("changed", source).unwrap();
        let mut reader = offered(&other).await.read().unwrap();
        let failed = soon(sending.finished()).await.unwrap_err();
        let path = "changed".into();
        assert_eq!(failed, StreamError::SourceChanged { path });
        let ended = loop {
            match soon(reader.read_chunk()).await {
                Ok(chunk) => assert!(chunk.is_some()),
                Err(error) => break error,
            }
        };
        assert_eq!(ended, StreamError::Ended(Reason::Changed));
    }
}
