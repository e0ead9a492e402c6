//! What the stack calls when something happens, turned into notes for the link's task.

use std::sync::Arc;

use ::webrtc::{
    data_channel::DataChannel,
    media_stream::track_remote::TrackRemote,
    peer_connection::{
        PeerConnectionEventHandler, RTCIceConnectionState, RTCIceGatheringState,
        RTCPeerConnectionIceEvent, RTCPeerConnectionState,
    },
};
use tokio::sync::mpsc;

use super::super::runtime::Pace;

/// Something that happened to the peer connection or to one of its channels.
#[derive(Debug)]
pub(super) enum Note {
    /// A local address was found.
    Candidate(String),
    /// There are no more.
    Gathered,
    /// A path is there, or is there again.
    PathFound,
    /// Nothing was heard from the peer for a while.
    PathSilent,
    /// ICE or DTLS failed for good. The stack says which a moment later.
    ConnectionFailed,
    /// A channel does not take frames any more.
    ChannelFailed(String),
    /// The peer closed the connection.
    PeerClosed,
    /// A channel of ours is open.
    Opened,
    /// The peer did something that no honest peer does.
    Foreign(&'static str),
}

/// The stack's callbacks. They run on its driver and never wait.
pub(super) struct Handler {
    notes: mpsc::UnboundedSender<Note>,
    pace: Arc<Pace>,
}

impl Handler {
    pub(super) fn new(notes: mpsc::UnboundedSender<Note>, pace: Arc<Pace>) -> Self {
        Self { notes, pace }
    }

    fn note(&self, note: Note) {
        // The link's task ended: nobody is left to tell.
        let _ = self.notes.send(note);
    }
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        match event.candidate.to_json() {
            Ok(init) => self.note(Note::Candidate(init.candidate)),
            Err(error) => tracing::debug!(%error, "a local candidate could not be written"),
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.note(Note::Gathered);
        }
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        self.pace.note_change();
        let note = match state {
            RTCIceConnectionState::Connected | RTCIceConnectionState::Completed => Note::PathFound,
            RTCIceConnectionState::Disconnected => Note::PathSilent,
            RTCIceConnectionState::Unspecified
            | RTCIceConnectionState::New
            | RTCIceConnectionState::Checking
            | RTCIceConnectionState::Failed
            | RTCIceConnectionState::Closed
            | _ => return,
        };
        self.note(note);
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.pace.note_change();
        if state == RTCPeerConnectionState::Failed {
            self.note(Note::ConnectionFailed);
        } else if state == RTCPeerConnectionState::Closed {
            self.note(Note::PeerClosed);
        }
    }

    async fn on_data_channel(&self, _: Arc<dyn DataChannel>) {
        self.note(Note::Foreign("a data channel of its own"));
    }

    async fn on_track(&self, _: Arc<dyn TrackRemote>) {
        self.note(Note::Foreign("a media track"));
    }
}
