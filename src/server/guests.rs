//! Who is connected from where: what one address, and all together, may hold. Freed with the last thing it holds.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use super::{limits::ServerLimits, metrics::Refused, quota::Quota};

/// Addresses up to which the memory of the table is kept.
const KEPT: usize = 64;

/// All addresses with connections or rooms.
#[derive(Debug, Default)]
pub(super) struct Guests {
    state: Mutex<State>,
    /// Told when the last connection ends.
    gone: Notify,
}

#[derive(Debug, Default)]
struct State {
    connections: usize,
    rooms: usize,
    addresses: HashMap<Address, Holdings>,
}

/// What one address holds.
#[derive(Debug, Default)]
struct Holdings {
    connections: usize,
    rooms: usize,
    joins: Quota,
}

/// Those who count as one: an IPv4 address, or the /64 that a household with IPv6 has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Address(u64);

/// A connection that is counted. Dropping it uncounts it.
#[derive(Debug)]
pub(super) struct Visit {
    guests: Arc<Guests>,
    address: Option<Address>,
}

/// A room that is counted. Dropping it uncounts it.
#[derive(Debug)]
pub(super) struct Lease {
    guests: Arc<Guests>,
    address: Option<Address>,
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            // No host has the prefix ::/64, so the two kinds do not meet.
            IpAddr::V4(address) => Self(u64::from(address.to_bits())),
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64),
        }
    }
}

impl Guests {
    /// Counts a connection; its address is known only later behind a proxy.
    ///
    /// # Errors
    /// Which limit is reached.
    pub(super) fn enter(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        limits: &ServerLimits,
    ) -> Result<Visit, Refused> {
        let mut state = self.state();
        if state.connections >= limits.connections {
            return Err(Refused::Connections);
        }
        let address = address.map(Address::from);
        if let Some(address) = address {
            state.count(address, limits)?;
        }
        state.connections += 1;
        Ok(Visit {
            guests: Arc::clone(self),
            address,
        })
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.state().connections
    }

    /// How many addresses have a connection or a room.
    pub(super) fn addresses(&self) -> usize {
        self.state().addresses.len()
    }

    /// How many rooms have members.
    pub(super) fn rooms(&self) -> usize {
        self.state().rooms
    }

    /// Forgets the addresses that hold nothing any more.
    pub(super) fn prune(&self, now: Instant) {
        let mut state = self.state();
        state.addresses.retain(|_, held| !held.is_nothing(now));
        state.shrink();
    }

    /// Waits until there are no connections.
    pub(super) async fn all_gone(&self) {
        loop {
            let gone = self.gone.notified();
            if self.connections() == 0 {
                return;
            }
            gone.await;
        }
    }

    /// Nothing that can panic runs half way through a change, so a poisoned lock would still guard sound numbers.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, address: Address, limits: &ServerLimits) -> Result<(), Refused> {
        let holdings = self.addresses.entry(address).or_default();
        if holdings.connections >= limits.connections_per_address {
            return Err(Refused::ConnectionsPerAddress);
        }
        holdings.connections += 1;
        Ok(())
    }

    /// Forgets an address that holds nothing.
    fn tidy(&mut self, address: Address) {
        let now = super::now();
        if self
            .addresses
            .get(&address)
            .is_some_and(|held| held.is_nothing(now))
        {
            self.addresses.remove(&address);
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        if self.addresses.capacity() > KEPT.max(8 * self.addresses.len()) {
            self.addresses.shrink_to(2 * self.addresses.len());
        }
    }
}

impl Holdings {
    /// Whether nothing of it matters: joins count on after the connections that made them.
    fn is_nothing(&self, now: Instant) -> bool {
        self.connections == 0 && self.rooms == 0 && self.joins.is_full(now)
    }
}

impl Visit {
    /// The address of a connection that came through a proxy.
    ///
    /// # Errors
    /// [`Refused::ConnectionsPerAddress`].
    pub(super) fn identify(
        &mut self,
        address: IpAddr,
        limits: &ServerLimits,
    ) -> Result<(), Refused> {
        let address = Address::from(address);
        self.guests.state().count(address, limits)?;
        self.address = Some(address);
        Ok(())
    }

    /// Whether this address may join a room now.
    pub(super) fn may_join(&self, now: Instant, limits: &ServerLimits) -> bool {
        let mut state = self.guests.state();
        let holdings = self
            .address
            .and_then(|address| state.addresses.get_mut(&address));
        holdings.is_none_or(|holdings| holdings.joins.take(now, 1, limits.join_rate()))
    }

    /// Counts a room that this connection makes.
    ///
    /// # Errors
    /// Which limit is reached.
    pub(super) fn lease(&self, limits: &ServerLimits) -> Result<Lease, RoomLimit> {
        let mut state = self.guests.state();
        if state.rooms >= limits.rooms {
            return Err(RoomLimit::All);
        }
        if let Some(address) = self.address {
            let holdings = state.addresses.entry(address).or_default();
            if holdings.rooms >= limits.rooms_per_address {
                return Err(RoomLimit::Address);
            }
            holdings.rooms += 1;
        }
        state.rooms += 1;
        Ok(Lease {
            guests: Arc::clone(&self.guests),
            address: self.address,
        })
    }
}

/// Why there is no place for another room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RoomLimit {
    /// As many as the server may have.
    All,
    /// As many as one address may have made.
    Address,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut state = self.guests.state();
        state.connections -= 1;
        if let Some(address) = self.address {
            if let Some(holdings) = state.addresses.get_mut(&address) {
                holdings.connections -= 1;
            }
            state.tidy(address);
        }
        if state.connections == 0 {
            self.guests.gone.notify_waiters();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.guests.state();
        state.rooms -= 1;
        if let Some(address) = self.address {
            if let Some(holdings) = state.addresses.get_mut(&address) {
                holdings.rooms -= 1;
            }
            state.tidy(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn limits() -> ServerLimits {
        ServerLimits {
            connections: 3,
            connections_per_address: 2,
            rooms: 2,
            rooms_per_address: 1,
            joins_per_second: 1,
            join_burst: 2,
            ..ServerLimits::default()
        }
    }

    #[test]
    fn each_limit_is_exact_and_what_ends_no_longer_counts() {
        let (guests, limits) = (Arc::new(Guests::default()), limits());
        let one = guests.enter(Some(ip("192.0.2.1")), &limits).unwrap();
        let two = guests.enter(Some(ip("::ffff:192.0.2.1")), &limits).unwrap();
        let third = guests.enter(Some(ip("192.0.2.1")), &limits);
        assert_eq!(third.unwrap_err(), Refused::ConnectionsPerAddress);
        let mut behind_proxy = guests.enter(None, &limits).unwrap();
        let fourth = guests.enter(Some(ip("192.0.2.9")), &limits);
        assert_eq!(fourth.unwrap_err(), Refused::Connections);
        assert!(behind_proxy.identify(ip("192.0.2.1"), &limits).is_err());
        behind_proxy.identify(ip("192.0.2.2"), &limits).unwrap();

        let lease = one.lease(&limits).unwrap();
        assert_eq!(two.lease(&limits).unwrap_err(), RoomLimit::Address);
        let other = behind_proxy.lease(&limits).unwrap();
        assert_eq!(behind_proxy.lease(&limits).unwrap_err(), RoomLimit::All);
        drop(lease);
        drop(two.lease(&limits).unwrap());
        drop((one, two, behind_proxy));
        assert_eq!((guests.connections(), guests.rooms()), (0, 1));
        drop(other);
        assert_eq!((guests.rooms(), guests.addresses()), (0, 0));
    }

    #[test]
    fn joins_of_an_address_are_counted_together() {
        let (guests, limits) = (Arc::new(Guests::default()), limits());
        let one = guests.enter(Some(ip("2001:db8::1")), &limits).unwrap();
        let two = guests.enter(Some(ip("2001:db8::2")), &limits).unwrap();
        let other = guests.enter(Some(ip("2001:db8:0:1::1")), &limits).unwrap();
        let now = crate::server::now();
        assert!(one.may_join(now, &limits) && two.may_join(now, &limits));
        assert!(!one.may_join(now, &limits) && other.may_join(now, &limits));
        drop((one, two, other));
        let again = guests.enter(Some(ip("2001:db8::3")), &limits).unwrap();
        assert!(!again.may_join(now, &limits), "coming back does not help");
        drop(again);
        guests.prune(now);
        assert_eq!(guests.addresses(), 2);
        guests.prune(now + std::time::Duration::from_secs(3));
        assert_eq!(guests.addresses(), 0);
    }

    #[test]
    fn many_addresses_leave_nothing_behind() {
        let (guests, limits) = (Arc::new(Guests::default()), ServerLimits::default());
        for n in 0..100_000_u32 {
            let visit = guests.enter(Some(IpAddr::V4(n.into())), &limits).unwrap();
            drop(visit.lease(&limits).unwrap());
        }
        let visits: Vec<_> = (0..10_000_u32)
            .map(|n| guests.enter(Some(IpAddr::V4(n.into())), &limits).unwrap())
            .collect();
        drop(visits);
        let state = guests.state();
        assert_eq!(state.addresses.len(), 0);
        assert!(state.addresses.capacity() <= 4 * KEPT);
    }

    #[tokio::test]
    async fn whoever_waits_for_the_end_is_told() {
        let guests = Arc::new(Guests::default());
        guests.all_gone().await;
        let visit = guests.enter(None, &ServerLimits::default()).unwrap();
        let waiting = tokio::spawn({
            let guests = Arc::clone(&guests);
            async move { guests.all_gone().await }
        });
        tokio::task::yield_now().await;
        drop(visit);
        waiting.await.unwrap();
    }
}
