//! `ConnectOptions`, and how an attempt is given up.

use std::time::Duration;

use js_sys::{Array, Function, Reflect};
use sealwire::{
    CandidatePolicy, Config, IceServer, PlainSignaling,
    session::{Bodies, Builder, ChannelKind, StreamLimits},
};
use tokio::sync::oneshot;
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};

use crate::{
    error::misuse,
    history::ArchiveValue,
    identity::peer_id,
    values::{field, flag, min_trust, text_field},
};

/// Applies the options to what is known of the meeting.
pub(crate) fn apply(mut builder: Builder, options: &JsValue) -> Result<Builder, JsValue> {
    builder = builder.config(config(options)?);
    if let Some(word) = text_field(options, "minTrust") {
        builder = builder.min_trust(min_trust(&word)?);
    }
    if let Some(key) = text_field(options, "pinned") {
        builder = builder.pinned(peer_id(&key)?);
    }
    if flag(options, "acceptUnknown") {
        builder = builder.accept_unknown();
    }
    if flag(options, "raw") {
        builder = builder.bodies(Bodies::Raw);
    }
    if let Some(limits) = streams(options) {
        builder = builder.streams_within(limits);
    }
    if let Some(archive) = field(options, "history") {
        let archive = archive.unchecked_into::<ArchiveValue>().share();
        let archive = archive.map_err(|_| misuse("history is an Archive"))?;
        builder = builder.history(archive.0);
        if flag(options, "requireHistory") {
            builder = builder.require_history();
        }
    }
    for channel in list(options, "channels")? {
        let label = text_field(&channel, "label");
        let label = label.ok_or_else(|| misuse("a channel needs a label"))?;
        let kind = match text_field(&channel, "kind").as_deref() {
            None | Some("reliable") => ChannelKind::Reliable,
            Some("lossy") => ChannelKind::Lossy,
            Some(_) => return Err(misuse("a channel is reliable or lossy")),
        };
        builder = builder.channel(label, kind);
    }
    Ok(builder)
}

/// `streams: true`, or what they may cost.
fn streams(options: &JsValue) -> Option<StreamLimits> {
    let wanted = field(options, "streams").filter(JsValue::is_truthy)?;
    let bytes = |name: &str| {
        let bytes = field(&wanted, name)?.as_f64()?;
        Some(bytes.max(0.0) as u64)
    };
    let mut limits = StreamLimits::default();
    if let Some(window) = bytes("window") {
        limits.window = u32::try_from(window).unwrap_or(u32::MAX);
    }
    limits.max_file = bytes("maxFile").unwrap_or(limits.max_file);
    Some(limits)
}

fn config(options: &JsValue) -> Result<Config, JsValue> {
    let mut config = Config::default();
    if flag(options, "plainSignaling") {
        config.plain_signaling = PlainSignaling::Anywhere;
    }
    if flag(options, "relayOnly") {
        config.candidates = CandidatePolicy::RelayOnly;
    }
    if let Some(wait) = field(options, "peerTimeout").and_then(|wait| wait.as_f64()) {
        let wait = Duration::try_from_secs_f64(wait / 1_000.0);
        config.timeouts.peer = wait.map_err(|_| misuse("peerTimeout is in milliseconds"))?;
    }
    for server in list(options, "iceServers")? {
        config.ice_servers.push(ice_server(&server)?);
    }
    Ok(config)
}

fn ice_server(server: &JsValue) -> Result<IceServer, JsValue> {
    let url = text_field(server, "urls").ok_or_else(|| misuse("an ICE server needs urls: text"))?;
    let (name, credential) = (
        text_field(server, "username"),
        text_field(server, "credential"),
    );
    Ok(match name {
        Some(name) => IceServer::turn(url, name, credential.unwrap_or_default()),
        None => IceServer::stun(url),
    })
}

fn list(options: &JsValue, name: &str) -> Result<Vec<JsValue>, JsValue> {
    let Some(value) = field(options, name) else {
        return Ok(Vec::new());
    };
    match value.dyn_into::<Array>() {
        Ok(list) => Ok(list.iter().collect()),
        Err(_) => Err(misuse(&format!("{name} is a list"))),
    }
}

/// The `AbortSignal` of an attempt.
pub(crate) struct Abort {
    signal: Option<(JsValue, Closure<dyn FnMut()>)>,
    told: oneshot::Receiver<()>,
    /// Kept where there is no signal, so that nothing is told.
    _quiet: Option<oneshot::Sender<()>>,
}

impl Abort {
    pub(crate) fn of(options: &JsValue) -> Self {
        let (tell, told) = oneshot::channel();
        let Some(signal) = field(options, "signal") else {
            return Self {
                signal: None,
                told,
                _quiet: Some(tell),
            };
        };
        if flag(&signal, "aborted") {
            let _ = tell.send(());
            return Self {
                signal: None,
                told,
                _quiet: None,
            };
        }
        let mut tell = Some(tell);
        let callback = Closure::<dyn FnMut()>::new(move || {
            if let Some(tell) = tell.take() {
                let _ = tell.send(());
            }
        });
        call(&signal, "addEventListener", &callback);
        Self {
            signal: Some((signal, callback)),
            told,
            _quiet: None,
        }
    }

    /// Waits until the caller gives up.
    pub(crate) async fn told(&mut self) {
        if (&mut self.told).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Drop for Abort {
    fn drop(&mut self) {
        if let Some((signal, callback)) = &self.signal {
            call(signal, "removeEventListener", callback);
        }
    }
}

fn call(signal: &JsValue, method: &str, callback: &Closure<dyn FnMut()>) {
    let method = Reflect::get(signal, &JsValue::from_str(method)).ok();
    if let Some(method) = method.and_then(|method| method.dyn_into::<Function>().ok()) {
        let _ = method.call2(signal, &JsValue::from_str("abort"), callback.as_ref());
    }
}
