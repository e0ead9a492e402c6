//! How a peer connection is made: the configuration, the channels, the local description.

use std::rc::Rc;

use js_sys::{Array, Reflect};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    RtcConfiguration, RtcDataChannel, RtcDataChannelInit, RtcDataChannelType, RtcIceServer,
    RtcIceTransportPolicy, RtcPeerConnection, RtcSdpType, RtcSessionDescriptionInit,
};

use super::callbacks::{Callbacks, Inbox, silence};
use crate::{
    config::{CandidatePolicy, IceServer},
    protocol::sdp::strip_candidates,
    shell::words,
    transport::{ChannelSpec, LinkOptions, LinkRole, Reliability, TransportError},
};

/// A peer connection. Dropping it closes it.
pub(super) struct Connection {
    pub(super) stack: RtcPeerConnection,
    _callbacks: Callbacks,
}

/// A connection and what is needed to keep it going.
pub(super) struct Stack {
    pub(super) connection: Connection,
    pub(super) channels: Vec<(u8, RtcDataChannel)>,
    /// The local description without candidates.
    pub(super) sdp: String,
}

impl Stack {
    /// Makes the channels and then the description, which starts the gathering.
    pub(super) async fn start(
        options: &LinkOptions,
        role: &LinkRole,
        inbox: &Rc<Inbox>,
    ) -> Result<Self, TransportError> {
        let stack = RtcPeerConnection::new_with_configuration(&configuration(options));
        let stack = stack.map_err(|error| setup(&error))?;
        let mut callbacks = Callbacks::default();
        callbacks.watch(&stack, inbox);
        let channels = options.channels.iter().map(|spec| {
            let channel = channel(&stack, *spec);
            callbacks.watch_channel(spec.id, &channel, inbox);
            (spec.id, channel)
        });
        let channels = channels.collect();
        let connection = Connection {
            stack,
            _callbacks: callbacks,
        };
        let sdp = describe(&connection.stack, role).await?;
        Ok(Self {
            connection,
            channels,
            sdp,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        silence(&self.stack);
        self.stack.close();
    }
}

/// Gives an offerer the peer's answer, without candidates: those travel apart.
pub(super) async fn accept_answer(
    connection: &RtcPeerConnection,
    answer: &str,
) -> Result<(), TransportError> {
    set_remote(connection, RtcSdpType::Answer, answer).await
}

//
fn channel(connection: &RtcPeerConnection, spec: ChannelSpec) -> RtcDataChannel {
    let init = RtcDataChannelInit::new();
    init.set_negotiated(true);
    init.set_id(u16::from(spec.id));
    if spec.reliability == Reliability::Lossy {
        init.set_ordered(false);
        init.set_max_retransmits(0);
    }
    let channel = connection.create_data_channel_with_data_channel_dict("", &init);
    channel.set_binary_type(RtcDataChannelType::Arraybuffer);
    channel
}

async fn describe(
    connection: &RtcPeerConnection,
    role: &LinkRole,
) -> Result<String, TransportError> {
    let (kind, description) = match role {
        LinkRole::Offerer => (RtcSdpType::Offer, connection.create_offer()),
        LinkRole::Answerer { offer } => {
            set_remote(connection, RtcSdpType::Offer, offer).await?;
            (RtcSdpType::Answer, connection.create_answer())
        }
    };
    let description = JsFuture::from(description).await;
    let description = description.map_err(|error| setup(&error))?;
    let sdp = Reflect::get(&description, &JsValue::from_str("sdp")).ok();
    let sdp = sdp.and_then(|sdp| sdp.as_string()).unwrap_or_default();
    let local = RtcSessionDescriptionInit::new(kind);
    local.set_sdp(&sdp);
    let set = JsFuture::from(connection.set_local_description(&local)).await;
    set.map_err(|error| setup(&error))?;
    Ok(strip_candidates(&sdp))
}

async fn set_remote(
    connection: &RtcPeerConnection,
    kind: RtcSdpType,
    sdp: &str,
) -> Result<(), TransportError> {
    let remote = RtcSessionDescriptionInit::new(kind);
    remote.set_sdp(&strip_candidates(sdp));
    let set = JsFuture::from(connection.set_remote_description(&remote)).await;
    set.map_err(|error| TransportError::Description(words(&error)))?;
    Ok(())
}

fn configuration(options: &LinkOptions) -> RtcConfiguration {
    let servers: Array = options.ice_servers.iter().map(server).collect();
    let configuration = RtcConfiguration::new();
    configuration.set_ice_servers(&servers);
    configuration.set_ice_transport_policy(match options.candidates {
        CandidatePolicy::All => RtcIceTransportPolicy::All,
        CandidatePolicy::RelayOnly => RtcIceTransportPolicy::Relay,
    });
    configuration
}

fn server(server: &IceServer) -> RtcIceServer {
    let init = RtcIceServer::new();
    init.set_urls_str(&server.url);
    init.set_username(&server.username);
    init.set_credential(&server.credential);
    init
}

fn setup(error: &JsValue) -> TransportError {
    TransportError::Setup(words(error))
}
