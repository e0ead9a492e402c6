//! Looks for what stands in the way: asks the signaling server, the room, and every STUN and TURN server.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, task::JoinSet, time::timeout};

use super::{
    Session, State, clock,
    diagnosis::{Diagnosis, Finding},
    driver::relays::{expiry, usable},
    joining::from_signaling,
    security::Security,
};
use crate::{
    config::{CandidatePolicy, Config, IceServer, ServerRelays},
    entropy::{OsEntropy, random},
    error::Error,
    ice_url::{IceUrl, IceWay},
    room::{EndpointId, RoomId},
    signaling::{Signaling, SignalingEvent},
    transport::{
        self,
        probe::{self, Mapping, Relay},
    },
};

/// How long the server's welcome may take once it let us in.
const WELCOME: Duration = Duration::from_secs(5);

/// The code by which our server refuses a token that is for another room: it is there, and takes the token.
const OTHER_ROOM: &str = "close_4017";

/// Servers that are asked, at most.
const MAX_SERVERS: usize = 16;

/// What a session has to do with outside of itself.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    signaling: Arc<dyn Signaling>,
    ice_servers: Vec<IceServer>,
    server_relays: ServerRelays,
    candidates: CandidatePolicy,
    patience: Duration,
}

/// What the signaling server told.
#[derive(Debug, Default)]
struct Server {
    peer_present: Option<bool>,
    offered: Vec<IceServer>,
    finding: Option<Finding>,
}

impl Session {
    /// Looks for what stands in the way of a connection, now: asks the signaling server, and every STUN and TURN server,
    /// from sockets of its own. It takes up to half a minute where things do not answer, and changes nothing. What went
    /// wrong last in this session is among the findings while it has no connection.
    ///
    /// # Cancel safety
    /// Dropped, the questions end by themselves.
    ///
    /// ```no_run
    /// # async fn example(session: sealwire::session::Session) {
    /// println!("{}", session.diagnose().await);
    /// # }
    /// ```
    pub async fn diagnose(&self) -> Diagnosis {
        let mut diagnosis = self.surroundings.clone().diagnose(None).await;
        let fault = self.shared.fault.last();
        match self.state() {
            State::Connected => diagnosis.path = Some(Security::of(self.facts()).path),
            State::Reconnecting | State::Suspended | State::Ended => {
                let finding = fault.as_ref().and_then(Finding::of);
                diagnosis.findings.splice(0..0, finding);
            }
        }
        diagnosis
    }
}

impl Surroundings {
    pub(super) fn new(signaling: Arc<dyn Signaling>, config: &Config) -> Self {
        Self {
            signaling,
            ice_servers: config.ice_servers.clone(),
            server_relays: config.server_relays,
            candidates: config.candidates,
            patience: config.timeouts.signaling,
        }
    }

    /// Asks everybody. With a room, also whether somebody is there.
    pub(super) async fn diagnose(self, room: Option<RoomId>) -> Diagnosis {
        let (done, diagnosis) = oneshot::channel();
        // On a thread of the crate: the host need not have the runtime that sockets need.
        transport::spawn(async move {
            // Nobody waits any more: nothing is lost.
            let _ = done.send(self.ask_everybody(room).await);
        });
        diagnosis.await.unwrap_or_default()
    }

    async fn ask_everybody(self, room: Option<RoomId>) -> Diagnosis {
        let server = self.ask_server(room).await;
        let mut servers = self.ice_servers.clone();
        servers.extend(server.offered.clone());
        servers.truncate(MAX_SERVERS);
        let (mut usable, mut findings) = (Vec::new(), Vec::new());
        for server in servers {
            match IceUrl::parse(&server.url) {
                Ok(url) => usable.push((server, url)),
                Err(reason) => findings.push(Finding::Misconfigured {
                    reason: format!("{:?}: {reason}", server.url),
                }),
            }
        }
        let urls: Vec<IceUrl> = usable.iter().map(|(_, url)| url.clone()).collect();
        let (mapping, relays) = tokio::join!(probe::mapping(&urls), ask_relays(usable));
        let mut diagnosis = Diagnosis {
            findings,
            peer_present: server.peer_present,
            ..Diagnosis::default()
        };
        self.judge(&mut diagnosis, server, &urls, &mapping, &relays);
        diagnosis.public_addresses = mapping.seen;
        diagnosis
    }

    /// Joins for a moment, as a stranger would.
    async fn ask_server(&self, room: Option<RoomId>) -> Server {
        let (place, endpoint) = (
            room.unwrap_or_else(|| RoomId(random(&mut OsEntropy))),
            EndpointId(random(&mut OsEntropy)),
        );
        let joined = timeout(self.patience, self.signaling.join(place, endpoint)).await;
        let error = match joined {
            Ok(Ok(mut membership)) => {
                let mut server = Server::default();
                while let Ok(Some(event)) = timeout(WELCOME, membership.next()).await {
                    match event {
                        SignalingEvent::IceServers(offered)
                            if self.server_relays == ServerRelays::Used =>
                        {
                            server.offered = usable(offered);
                        }
                        SignalingEvent::Welcome { peers } => {
                            server.peer_present = room.map(|_| !peers.is_empty());
                            break;
                        }
                        SignalingEvent::IceServers(_)
                        | SignalingEvent::Joined(_)
                        | SignalingEvent::Left(_)
                        | SignalingEvent::Message { .. }
                        | SignalingEvent::Error { .. }
                        | SignalingEvent::Lost(_) => {}
                    }
                }
                return server;
            }
            Ok(Err(error)) => from_signaling(error),
            Err(_) => Error::ServerUnreachable {
                server: self.signaling.describe(),
                reason: "no answer in time".to_owned(),
            },
        };
        let other_room = matches!(&error, Error::ServerRefused { code, .. } if code == OTHER_ROOM);
        let is_fine = room.is_none() && other_room;
        Server {
            finding: (!is_fine).then(|| Finding::of(&error)).flatten(),
            ..Server::default()
        }
    }

    fn judge(
        &self,
        diagnosis: &mut Diagnosis,
        server: Server,
        urls: &[IceUrl],
        mapping: &Mapping,
        relays: &[Asked],
    ) {
        let findings = &mut diagnosis.findings;
        findings.extend(server.finding);
        if server.peer_present == Some(false) {
            findings.push(Finding::PeerAbsent);
        }
        let works = |asked: &&Asked| matches!(asked.relay, Relay::Works(_));
        let tcp_works = relays
            .iter()
            .any(|asked| asked.over_tcp || (asked.url.way != IceWay::TurnUdp && asked.answered()));
        let udp_is_silent = mapping.asked > 0 && mapping.seen.is_empty();
        if urls.is_empty() {
            findings.push(Finding::NoIceServers);
        } else if udp_is_silent && tcp_works {
            findings.push(Finding::UdpBlocked);
        } else if udp_is_silent {
            findings.push(Finding::NoPublicAddress);
        } else if mapping.is_symmetric() {
            findings.push(Finding::SymmetricNat);
        }
        for asked in relays {
            findings.extend(asked.finding(udp_is_silent));
        }
        if relays.is_empty() && !urls.is_empty() {
            findings.push(Finding::NoRelay);
        }
        if self.candidates == CandidatePolicy::RelayOnly
            && !relays.iter().any(|asked| works(&asked))
        {
            findings.push(Finding::NothingToTell);
        }
        let working = relays.iter().filter(works);
        diagnosis.relays = working.map(|asked| asked.server.url.clone()).collect();
    }
}

/// A TURN server that was asked.
#[derive(Debug)]
struct Asked {
    server: IceServer,
    url: IceUrl,
    relay: Relay,
    /// It was silent over UDP, and answered over TCP.
    over_tcp: bool,
}

impl Asked {
    fn answered(&self) -> bool {
        matches!(self.relay, Relay::Works(_) | Relay::Refused(_))
    }

    fn finding(&self, udp_is_silent: bool) -> Option<Finding> {
        let url = self.server.url.clone();
        Some(match &self.relay {
            Relay::Works(_) => return None,
            Relay::Refused(code) => Finding::RelayRefused {
                url,
                code: *code,
                expired: *code == 401 && self.is_expired(),
            },
            Relay::Silent | Relay::Failed(_) if self.over_tcp => Finding::RelayOverTcpOnly { url },
            // Said once, of UDP as a whole.
            Relay::Silent if udp_is_silent && self.url.way == IceWay::TurnUdp => return None,
            Relay::Silent => Finding::RelayUnreachable {
                url,
                reason: String::new(),
            },
            Relay::Failed(reason) => Finding::RelayUnreachable {
                url,
                reason: reason.clone(),
            },
        })
    }

    fn is_expired(&self) -> bool {
        expiry(&self.server.username).is_some_and(|at| at <= clock::unix_ms() / 1_000)
    }
}

/// All at once. Those that are silent over UDP are asked over TCP, to tell what would help.
async fn ask_relays(servers: Vec<(IceServer, IceUrl)>) -> Vec<Asked> {
    let mut asking = JoinSet::new();
    let turn = servers
        .into_iter()
        .filter(|(_, url)| url.way != IceWay::Stun);
    for (place, (server, url)) in turn.enumerate() {
        asking.spawn(async move { (place, ask_relay(server, url).await) });
    }
    let mut asked: Vec<(usize, Asked)> = Vec::new();
    while let Some(answer) = asking.join_next().await {
        asked.extend(answer.ok());
    }
    asked.sort_by_key(|(place, _)| *place);
    asked.into_iter().map(|(_, asked)| asked).collect()
}

async fn ask_relay(server: IceServer, url: IceUrl) -> Asked {
    let relay = probe::relay(&server, &url).await;
    let mut asked = Asked {
        server,
        url,
        relay,
        over_tcp: false,
    };
    if asked.url.way == IceWay::TurnUdp && !asked.answered() {
        let way = IceWay::TurnTcp;
        let tcp = IceUrl {
            way,
            ..asked.url.clone()
        };
        let over_tcp = probe::relay(&asked.server, &tcp).await;
        asked.over_tcp = matches!(over_tcp, Relay::Works(_) | Relay::Refused(_));
    }
    asked
}
