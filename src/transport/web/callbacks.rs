//! What the browser calls when something happens, turned into notes for the link's task.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use bytes::Bytes;
use js_sys::{ArrayBuffer, Uint8Array};
use tokio::sync::mpsc;
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};
use web_sys::{
    MessageEvent, RtcDataChannel, RtcIceGatheringState, RtcPeerConnection,
    RtcPeerConnectionIceEvent, RtcPeerConnectionState,
};

use crate::transport::{EventSender, NotTaken};

/// Bytes of frames that may come before the session may have them: READY is all that an honest peer sends.
const MAX_EARLY: usize = 1 << 20;

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
    /// ICE or DTLS failed for good.
    ConnectionFailed,
    /// The connection was closed by the browser.
    Closed,
    /// A channel of ours is open.
    Opened,
    /// Room for more on this channel.
    Writable(u8),
    /// A channel was closed.
    ChannelClosed,
    /// The peer did something that no honest peer does.
    Foreign(&'static str),
    /// The peer sends more than this page can hold.
    Flooded,
}

/// Where frames go: they wait for [`LinkEvent::Open`](crate::transport::LinkEvent::Open), which tells the session whom
/// they come from.
pub(super) struct Inbox {
    events: EventSender,
    notes: mpsc::UnboundedSender<Note>,
    is_open: Cell<bool>,
    early: RefCell<VecDeque<(u8, Bytes)>>,
    early_bytes: Cell<usize>,
    told_foreign: Cell<bool>,
}

impl Inbox {
    pub(super) fn new(events: EventSender, notes: mpsc::UnboundedSender<Note>) -> Rc<Self> {
        Rc::new(Self {
            events,
            notes,
            is_open: Cell::new(false),
            early: RefCell::default(),
            early_bytes: Cell::new(0),
            told_foreign: Cell::new(false),
        })
    }

    /// The session knows who the peer is: it may have frames.
    pub(super) fn release(&self) {
        for (channel, frame) in self.early.take() {
            self.give(channel, frame);
        }
        self.is_open.set(true);
    }

    fn note(&self, note: Note) {
        // The link's task ended: nobody is left to tell.
        let _ = self.notes.send(note);
    }

    /// Said once: a peer that does it once may do it a million times.
    fn note_foreign(&self, what: &'static str) {
        if !self.told_foreign.replace(true) {
            self.note(Note::Foreign(what));
        }
    }

    fn take(&self, channel: u8, data: &JsValue) {
        let Some(data) = data.dyn_ref::<ArrayBuffer>() else {
            return self.note_foreign("a text message");
        };
        let frame = Bytes::from(Uint8Array::new(data).to_vec());
        if self.is_open.get() {
            return self.give(channel, frame);
        }
        let bytes = self.early_bytes.get() + frame.len();
        self.early_bytes.set(bytes);
        if bytes > MAX_EARLY {
            return self.note(Note::Flooded);
        }
        self.early.borrow_mut().push_back((channel, frame));
    }

    fn give(&self, channel: u8, frame: Bytes) {
        match self.events.try_frame(channel, frame) {
            Ok(()) | Err(NotTaken::Dropped) => {}
            Err(NotTaken::Full) => self.note(Note::Flooded),
        }
    }
}

/// The callbacks of one connection and its channels, for as long as they may be called.
#[derive(Default)]
pub(super) struct Callbacks {
    plain: Vec<Closure<dyn FnMut()>>,
    candidates: Vec<Closure<dyn FnMut(RtcPeerConnectionIceEvent)>>,
    messages: Vec<Closure<dyn FnMut(MessageEvent)>>,
}

impl Callbacks {
    pub(super) fn watch(&mut self, connection: &RtcPeerConnection, inbox: &Rc<Inbox>) {
        let to = Rc::clone(inbox);
        let found = move |event: RtcPeerConnectionIceEvent| {
            // The browser says the end of a generation with an empty one.
            if let Some(candidate) = event.candidate().map(|found| found.candidate())
                && !candidate.is_empty()
            {
                to.note(Note::Candidate(candidate));
            }
        };
        let found = Closure::<dyn FnMut(RtcPeerConnectionIceEvent)>::new(found);
        connection.set_onicecandidate(Some(found.as_ref().unchecked_ref()));
        self.candidates.push(found);

        let (to, source) = (Rc::clone(inbox), connection.clone());
        connection.set_onicegatheringstatechange(Some(self.keep(move || {
            if source.ice_gathering_state() == RtcIceGatheringState::Complete {
                to.note(Note::Gathered);
            }
        })));
        let (to, source) = (Rc::clone(inbox), connection.clone());
        connection.set_onconnectionstatechange(Some(self.keep(move || {
            if let Some(note) = note_of(source.connection_state()) {
                to.note(note);
            }
        })));
        let to = Rc::clone(inbox);
        let channel = move || to.note_foreign("a data channel of its own");
        connection.set_ondatachannel(Some(self.keep(channel)));
        let to = Rc::clone(inbox);
        let track = move || to.note_foreign("a media track");
        connection.set_ontrack(Some(self.keep(track)));
    }

    pub(super) fn watch_channel(&mut self, id: u8, channel: &RtcDataChannel, inbox: &Rc<Inbox>) {
        let to = Rc::clone(inbox);
        channel.set_onopen(Some(self.keep(move || to.note(Note::Opened))));
        let to = Rc::clone(inbox);
        channel.set_onclose(Some(self.keep(move || to.note(Note::ChannelClosed))));
        let to = Rc::clone(inbox);
        let low = move || to.note(Note::Writable(id));
        channel.set_onbufferedamountlow(Some(self.keep(low)));

        let to = Rc::clone(inbox);
        let message = move |event: MessageEvent| to.take(id, &event.data());
        let message = Closure::<dyn FnMut(MessageEvent)>::new(message);
        channel.set_onmessage(Some(message.as_ref().unchecked_ref()));
        self.messages.push(message);
    }

    fn keep(&mut self, callback: impl FnMut() + 'static) -> &js_sys::Function {
        self.plain.push(Closure::new(callback));
        let kept = &self.plain[self.plain.len() - 1];
        kept.as_ref().unchecked_ref()
    }
}

/// Nobody calls any more.
pub(super) fn silence(connection: &RtcPeerConnection) {
    connection.set_onicecandidate(None);
    connection.set_onicegatheringstatechange(None);
    connection.set_onconnectionstatechange(None);
    connection.set_ondatachannel(None);
    connection.set_ontrack(None);
}

/// [`silence`] for a channel.
pub(super) fn silence_channel(channel: &RtcDataChannel) {
    channel.set_onopen(None);
    channel.set_onclose(None);
    channel.set_onbufferedamountlow(None);
    channel.set_onmessage(None);
}

fn note_of(state: RtcPeerConnectionState) -> Option<Note> {
    match state {
        RtcPeerConnectionState::Connected => Some(Note::PathFound),
        RtcPeerConnectionState::Disconnected => Some(Note::PathSilent),
        RtcPeerConnectionState::Failed => Some(Note::ConnectionFailed),
        RtcPeerConnectionState::Closed => Some(Note::Closed),
        RtcPeerConnectionState::New | RtcPeerConnectionState::Connecting | _ => None,
    }
}
