//! From a feed to a stream.

use std::sync::Arc;

use super::{
    BLOCK,
    feed::{Feed, Read},
    transfer::{FileReport, Running},
};
use crate::{
    session::stream::{Giver, Hub, StreamError},
    stream::Reason,
};

/// Sends a file; offered again as often as the peer is restarted.
pub(super) async fn send(hub: Arc<Hub>, mut feed: Feed, running: Running) {
    let outcome = running
        .unless_cancelled(async {
            loop {
                match attempt(&hub, &mut feed, &running).await {
                    Err(StreamError::Reset) => {
                        feed.reopen().await?;
                        running.restart(feed.size());
                    }
                    outcome => return outcome,
                }
            }
        })
        .await;
    running.finish(outcome);
}

async fn attempt(
    hub: &Arc<Hub>,
    feed: &mut Feed,
    running: &Running,
) -> Result<FileReport, StreamError> {
    let giver = Giver::offer(hub, feed.offer())?;
    let outcome = async {
        let (offset, theirs) = giver.accepted().await?;
        let block = whole_frames(giver.frame_content());
        let start = feed.start(offset, theirs, block).await?;
        giver.begin(start)?;
        running.report(start);
        let sha256 = pour(&giver, feed, start, running).await?;
        giver.end(sha256)?;
        giver.done().await?;
        Ok(FileReport {
            path: feed.path(),
            bytes: feed.size(),
            resumed_from: start,
            sha256,
        })
    }
    .await;
    match &outcome {
        Err(StreamError::SourceChanged { .. }) => giver.abort(Reason::Changed),
        Err(StreamError::Io { .. }) => giver.abort(Reason::Storage),
        _ => {}
    }
    outcome
}

/// Sends everything from where the feed is; the hash of the whole.
async fn pour(
    giver: &Giver,
    feed: &mut Feed,
    start: u64,
    running: &Running,
) -> Result<[u8; 32], StreamError> {
    let mut sent = start;
    loop {
        let block = match feed.next().await? {
            Read::Block(block) => block,
            Read::End(hash) => return Ok(hash),
        };
        let mut rest = &block[..];
        while !rest.is_empty() {
            let len = giver.write(rest).await?;
            rest = &rest[len..];
            sent += len as u64;
            running.report(sent);
        }
    }
}

/// Bytes that are read at once: a rest that does not fill its frame costs nearly as much as one that does.
fn whole_frames(content: usize) -> usize {
    BLOCK - BLOCK % content.clamp(1, BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_fill_the_frames_that_carry_them() {
        for content in [1, 1_250, 65_506, BLOCK] {
            let block = whole_frames(content);
            assert_eq!(block % content, 0);
            assert!(block > BLOCK / 2 && block <= BLOCK);
        }
        // While nothing is known of the peer, and where a frame takes more than is read at once.
        for content in [0, BLOCK + 1] {
            assert_eq!(whole_frames(content), BLOCK);
        }
    }
}
