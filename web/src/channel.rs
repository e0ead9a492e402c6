//! Channels beside the main one.

use std::rc::Rc;

use js_sys::Uint8Array;
use sealwire::session::{ChannelReceiver, ChannelSender, LossyReceiver, LossySender};
use tokio::sync::Mutex;
use wasm_bindgen::prelude::*;

use crate::{
    error::thrown,
    session::Delivery,
    values::{content, message},
};

/// Both ends of a reliable channel.
#[wasm_bindgen]
pub struct Channel {
    sender: ChannelSender,
    /// One call after the other takes from it.
    receiver: Rc<Mutex<ChannelReceiver>>,
}

/// Both ends of a lossy channel.
#[wasm_bindgen]
pub struct LossyChannel {
    sender: LossySender,
    receiver: Rc<Mutex<LossyReceiver>>,
}

impl Channel {
    pub(crate) fn new((sender, receiver): (ChannelSender, ChannelReceiver)) -> Self {
        let receiver = Rc::new(Mutex::new(receiver));
        Self { sender, receiver }
    }
}

impl LossyChannel {
    pub(crate) fn new((sender, receiver): (LossySender, LossyReceiver)) -> Self {
        let receiver = Rc::new(Mutex::new(receiver));
        Self { sender, receiver }
    }
}

#[wasm_bindgen]
impl Channel {
    /// Sends a message; waits while more than the peer's window is on its way.
    pub async fn send(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Content")] value: JsValue,
    ) -> Result<Delivery, JsValue> {
        let sent = self.sender.send(content(&value)?).await;
        sent.map(Delivery).map_err(thrown)
    }

    /// The next message; `undefined` once the session is over.
    #[wasm_bindgen(unchecked_return_type = "Message | undefined")]
    pub async fn recv(&self) -> Result<JsValue, JsValue> {
        match self.receiver.lock().await.recv().await {
            Some(received) => received.map(|received| message(&received)).map_err(thrown),
            None => Ok(JsValue::UNDEFINED),
        }
    }
}

#[wasm_bindgen]
impl LossyChannel {
    /// Sends bytes as they are, and never waits.
    pub fn send(&self, bytes: &[u8]) -> Result<(), JsValue> {
        self.sender.send(bytes.to_vec()).map_err(thrown)
    }

    /// The most bytes that one message can have.
    #[wasm_bindgen(getter, js_name = maxLength)]
    pub fn max_length(&self) -> usize {
        self.sender.max_len()
    }

    /// The next message that arrives; `undefined` once the session is over.
    #[wasm_bindgen(unchecked_return_type = "Uint8Array | undefined")]
    pub async fn recv(&self) -> JsValue {
        match self.receiver.lock().await.recv().await {
            Some(bytes) => Uint8Array::from(&bytes[..]).into(),
            None => JsValue::UNDEFINED,
        }
    }
}
