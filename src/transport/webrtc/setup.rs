//! How a peer connection is made: every setting with its reason, the channels, the local description.

use std::{sync::Arc, time::Duration};

use ::webrtc::{
    data_channel::{DataChannel, RTCDataChannelInit},
    error::Error,
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, RTCConfiguration, RTCConfigurationBuilder,
        RTCIceServer, RTCIceTransportPolicy, RTCSessionDescription, SettingEngine,
        SettingEngineBuilder,
    },
};
use rtc::{ice::mdns::MulticastDnsMode, peer_connection::transport::RTCDtlsRole};
use tokio::sync::mpsc;

use super::{
    super::runtime::{Pace, StackRuntime},
    handler::{Handler, Note},
};
use crate::{
    config::{CandidatePolicy, IceServer},
    protocol::sdp::strip_candidates,
    transport::{ChannelSpec, LinkOptions, LinkRole, Reliability, TransportError},
};

/// A wildcard becomes one socket per interface, loopback excluded: so loopback is named.
const ADDRESSES: [&str; 3] = ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"];

/// Silence and connecting share this limit in the stack, which counts connecting from the remote description. The
/// peer's candidates may follow only after its handshake, so connecting gets 27 s; silence is cut short by
/// [`Watch::grace`].
const GIVEN_UP_AFTER: Duration = Duration::from_secs(25);

/// How closely a path is watched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    /// Silence after which the stack reports the path silent.
    silent_after: Duration,
    /// How long a silent path may then recover before the link is given up.
    pub(super) grace: Duration,
    /// Between two proofs of life: one lost packet does not make the path silent.
    keepalive: Duration,
}

impl Watch {
    /// For a link that is lost after this silence.
    pub(super) fn new(lost_after: Duration) -> Self {
        let lost_after = lost_after.clamp(Duration::from_millis(500), GIVEN_UP_AFTER);
        let silent_after = Duration::from_secs(2).min(lost_after / 2);
        Self {
            silent_after,
            grace: lost_after - silent_after,
            keepalive: silent_after / 2,
        }
    }
}

/// Between two checks of a pair.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// Checks of a pair until it is out, for good. The default of 7 (1.4 s) is over before a peer behind a NAT, which learns
/// our candidates only with the last handshake message, sends its first check; the protocol allows 10 s for that.
const CHECKS: u16 = 60;

/// How long a better kind of path is waited for. Where a server tells the peer's address, a direct one is found first
/// if there is one; a peer-reflexive one is direct. (Relayed: 2 s, the stack's default.)
const REFLEXIVE_WAIT: Duration = Duration::from_millis(50);

/// A peer connection and what is needed to keep it going.
pub(super) struct Stack {
    pub(super) connection: Arc<dyn PeerConnection>,
    pub(super) channels: Vec<(u8, Arc<dyn DataChannel>)>,
    pub(super) notes: mpsc::UnboundedReceiver<Note>,
    /// For the tasks that read the channels.
    pub(super) noting: mpsc::UnboundedSender<Note>,
    /// The local description without candidates.
    pub(super) sdp: String,
    pub(super) pace: Arc<Pace>,
}

impl Stack {
    /// Binds the sockets, makes the channels and then the description, which starts the gathering.
    pub(super) async fn start(
        options: &LinkOptions,
        role: &LinkRole,
    ) -> Result<Self, TransportError> {
        warn_of_unsupported(&options.ice_servers);
        let (noting, notes) = mpsc::unbounded_channel();
        let pace = Pace::new();
        let connection = PeerConnectionBuilder::new()
            .with_configuration(configuration(options))
            .with_setting_engine(settings(options))
            .with_handler(Arc::new(Handler::new(noting.clone(), Arc::clone(&pace))))
            .with_runtime(Arc::new(StackRuntime::new(Arc::clone(&pace))))
            .with_udp_addrs(ADDRESSES.to_vec())
            // Our runtime has no reactor pool; this makes dropping the connection stop its driver and free its sockets.
            .with_dedicated_reactor_pool_size(1)
            .build()
            .await
            .map_err(setup)?;
        let connection: Arc<dyn PeerConnection> = Arc::new(connection);
        let channels = channels(&*connection, &options.channels)
            .await
            .map_err(setup)?;
        let sdp = describe(&*connection, role).await?;
        Ok(Self {
            connection,
            channels,
            notes,
            noting,
            sdp,
            pace,
        })
    }
}

/// Gives an offerer the peer's answer, without candidates: those travel apart.
pub(super) async fn accept_answer(
    connection: &dyn PeerConnection,
    answer: &str,
) -> Result<(), TransportError> {
    let answer = RTCSessionDescription::answer(strip_candidates(answer)).map_err(refused)?;
    connection
        .set_remote_description(answer)
        .await
        .map_err(refused)
}

async fn channels(
    connection: &dyn PeerConnection,
    specs: &[ChannelSpec],
) -> Result<Vec<(u8, Arc<dyn DataChannel>)>, Error> {
    let mut channels = Vec::with_capacity(specs.len());
    for spec in specs {
        let is_reliable = spec.reliability == Reliability::Reliable;
        //
        let init = RTCDataChannelInit {
            ordered: is_reliable,
            max_retransmits: (!is_reliable).then_some(0),
            negotiated: Some(u16::from(spec.id)),
            ..RTCDataChannelInit::default()
        };
        channels.push((
            spec.id,
            connection.create_data_channel("", Some(init)).await?,
        ));
    }
    Ok(channels)
}

async fn describe(
    connection: &dyn PeerConnection,
    role: &LinkRole,
) -> Result<String, TransportError> {
    let description = match role {
        LinkRole::Offerer => connection.create_offer(None).await.map_err(setup)?,
        LinkRole::Answerer { offer } => {
            let offer = RTCSessionDescription::offer(strip_candidates(offer)).map_err(refused)?;
            connection
                .set_remote_description(offer)
                .await
                .map_err(refused)?;
            connection.create_answer(None).await.map_err(refused)?
        }
    };
    let sdp = strip_candidates(&description.sdp);
    connection
        .set_local_description(description)
        .await
        .map_err(setup)?;
    Ok(sdp)
}

/// The stack ignores them without a word.
fn warn_of_unsupported(servers: &[IceServer]) {
    let is_unsupported = |server: &&IceServer| {
        let IceServer { url, .. } = server;
        url.starts_with("turns:") || url.starts_with("stuns:") || url.contains("transport=tcp")
    };
    let unsupported = servers.iter().filter(is_unsupported).count();
    if unsupported > 0 {
        tracing::warn!(
            unsupported,
            "STUN and TURN work over UDP only: some servers are not used"
        );
    }
}

fn configuration(options: &LinkOptions) -> RTCConfiguration {
    let server = |server: &IceServer| RTCIceServer {
        urls: vec![server.url.clone()],
        username: server.username.clone(),
        credential: server.credential.clone(),
    };
    let policy = match options.candidates {
        CandidatePolicy::All => RTCIceTransportPolicy::All,
        CandidatePolicy::RelayOnly => RTCIceTransportPolicy::Relay,
    };
    RTCConfigurationBuilder::new()
        .with_ice_servers(options.ice_servers.iter().map(server).collect())
        .with_ice_transport_policy(policy)
        .build()
}

/// The largest message stays at the default: 65 536 both ways.
fn settings(options: &LinkOptions) -> SettingEngine {
    let watch = Watch::new(options.lost_after);
    let settings = SettingEngineBuilder::new()
        .with_ice_timeouts(
            Some(watch.silent_after),
            Some(GIVEN_UP_AFTER),
            Some(watch.keepalive),
        )
        .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(CHECKS))
        .with_host_acceptance_min_wait(Some(Duration::ZERO))
        .with_prflx_acceptance_min_wait(Some(Duration::ZERO))
        .with_srflx_acceptance_min_wait(Some(REFLEXIVE_WAIT))
        .with_answering_dtls_role(RTCDtlsRole::Client)
        // A socket on the shared port 5353 per connection, and one more thing that can fail to bind.
        .with_multicast_dns_mode(MulticastDnsMode::Disabled);
    match options.candidates {
        CandidatePolicy::All => settings.build(),
        // There is nothing better to wait for.
        CandidatePolicy::RelayOnly => settings
            .with_relay_acceptance_min_wait(Some(Duration::ZERO))
            .build(),
    }
}

fn setup(error: Error) -> TransportError {
    TransportError::Setup(error.to_string())
}

fn refused(error: Error) -> TransportError {
    TransportError::Description(error.to_string())
}
