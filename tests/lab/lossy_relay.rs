//! A UDP relay that loses and delays datagrams, in both directions, by a seed: what kernels with `netem` do.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::UdpSocket,
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Clients that are relayed for; further ones are not heard.
const MAX_CLIENTS: usize = 16;

/// What a relay does to datagrams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lossy {
    /// Of a thousand datagrams, how many are lost.
    pub(crate) loss_per_mille: u64,
    /// How long each datagram is on its way, one way.
    pub(crate) delay: Duration,
    pub(crate) seed: u64,
}

impl Lossy {
    /// Relays between whoever sends to `listen` and `server`, which sees each client at a port of its own.
    pub(crate) async fn run(self, listen: UdpSocket, server: SocketAddr) -> std::io::Result<()> {
        let listen = Arc::new(listen);
        let mut clients = HashMap::new();
        let mut buffer = vec![0; 65_536];
        loop {
            // What ICMP said of an answer is the client's affair.
            let Ok((length, client)) = listen.recv_from(&mut buffer).await else {
                continue;
            };
            if !clients.contains_key(&client) {
                if clients.len() >= MAX_CLIENTS {
                    continue;
                }
                let up = UdpSocket::bind((server_side(server), 0)).await?;
                up.connect(server).await?;
                let up = Arc::new(up);
                let seed = self.seed.wrapping_add(clients.len() as u64);
                tokio::spawn(self.answers(Arc::clone(&up), Arc::clone(&listen), client, seed));
                clients.insert(
                    client,
                    self.line(seed ^ u64::MAX, move |datagram: Vec<u8>| {
                        let up = Arc::clone(&up);
                        async move {
                            let _ = up.send(&datagram).await;
                        }
                    }),
                );
            }
            let _ = clients[&client].send(buffer[..length].to_vec());
        }
    }

    async fn answers(
        self,
        up: Arc<UdpSocket>,
        listen: Arc<UdpSocket>,
        client: SocketAddr,
        seed: u64,
    ) {
        let line = self.line(seed, move |datagram: Vec<u8>| {
            let listen = Arc::clone(&listen);
            async move {
                let _ = listen.send_to(&datagram, client).await;
            }
        });
        let mut buffer = vec![0; 65_536];
        loop {
            if let Ok(length) = up.recv(&mut buffer).await {
                let _ = line.send(buffer[..length].to_vec());
            }
        }
    }

    /// One direction: what is put in and not lost comes out later, in order.
    fn line<F>(
        self,
        mut seed: u64,
        send: impl Fn(Vec<u8>) -> F + Send + 'static,
    ) -> mpsc::UnboundedSender<Vec<u8>>
    where
        F: Future<Output = ()> + Send,
    {
        let (entry, mut datagrams) = mpsc::unbounded_channel();
        let (kept, mut late) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(datagram) = datagrams.recv().await {
                if next(&mut seed) % 1_000 >= self.loss_per_mille {
                    let _ = kept.send((Instant::now() + self.delay, datagram));
                }
            }
        });
        tokio::spawn(async move {
            while let Some((at, datagram)) = late.recv().await {
                sleep_until(at).await;
                send(datagram).await;
            }
        });
        entry
    }
}

/// The address from which the server is asked: one of this machine's, chosen by the kernel.
fn server_side(server: SocketAddr) -> std::net::IpAddr {
    match server {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
