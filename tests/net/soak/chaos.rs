//! What is done to the network and to the server.

use std::{net::SocketAddr, time::Duration};

use sealwire::server::Server;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::super::{
    lossy_relay::{Conditions, LossyRelay},
    lossy_transport::LossyTransport,
};

/// The same every run, for one seed.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// A signaling server that restarts on its port.
pub(super) struct Signaling {
    pub(super) address: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Signaling {
    pub(super) async fn start() -> Self {
        let mut signaling = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            running: None,
        };
        signaling.go_on().await;
        signaling
    }

    async fn go_on(&mut self) {
        let server = Server::bind(self.address).await.unwrap();
        self.address = server.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        self.running = Some((stop, task));
    }

    async fn stop(&mut self) {
        if let Some((stop, task)) = self.running.take() {
            stop.send(()).unwrap();
            task.await.unwrap();
        }
    }
}

/// What is done to the network, until the time is over. It ends well again.
pub(super) async fn chaos(
    mut chance: Chance,
    until: Instant,
    relay: &LossyRelay,
    sides: [&LossyTransport; 2],
    signaling: &mut Signaling,
) -> [u32; 4] {
    let mut done = [0; 4];
    while Instant::now() < until {
        let kind = chance.below(6) as usize;
        match kind {
            0 => sides[chance.below(2) as usize].cut(),
            1 => {
                relay.set_conditions(Conditions::PARTITION);
                sleep(chance.millis(100, 6_000)).await;
                relay.set_conditions(Conditions::PERFECT);
            }
            2 => {
                signaling.stop().await;
                sleep(chance.millis(0, 3_000)).await;
                // Half of the time somebody needs it just then.
                if chance.below(2) == 0 {
                    sides[chance.below(2) as usize].cut();
                }
                sleep(chance.millis(0, 1_000)).await;
                signaling.go_on().await;
            }
            _ => {
                let loss_percent = [0.0, 1.0, 5.0, 20.0][chance.below(4) as usize];
                relay.set_conditions(Conditions {
                    loss_percent,
                    delay: chance.millis(0, 40),
                    jitter: chance.millis(0, 5),
                });
            }
        }
        done[kind.min(3)] += 1;
        sleep(chance.millis(500, 8_000)).await;
    }
    relay.set_conditions(Conditions::PERFECT);
    done
}
