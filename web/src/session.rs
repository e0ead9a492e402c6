//! Sessions.

use sealwire::{
    CloseCode,
    protocol::Event,
    session::{Builder, Path, Session as Inner, State},
};
use wasm_bindgen::{JsCast as _, prelude::*};
use web_sys::{Blob, File};

use crate::{
    channel::{Channel, LossyChannel},
    contact::Contact,
    error::{aborted, from_contact, from_stream, misuse, thrown},
    event::event,
    file::{BlobSource, FileTransfer},
    history::Conversation,
    identity::{Identity, Invite},
    options::{self, Abort},
    stream::{IncomingOffer, StreamWriter},
    values::{content, object, trust},
};

/// An end-to-end encrypted session with one peer.
#[wasm_bindgen]
pub struct Session {
    inner: Inner,
    /// The short code that was shown last, for it cannot be made from what people type.
    shown: std::cell::Cell<Option<sealwire::ShortCode>>,
}

/// A message on its way.
#[wasm_bindgen]
pub struct Delivery(pub(crate) sealwire::session::Delivery);

#[wasm_bindgen]
impl Delivery {
    /// The id by which both sides know the message.
    #[wasm_bindgen(getter)]
    pub fn id(&self) -> String {
        self.0.id().to_string()
    }

    /// Resolves when the peer's host took the message.
    pub async fn delivered(&self) -> Result<(), JsValue> {
        self.0.delivered().await.map_err(thrown)
    }
}

/// Connects. Each of these resolves once both sides have proved their keys over the data channel.
#[wasm_bindgen]
impl Session {
    /// Waits for whoever redeems this invite of ours first.
    pub async fn invite(
        identity: &Identity,
        invite: &Invite,
        #[wasm_bindgen(unchecked_optional_param_type = "ConnectOptions")] options: JsValue,
    ) -> Result<Session, JsValue> {
        let builder = Inner::builder(identity.0.clone()).invite(invite.copy()?);
        connect(builder, options).await
    }

    /// Redeems somebody's invite. Look at `invite.server` before: that server learns this device's address.
    pub async fn redeem(
        identity: &Identity,
        invite: &Invite,
        #[wasm_bindgen(unchecked_optional_param_type = "ConnectOptions")] options: JsValue,
    ) -> Result<Session, JsValue> {
        let builder = Inner::builder(identity.0.clone()).redeem(invite.copy()?);
        connect(builder, options).await
    }

    /// Meets a contact, which makes the same call with its own.
    pub async fn contact(
        identity: &Identity,
        contact: &Contact,
        server: String,
        #[wasm_bindgen(unchecked_optional_param_type = "ConnectOptions")] options: JsValue,
    ) -> Result<Session, JsValue> {
        let builder = Inner::builder(identity.0.clone()).contact(&contact.0, server);
        connect(builder, options).await
    }

    /// Meets the first comer in a room: `acceptUnknown` or `pinned` must be given, and safety numbers compared.
    pub async fn room(
        identity: &Identity,
        name: String,
        server: String,
        #[wasm_bindgen(unchecked_optional_param_type = "ConnectOptions")] options: JsValue,
    ) -> Result<Session, JsValue> {
        let builder = Inner::builder(identity.0.clone()).room(name, server);
        connect(builder, options).await
    }
}

async fn connect(builder: Builder, options: JsValue) -> Result<Session, JsValue> {
    let builder = options::apply(builder, &options)?;
    let mut abort = Abort::of(&options);
    let inner = tokio::select! {
        () = abort.told() => return Err(aborted()),
        inner = builder.connect() => inner.map_err(thrown)?,
    };
    Ok(Session {
        inner,
        shown: std::cell::Cell::new(None),
    })
}

/// Messages and events.
#[wasm_bindgen]
impl Session {
    /// Queues a message; waits while more than the peer's window (8 MiB) is on its way.
    pub async fn send(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Content")] value: JsValue,
    ) -> Result<Delivery, JsValue> {
        let sent = self.inner.send(content(&value)?).await;
        sent.map(Delivery).map_err(thrown)
    }

    /// The next thing that happened; `undefined` once the session is over. A message is acknowledged to the peer when
    /// it is returned. `for await (const event of session)` does the same.
    #[wasm_bindgen(unchecked_return_type = "SessionEvent | undefined")]
    pub async fn next(&self) -> JsValue {
        let Some(next) = self.inner.next().await else {
            return JsValue::UNDEFINED;
        };
        if let Event::ShortCode { code } = &next {
            self.shown.set(Some(*code));
        }
        event(&next)
    }

    /// Changes all keys; resolves once the peer sends under the new ones.
    pub async fn rekey(&self) -> Result<(), JsValue> {
        self.inner.rekey().await.map_err(thrown)
    }

    /// Gives the transport up without ending the session.
    pub async fn suspend(&self) -> Result<(), JsValue> {
        self.inner.suspend().await.map_err(thrown)
    }

    /// Ends `suspend`, and resolves once the session is connected.
    pub async fn resume(&self) -> Result<(), JsValue> {
        self.inner.resume().await.map_err(thrown)
    }

    /// Ends the session: waits until the peer took everything (5 s at most), and says goodbye.
    pub async fn close(&self) -> Result<(), JsValue> {
        self.inner.close().await.map_err(thrown)
    }

    /// `close` with a code of the application (64 to 127) and a reason for the peer, at once.
    #[wasm_bindgen(js_name = closeWith)]
    pub async fn close_with(&self, code: u8, reason: String) -> Result<(), JsValue> {
        let code = CloseCode::application(code);
        let code = code.ok_or_else(|| misuse("codes of the application are 64 to 127"))?;
        self.inner.close_with(code, &reason).await.map_err(thrown)
    }

    /// Goes on although the two histories differ (`history_diverged`): messages flow again, in chains that continue from
    /// what the peer holds. Where the peer found the difference as well, its host has to decide too.
    #[wasm_bindgen(js_name = acceptHistory)]
    pub fn accept_history(&self) {
        self.inner.accept_history();
    }

    /// Ends the session because the two histories differ.
    #[wasm_bindgen(js_name = refuseHistory)]
    pub async fn refuse_history(&self) -> Result<(), JsValue> {
        let code = CloseCode::HISTORY_DIVERGED;
        self.inner.close_with(code, "").await.map_err(thrown)
    }

    /// What was said with this peer, in this session and before; `undefined` without `history`.
    pub fn history(&self) -> Option<Conversation> {
        let history = self.inner.history()?;
        Some(Conversation {
            archive: history.archive().clone(),
            pair: history.pair(),
        })
    }

    /// Both ends of a channel that was declared; `undefined` when this side or the peer did not.
    pub fn channel(&self, label: &str) -> Option<Channel> {
        self.inner.channel(label).map(Channel::new)
    }

    /// `channel` for a lossy one.
    #[wasm_bindgen(js_name = lossyChannel)]
    pub fn lossy_channel(&self, label: &str) -> Option<LossyChannel> {
        self.inner.lossy_channel(label).map(LossyChannel::new)
    }
}

/// Streams and files: `streams` on both sides.
#[wasm_bindgen]
impl Session {
    /// Offers a stream of bytes under a name; resolves once the peer takes it. Up to 64 of each side can be open at once.
    #[wasm_bindgen(js_name = openStream)]
    pub async fn open_stream(&self, name: String) -> Result<StreamWriter, JsValue> {
        let writer = self.inner.open_stream(&name).await;
        writer.map(StreamWriter::new).map_err(from_stream)
    }

    /// Offers a file (a `Blob`) to the peer, whose host decides whether to take it; the rest goes on by itself. It is
    /// called as it is called, if it is a `File`, unless another name is given.
    #[wasm_bindgen(js_name = sendFile)]
    pub fn send_file(&self, file: Blob, name: Option<String>) -> Result<FileTransfer, JsValue> {
        let own = file.dyn_ref::<File>().map(File::name);
        let name = name.or(own).unwrap_or_default();
        let transfer = self.inner.send_source(&name, BlobSource(file));
        transfer.map(FileTransfer::new).map_err(from_stream)
    }

    /// The next stream or file that the peer offers, in order; `undefined` once there will be none. `for await (const offer
    /// of session.offers())` does the same.
    #[wasm_bindgen(js_name = nextOffer, unchecked_return_type = "IncomingOffer | undefined")]
    pub async fn next_offer(&self) -> JsValue {
        let offer = self.inner.next_offer().await;
        offer.map_or(JsValue::UNDEFINED, |offer| IncomingOffer::new(offer).into())
    }
}

/// Who the peer is.
#[wasm_bindgen]
impl Session {
    /// The peer's key: 64 hexadecimal digits.
    #[wasm_bindgen(getter)]
    pub fn peer(&self) -> String {
        self.inner.peer().to_string()
    }

    /// How well the peer is known.
    #[wasm_bindgen(getter, unchecked_return_type = "PeerTrust")]
    pub fn trust(&self) -> JsValue {
        trust(self.inner.trust())
    }

    /// Whether messages can travel now.
    #[wasm_bindgen(getter, unchecked_return_type = "State")]
    pub fn state(&self) -> JsValue {
        JsValue::from_str(match self.inner.state() {
            State::Connected => "connected",
            State::Suspended => "suspended",
            State::Ended => "ended",
            _ => "reconnecting",
        })
    }

    /// The number that both sides see, and nobody in between can bring about: twelve groups of five digits.
    #[wasm_bindgen(getter, js_name = safetyNumber)]
    pub fn safety_number(&self) -> String {
        self.inner.safety_number().to_string()
    }

    /// People compared the safety number, and this is what the other side read out: its 60 digits, spaces or not.
    pub fn confirm(&self, digits: &str) -> Result<(), JsValue> {
        let own = self.inner.safety_number();
        let digits: String = digits.chars().filter(|c| !c.is_whitespace()).collect();
        if digits != own.digits() {
            return Err(thrown(sealwire::Error::SafetyNumberDiffers));
        }
        self.inner.confirm(&own).map_err(thrown)
    }

    /// Asks for a short code: both sides then see a `short_code` event with the same three numbers.
    #[wasm_bindgen(js_name = compareCode)]
    pub fn compare_code(&self) {
        self.inner.compare_code();
    }

    /// People compared the short code, and these are the three numbers that the other side read out.
    #[wasm_bindgen(js_name = confirmCode)]
    pub fn confirm_code(&self, groups: &[u16]) -> Result<(), JsValue> {
        let shown = self.shown.get().filter(|shown| shown.groups() == groups);
        let shown = shown.ok_or_else(|| thrown(sealwire::Error::ShortCodeDiffers))?;
        self.inner.confirm_code(shown).map_err(thrown)
    }

    /// Asks the peer to be a contact, or agrees when it asked. `contact_made` comes when both did.
    #[wasm_bindgen(js_name = makeContact)]
    pub fn make_contact(&self) {
        self.inner.make_contact();
    }

    /// The peer as a contact to keep, under a label of the host's choice.
    #[wasm_bindgen(js_name = toContact)]
    pub fn to_contact(&self, label: &str) -> Result<Contact, JsValue> {
        let contact = self.inner.contact(label).map_err(from_contact)?;
        Ok(Contact(contact))
    }

    /// What protects this session, and what does not.
    #[wasm_bindgen(unchecked_return_type = "Security")]
    pub fn security(&self) -> JsValue {
        let security = self.inner.security();
        let path = match security.path {
            Path::Direct => "direct",
            Path::Relayed => "relayed",
            _ => "unknown",
        };
        object([
            ("trust", trust(security.trust)),
            ("path", JsValue::from_str(path)),
            ("fingerprintChecked", security.fingerprint_checked.into()),
            ("text", JsValue::from_str(&security.to_string())),
        ])
    }
}
