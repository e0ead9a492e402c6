//! Who is where, and who may come: the rooms. Pure, and without a notion of what a member is besides its name.
//!
//! Trees instead of hash tables: they give memory back with each member that leaves, and no choice of ids makes them slow.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::{
    room::{EndpointId, RoomId},
    signaling::envelope::ErrorCode,
};

/// Members that a new room has memory for.
const USUAL: usize = 2;

/// All rooms with at least one member. `O` is what a room owns as long as it is there.
#[derive(Debug)]
pub(super) struct Rooms<M, O = ()> {
    rooms: BTreeMap<RoomId, Room<M, O>>,
    /// Members that a room may have.
    capacity: usize,
}

#[derive(Debug)]
struct Room<M, O> {
    members: Vec<Member<M>>,
    /// Dropped with the last member.
    _owned: O,
}

/// Somebody in a room.
#[derive(Debug)]
pub(super) struct Member<M> {
    pub(super) ep: EndpointId,
    /// Where what is for it goes.
    pub(super) mailbox: M,
}

/// Why nobody was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotLetIn<E> {
    /// The name is taken, or the room is full.
    Code(ErrorCode),
    /// There can be no other room.
    NoRoom(E),
}

impl<M, O> Rooms<M, O> {
    /// No rooms yet; each will have up to `capacity` members.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            rooms: BTreeMap::new(),
            capacity,
        }
    }

    /// Lets somebody in; a new room takes what `own` gives it. Returns those who were there before.
    ///
    /// # Errors
    /// [`ErrorCode::DuplicateEp`] when the name is taken, [`ErrorCode::RoomFull`], or the error of `own`. Nothing changed
    /// then.
    pub(super) fn join<E>(
        &mut self,
        room: RoomId,
        ep: EndpointId,
        mailbox: M,
        own: impl FnOnce() -> Result<O, E>,
    ) -> Result<&[Member<M>], NotLetIn<E>> {
        let room = match self.rooms.entry(room) {
            Entry::Vacant(vacant) => {
                let owned = own().map_err(NotLetIn::NoRoom)?;
                vacant.insert(Room {
                    members: Vec::with_capacity(USUAL),
                    _owned: owned,
                })
            }
            Entry::Occupied(room) => {
                let room = room.into_mut();
                //
                if room.members.iter().any(|member| member.ep == ep) {
                    return Err(NotLetIn::Code(ErrorCode::DuplicateEp));
                }
                if room.members.len() >= self.capacity {
                    return Err(NotLetIn::Code(ErrorCode::RoomFull));
                }
                room
            }
        };
        room.members.push(Member { ep, mailbox });
        Ok(room.members.split_last().map_or(&[], |(_, others)| others))
    }

    /// Lets somebody out. Returns those who stay; none when nobody of that name was there.
    pub(super) fn leave(&mut self, room: RoomId, ep: EndpointId) -> &[Member<M>] {
        let Entry::Occupied(mut entry) = self.rooms.entry(room) else {
            return &[];
        };
        let members = &mut entry.get_mut().members;
        if let Some(at) = members.iter().position(|member| member.ep == ep) {
            members.remove(at);
            if !members.is_empty() {
                return &entry.into_mut().members;
            }
            entry.remove();
        }
        &[]
    }

    /// Where a message of `from` to `to` goes.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownPeer`] when nobody else of that name is in the room.
    pub(super) fn route(
        &self,
        room: RoomId,
        from: EndpointId,
        to: EndpointId,
    ) -> Result<&M, ErrorCode> {
        let mut members = self.members(room).iter();
        let member = members.find(|member| member.ep == to && to != from);
        member
            .map(|member| &member.mailbox)
            .ok_or(ErrorCode::UnknownPeer)
    }

    /// Everybody in a room.
    pub(super) fn members(&self, room: RoomId) -> &[Member<M>] {
        self.rooms.get(&room).map_or(&[], |room| &room.members)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const ROOM: RoomId = RoomId([1; 32]);
    const OTHER: RoomId = RoomId([2; 32]);

    fn ep(n: u8) -> EndpointId {
        EndpointId([n; 16])
    }

    fn join(rooms: &mut Rooms<u8>, room: RoomId, n: u8) -> Result<Vec<u8>, ErrorCode> {
        let joined = rooms.join(room, ep(n), n, || Ok::<_, ()>(()));
        joined.map(names).map_err(|refused| match refused {
            NotLetIn::Code(code) => code,
            NotLetIn::NoRoom(()) => unreachable!(),
        })
    }

    fn names(members: &[Member<u8>]) -> Vec<u8> {
        members.iter().map(|member| member.mailbox).collect()
    }

    #[test]
    fn who_comes_learns_who_is_there_and_who_leaves_whom_it_leaves() {
        let mut rooms = Rooms::new(32);
        assert_eq!(join(&mut rooms, ROOM, 1), Ok(vec![]));
        assert_eq!(join(&mut rooms, ROOM, 2), Ok(vec![1]));
        assert_eq!(join(&mut rooms, ROOM, 3), Ok(vec![1, 2]));
        assert_eq!(names(rooms.leave(ROOM, ep(2))), [1, 3]);
        assert_eq!(names(rooms.leave(ROOM, ep(2))), [0; 0]);
        assert_eq!(names(rooms.leave(ROOM, ep(1))), [3]);
        assert_eq!(names(rooms.leave(ROOM, ep(3))), [0; 0]);
        assert!(rooms.rooms.is_empty());
    }

    ///
    #[test]
    fn a_name_is_unique_in_its_room_only() {
        let mut rooms = Rooms::new(32);
        assert_eq!(join(&mut rooms, ROOM, 1), Ok(vec![]));
        assert_eq!(join(&mut rooms, ROOM, 1), Err(ErrorCode::DuplicateEp));
        assert_eq!(join(&mut rooms, OTHER, 1), Ok(vec![]));
        rooms.leave(ROOM, ep(1));
        assert_eq!(join(&mut rooms, ROOM, 1), Ok(vec![]));
    }

    #[test]
    fn a_full_room_is_full_until_somebody_leaves() {
        let mut rooms = Rooms::new(2);
        for n in [1, 2] {
            join(&mut rooms, ROOM, n).unwrap();
        }
        assert_eq!(join(&mut rooms, ROOM, 1), Err(ErrorCode::DuplicateEp));
        assert_eq!(join(&mut rooms, ROOM, 3), Err(ErrorCode::RoomFull));
        assert_eq!(join(&mut rooms, OTHER, 3), Ok(vec![]));
        rooms.leave(ROOM, ep(1));
        assert_eq!(join(&mut rooms, ROOM, 3), Ok(vec![2]));
    }

    ///
    #[test]
    fn messages_stay_in_their_room_and_never_return_to_their_sender() {
        let mut rooms = Rooms::new(32);
        for (room, n) in [(ROOM, 1), (ROOM, 2), (OTHER, 3)] {
            join(&mut rooms, room, n).unwrap();
        }
        assert_eq!(rooms.route(ROOM, ep(1), ep(2)), Ok(&2));
        for (room, from, to) in [
            (ROOM, 1, 1),
            (ROOM, 1, 3),
            (OTHER, 3, 1),
            (RoomId([3; 32]), 1, 2),
        ] {
            assert_eq!(
                rooms.route(room, ep(from), ep(to)),
                Err(ErrorCode::UnknownPeer)
            );
        }
    }

    #[test]
    fn a_room_owns_something_from_its_first_member_to_its_last() {
        let owned = std::rc::Rc::new(());
        let mut rooms = Rooms::new(32);
        for n in [1, 2] {
            let own = || Ok::<_, ()>(std::rc::Rc::clone(&owned));
            assert!(rooms.join(ROOM, ep(n), n, own).is_ok());
        }
        let refused = rooms.join(OTHER, ep(1), 1, || Err(7));
        assert!(matches!(refused, Err(NotLetIn::NoRoom(7))));
        assert_eq!(names(rooms.members(OTHER)), [0; 0]);
        assert_eq!(std::rc::Rc::strong_count(&owned), 2);
        rooms.leave(ROOM, ep(1));
        rooms.leave(ROOM, ep(2));
        assert_eq!(std::rc::Rc::strong_count(&owned), 1);
    }

    proptest! {
        #[test]
        fn rooms_hold_exactly_those_who_joined_and_did_not_leave(ops: Vec<(bool, bool, u8)>) {
            let mut rooms = Rooms::new(4);
            let mut model = BTreeSet::new();
            for (comes, first, n) in ops {
                let (room, n) = (if first { ROOM } else { OTHER }, n % 8);
                let there = model.iter().filter(|(other, _)| *other == room).count();
                if !comes {
                    rooms.leave(room, ep(n));
                    model.remove(&(room, n));
                } else if join(&mut rooms, room, n).is_ok() {
                    prop_assert!(there < 4 && model.insert((room, n)));
                } else {
                    prop_assert!(there == 4 || model.contains(&(room, n)));
                }
                for room in [ROOM, OTHER] {
                    for n in 0..8 {
                        let found = rooms.route(room, ep(99), ep(n)).is_ok();
                        prop_assert_eq!(found, model.contains(&(room, n)));
                    }
                }
            }
            for (room, n) in model {
                rooms.leave(room, ep(n));
            }
            prop_assert!(rooms.rooms.is_empty());
        }
    }
}
