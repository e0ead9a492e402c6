//! A WebSocket of the browser, with its callbacks turned into a queue.

use js_sys::JsString;
use tokio::sync::mpsc;
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};
use web_sys::{CloseEvent, MessageEvent, WebSocket};

use super::super::envelope::MAX_FRAME;
use crate::shell::words;

/// Messages that may wait for the session. A page cannot hold a server up: one that sends more is left.
const QUEUE: usize = 1_024;

/// Bytes that may wait for the network before the session is made to wait.
const MAX_UNSENT: u32 = 64 << 10;

/// What a socket has to tell.
pub(super) enum Incoming {
    /// It is open.
    Open,
    /// A text message.
    Text(String),
    /// A message that no envelope is.
    Foreign(&'static str),
    /// It is closed: the last. With the code and reason of the server, if it gave any.
    Closed(Option<(u16, String)>),
}

/// A WebSocket. Dropping it closes it, after what was sent.
pub(super) struct Socket {
    socket: WebSocket,
    incoming: mpsc::Receiver<Incoming>,
    _callbacks: Callbacks,
}

struct Callbacks {
    _open: Closure<dyn FnMut()>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _close: Closure<dyn FnMut(CloseEvent)>,
}

impl Socket {
    /// # Errors
    /// Why the browser does not even try, in words.
    pub(super) fn open(url: &str) -> Result<Self, String> {
        let socket = WebSocket::new(url).map_err(|error| words(&error))?;
        let (tell, incoming) = mpsc::channel(QUEUE);
        let callbacks = Callbacks::install(&socket, &tell);
        Ok(Self {
            socket,
            incoming,
            _callbacks: callbacks,
        })
    }

    /// What happens next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Incoming {
        self.incoming.recv().await.unwrap_or(Incoming::Closed(None))
    }

    /// # Errors
    /// Why it cannot be sent, in words.
    pub(super) fn send(&self, text: &str) -> Result<(), String> {
        self.socket
            .send_with_str(text)
            .map_err(|error| words(&error))
    }

    /// Whether little waits for the network.
    pub(super) fn is_writable(&self) -> bool {
        self.socket.buffered_amount() <= MAX_UNSENT
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        // Fails for codes and reasons that are not allowed: none is given.
        let _ = self.socket.close();
    }
}

impl Callbacks {
    fn install(socket: &WebSocket, tell: &mpsc::Sender<Incoming>) -> Self {
        let teller = |tell: &mpsc::Sender<Incoming>| {
            let (tell, socket) = (tell.clone(), socket.clone());
            move |incoming| {
                if tell.try_send(incoming).is_err() {
                    let _ = socket.close();
                }
            }
        };
        let told = teller(tell);
        let open = Closure::<dyn FnMut()>::new(move || told(Incoming::Open));
        let told = teller(tell);
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            told(read(&event.data()));
        });
        let told = teller(tell);
        let close = Closure::<dyn FnMut(CloseEvent)>::new(move |event: CloseEvent| {
            // 1005 and 1006 stand for a close without a code, and for no close at all.
            let frame = !matches!(event.code(), 1_005 | 1_006);
            told(Incoming::Closed(
                frame.then(|| (event.code(), event.reason())),
            ));
        });
        socket.set_onopen(Some(open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(close.as_ref().unchecked_ref()));
        Self {
            _open: open,
            _message: message,
            _close: close,
        }
    }
}

fn read(data: &JsValue) -> Incoming {
    let Some(text) = data.dyn_ref::<JsString>() else {
        return Incoming::Foreign("a binary message");
    };
    if usize::try_from(text.length()).is_ok_and(|length| length > MAX_FRAME) {
        return Incoming::Foreign("a frame that is too long");
    }
    Incoming::Text(String::from(text))
}
