//! The order book: every standing order, on the price ladder, with O(1) updates and turns by principal.
//!
//! ```text
//!  occupancy bitmap ─► level 41,210: ring ⇄ order 7 (A) ⇄ order 3 (B) ⇄ order 12 (C) ⇄ order 9 (A) ⇄ …
//!                                             │ when the market first comes to them, orders of one principal gather:
//!                                    ring ⇄ [A: 7, 9] ⇄ [B: 3] ⇄ [C: 12]
//! ```
//!
//! * A **level** is a ring in order of turns: who waited longest stands first, a newcomer last. Being served moves an
//!   order to the end.
//! * At equal price it is **principals** that take turns, not agents. When [`Book::rank`] walks a ring it gathers a
//!   principal's orders into a **group** behind the first of them; the group has one place in the ring, one turn a round,
//!   and its orders share the turns, in the order in which they were gathered. So splitting one owner into a thousand agents gains no place, and arriving early
//!   gains at most one turn, once.
//!
//! Gathering happens only where the market looks: at the few levels near the margin. Everywhere else an order is a bare
//! link in a ring: an update touches its own 16 bytes, two neighbours and the end of the new ring, all asked for in
//! advance when updates come in batches ([`Book::set_all`]). Each order is gathered at most once for each time it is
//! placed, and one walk gathers at most [`MOST_GATHERED`], so the cost of a tick stays bounded whatever arrives.
//!
//! Nothing here allocates except [`Book::register`], which is called when an agent is born, never on a tick's path.

mod groups;

use self::groups::{GroupTable, hash};
use crate::ladder::{LEVELS, Level, Occupancy};
use crate::prefetch::prefetch;
use crate::units::Price;

/// The key of an order: the index its owner registered it under. Dense, reused after [`Book::unregister`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey(pub u32);

/// The dense index of a principal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrincipalIndex(pub u32);

/// One unit of demand in rank order, as returned by [`Book::rank`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// Whose unit.
    pub order: OrderKey,
    /// The level it stands on.
    pub level: Level,
}

const NONE: u32 = u32::MAX;
/// In `Book::owners`: the principal has, or had, more than one order, so that its orders may have to be gathered.
const MANY: u32 = u32::MAX - 1;
/// The most orders that one walk gathers. Beyond it, orders not yet gathered count as principals of their own until the
/// next tick.
pub const MOST_GATHERED: usize = 4_096;

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Place {
    /// Registered, not on the ladder.
    Absent,
    /// In a ring, by itself.
    Loose,
    /// In a ring, for its group.
    Head,
    /// In a group, behind its head.
    Member,
}

/// What every update touches. The first [`LEVELS`] links are not orders but the levels' own: a ring is a circle through
/// its level's link, so that no update has to ask whether it stands at an end.
#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
    principal: u32,
    level: u16,
    place: Place,
}

/// What only ranking and serving touch.
#[derive(Clone, Copy, Debug)]
struct Membership {
    /// Neighbours in the group's circle; itself when alone.
    prev: u32,
    next: u32,
    /// Slots wanted at once.
    slots: u16,
}

/// The standing orders of a market. See the [module documentation](self).
#[derive(Debug, Clone)]
pub struct Book {
    links: Vec<Link>,
    members: Vec<Membership>,
    occupancy: Occupancy,
    /// For each principal: its only order, [`NONE`], or [`MANY`].
    owners: Vec<u32>,
    groups: GroupTable,
    standing: usize,
    /// Scratch of `rank`: groups of the level at hand with demand beyond their first unit.
    cursors: Vec<Cursor>,
}

#[derive(Debug, Clone, Copy)]
struct Cursor {
    head: u32,
    at: u32,
    used: u16,
}

/// The number of a key's link.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "2^16 levels")]
const fn link_of(key: OrderKey) -> u32 {
    key.0 + LEVELS as u32
}

#[inline]
#[allow(clippy::cast_possible_truncation, reason = "2^16 levels")]
const fn key_of(link: u32) -> OrderKey {
    OrderKey(link - LEVELS as u32)
}

impl Default for Book {
    fn default() -> Self {
        Self::new()
    }
}

impl Book {
    /// An empty book.
    #[must_use]
    pub fn new() -> Self {
        let levels = (0..=u16::MAX).map(|level| Link {
            prev: u32::from(level),
            next: u32::from(level),
            principal: NONE,
            level,
            place: Place::Absent,
        });
        Self {
            links: levels.collect(),
            members: Vec::new(),
            occupancy: Occupancy::new(),
            owners: Vec::new(),
            groups: GroupTable::new(),
            standing: 0,
            cursors: Vec::new(),
        }
    }

    /// Makes room for an order of `principal` that wants `slots` at once. It stands nowhere until
    /// [`set`](Self::set) gives it a price. The one method that may allocate.
    ///
    /// # Panics
    ///
    /// If the key is in use with a price, `slots` is zero, or the key is beyond four billion.
    pub fn register(&mut self, key: OrderKey, principal: PrincipalIndex, slots: u16) {
        assert!(slots > 0, "an order for no slot");
        assert!(key.0 < NONE - 2 - link_of(OrderKey(0)), "keys are dense and far fewer");
        let index = key.0 as usize;
        if index >= self.members.len() {
            let link = Link { prev: NONE, next: NONE, principal: NONE, level: 0, place: Place::Absent };
            self.links.resize(LEVELS + index + 1, link);
            self.members.resize(index + 1, Membership { prev: NONE, next: NONE, slots: 1 });
            self.groups.reserve(self.members.len());
        }
        if principal.0 as usize >= self.owners.len() {
            self.owners.resize(principal.0 as usize + 1, NONE);
        }
        let link = &mut self.links[link_of(key) as usize];
        assert!(link.place == Place::Absent, "order {key:?} is standing and cannot be registered anew");
        link.principal = principal.0;
        self.members[index].slots = slots;
        let owner = &mut self.owners[principal.0 as usize];
        *owner = match *owner {
            NONE => key.0,
            only if only == key.0 => key.0,
            _ => MANY,
        };
        // Cursors of one level never outnumber the orders.
        self.cursors.reserve(self.members.len().min(LEVELS).saturating_sub(self.cursors.len()));
    }

    /// How many slots an order wants at once. Where it stands keeps its turn.
    ///
    /// # Panics
    ///
    /// If `slots` is zero.
    pub fn set_slots(&mut self, key: OrderKey, slots: u16) {
        assert!(slots > 0, "an order for no slot");
        self.members[key.0 as usize].slots = slots;
    }

    /// How many slots an order wants at once.
    #[must_use]
    pub fn slots(&self, key: OrderKey) -> u16 {
        self.members[key.0 as usize].slots
    }

    /// Takes the order off the ladder and frees its key.
    pub fn unregister(&mut self, key: OrderKey) {
        self.cancel(key);
        let principal = self.links[link_of(key) as usize].principal;
        if let Some(owner) = self.owners.get_mut(principal as usize)
            && *owner == key.0
        {
            *owner = NONE;
        }
    }

    /// Orders that stand on the ladder.
    #[must_use]
    pub fn len(&self) -> usize {
        self.standing
    }

    /// Whether no order stands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.standing == 0
    }

    /// The level an order stands on, if it stands.
    #[must_use]
    pub fn level(&self, key: OrderKey) -> Option<Level> {
        let link = self.links.get(link_of(key) as usize)?;
        (link.place != Place::Absent).then_some(Level(link.level))
    }

    /// The highest level with an order.
    #[must_use]
    pub fn best(&self) -> Option<Level> {
        self.occupancy.highest_at_or_below(Level(u16::MAX))
    }

    /// The highest price at which an order stands that does not meet `reserve`. O(1).
    #[must_use]
    pub fn best_below(&self, reserve: Price) -> Option<Price> {
        let floor = Level::at_least(reserve).map_or(u16::MAX, |level| level.0);
        let level = self.occupancy.highest_at_or_below(Level(floor.checked_sub(1)?))?;
        Some(level.price())
    }

    /// Moves an order to the level of `price`; a price of zero withdraws it. O(1). Setting the level it already stands
    /// on keeps its turn.
    #[inline]
    pub fn set(&mut self, key: OrderKey, price: Price) {
        let Some(level) = Level::of(price) else { return self.cancel(key) };
        let at = link_of(key);
        let link = self.links[at as usize];
        if link.place == Place::Absent {
            self.standing += 1;
        } else if link.level == level.0 {
            return;
        } else {
            self.remove(at, link);
        }
        self.append(at, level, Place::Loose);
    }

    /// Takes an order off the ladder. O(1).
    pub fn cancel(&mut self, key: OrderKey) {
        let at = link_of(key);
        let link = self.links[at as usize];
        if link.place != Place::Absent {
            self.remove(at, link);
            self.links[at as usize].place = Place::Absent;
            self.standing -= 1;
        }
    }

    /// Applies many updates, in order, with the memory each will need asked for in advance. Same result as calling
    /// [`set`](Self::set) for each; several times faster on a book that does not fit in the cache.
    pub fn set_all(&mut self, updates: &[(OrderKey, Price)]) {
        self.set_all_observed(updates, || ());
    }

    /// [`set_all`](Self::set_all), calling `after` after each update: for measuring single updates inside a batch.
    pub fn set_all_observed(&mut self, updates: &[(OrderKey, Price)], mut after: impl FnMut()) {
        /// How far ahead each stage runs: long enough to hide a memory access, short enough to stay in the L1 cache.
        const ORDER: usize = 32;
        const NEIGHBOURS: usize = 16;
        for at in 0..updates.len() {
            if let Some((key, price)) = updates.get(at + ORDER) {
                prefetch(&self.links, link_of(*key) as usize);
                if let Some(level) = Level::of(*price) {
                    prefetch(&self.links, usize::from(level.0));
                }
            }
            if let Some((key, price)) = updates.get(at + NEIGHBOURS) {
                let link = self.links[link_of(*key) as usize];
                prefetch(&self.links, link.prev as usize);
                prefetch(&self.links, link.next as usize);
                if let Some(level) = Level::of(*price) {
                    prefetch(&self.links, self.links[usize::from(level.0)].prev as usize);
                }
            }
            let (key, price) = updates[at];
            self.set(key, price);
            after();
        }
    }

    /// The order was served: its principal's turn at this level is over and its group goes to the end of the ring, and
    /// inside the group the turn passes to the principal's next order. O(1).
    pub fn served(&mut self, key: OrderKey) {
        let at = link_of(key);
        let link = self.links[at as usize];
        let level = Level(link.level);
        match link.place {
            Place::Absent => {}
            Place::Loose => {
                self.take_out(link);
                self.append(at, level, Place::Loose);
            }
            Place::Head | Place::Member => {
                let next = self.members[key.0 as usize].next;
                let head = if link.place == Place::Head {
                    // The next order stands for the group; with no other, the served one still does.
                    self.groups.replace(hash(link.level, link.principal), at, next);
                    self.take_out(link);
                    next
                } else {
                    let head = self.groups.find(&self.links, link.level, link.principal);
                    let head = head.expect("a member's group is in the table");
                    self.take_out(self.links[head as usize]);
                    // Behind all others of its circle: just before the head.
                    self.leave_circle(at);
                    self.join_circle(at, head);
                    head
                };
                self.links[at as usize].place = Place::Member;
                self.append(head, level, Place::Head);
            }
        }
    }

    /// The first `limit` units of demand at or above `floor`, dearest first; at equal price in order of turns, one unit
    /// to each principal, then a second to each, and so on. O(`limit`) and what is gathered, independent of the number
    /// of orders.
    pub fn rank(&mut self, limit: usize, floor: Level, out: &mut Vec<Ranked>) {
        out.clear();
        let mut from = Level(u16::MAX);
        let mut gathered = 0;
        while out.len() < limit {
            let Some(level) = self.occupancy.highest_at_or_below(from) else { return };
            if level < floor {
                return;
            }
            self.rank_level(level, limit, &mut gathered, out);
            match level.0.checked_sub(1) {
                Some(below) => from = Level(below),
                None => return,
            }
        }
    }

    fn rank_level(&mut self, level: Level, limit: usize, gathered: &mut usize, out: &mut Vec<Ranked>) {
        self.cursors.clear();
        let end = u32::from(level.0);
        let mut at = self.links[end as usize].next;
        while at != end && out.len() < limit {
            let link = self.links[at as usize];
            let next = link.next;
            if link.place == Place::Loose && self.owners[link.principal as usize] == MANY && *gathered < MOST_GATHERED {
                *gathered += 1;
                if self.gather(at, link) {
                    at = next;
                    continue;
                }
            }
            out.push(Ranked { order: key_of(at), level });
            at = next;
        }
        if out.len() < limit {
            self.rank_further_units(level, limit, out);
        }
    }

    /// Second units, third units, …: once every principal at the level has had its first.
    fn rank_further_units(&mut self, level: Level, limit: usize, out: &mut Vec<Ranked>) {
        let Self { cursors, members, links, .. } = self;
        // The whole ring was walked, so everything in it is gathered.
        let end = u32::from(level.0);
        let mut at = links[end as usize].next;
        while at != end {
            let member = members[key_of(at).0 as usize];
            if member.slots > 1 {
                cursors.push(Cursor { head: at, at, used: 1 });
            } else if links[at as usize].place == Place::Head && member.next != at {
                cursors.push(Cursor { head: at, at: member.next, used: 0 });
            }
            at = links[at as usize].next;
        }
        while out.len() < limit && !cursors.is_empty() {
            cursors.retain_mut(|cursor| {
                if out.len() >= limit {
                    return false;
                }
                let order = key_of(cursor.at);
                out.push(Ranked { order, level });
                cursor.used += 1;
                let member = members[order.0 as usize];
                if cursor.used < member.slots {
                    return true;
                }
                let gathered = links[cursor.head as usize].place == Place::Head;
                cursor.at = if gathered { member.next } else { cursor.head };
                cursor.used = 0;
                cursor.at != cursor.head
            });
        }
    }

    /// The market has come to a loose order: it joins its principal's group at this level, or becomes one. `true` if it
    /// joined, and so has no place of its own any more.
    fn gather(&mut self, at: u32, link: Link) -> bool {
        match self.groups.find(&self.links, link.level, link.principal) {
            Some(head) => {
                self.take_out(link);
                self.join_circle(at, head);
                self.links[at as usize].place = Place::Member;
                true
            }
            None => {
                let member = &mut self.members[key_of(at).0 as usize];
                (member.prev, member.next) = (at, at);
                self.links[at as usize].place = Place::Head;
                self.groups.insert(hash(link.level, link.principal), at);
                false
            }
        }
    }

    /// Puts a link at the end of a level's ring.
    #[inline]
    fn append(&mut self, at: u32, level: Level, place: Place) {
        let end = u32::from(level.0);
        let last = self.links[end as usize].prev;
        self.links[end as usize].prev = at;
        self.links[last as usize].next = at;
        if last == end {
            self.occupancy.set(level);
        }
        let link = &mut self.links[at as usize];
        link.prev = last;
        link.next = end;
        link.level = level.0;
        link.place = place;
    }

    /// Takes a link out of its ring.
    #[inline]
    fn take_out(&mut self, link: Link) {
        self.links[link.prev as usize].next = link.next;
        self.links[link.next as usize].prev = link.prev;
        if link.prev == link.next {
            // Both neighbours are the level itself: the ring is empty.
            self.occupancy.clear(Level(link.level));
        }
    }

    /// Takes an order out of wherever it stands.
    #[inline]
    fn remove(&mut self, at: u32, link: Link) {
        if link.place == Place::Loose {
            self.take_out(link);
        } else {
            self.remove_gathered(at, link);
        }
    }

    fn remove_gathered(&mut self, at: u32, link: Link) {
        let next = self.members[key_of(at).0 as usize].next;
        if link.place == Place::Head {
            if next == at {
                self.groups.remove(hash(link.level, link.principal), at);
                self.take_out(link);
            } else {
                // The next order takes the head's place in the ring.
                self.groups.replace(hash(link.level, link.principal), at, next);
                let heir = &mut self.links[next as usize];
                (heir.prev, heir.next, heir.place) = (link.prev, link.next, Place::Head);
                self.links[link.prev as usize].next = next;
                self.links[link.next as usize].prev = next;
            }
        }
        self.leave_circle(at);
    }

    fn leave_circle(&mut self, at: u32) {
        let Membership { prev, next, .. } = self.members[key_of(at).0 as usize];
        self.members[key_of(prev).0 as usize].next = next;
        self.members[key_of(next).0 as usize].prev = prev;
    }

    /// Joins a group as its last order: just before its head.
    fn join_circle(&mut self, at: u32, head: u32) {
        let last = self.members[key_of(head).0 as usize].prev;
        self.members[key_of(last).0 as usize].next = at;
        self.members[key_of(head).0 as usize].prev = at;
        let member = &mut self.members[key_of(at).0 as usize];
        (member.prev, member.next) = (last, head);
    }

    /// Checks every invariant of the structure; for tests. O(orders + levels).
    ///
    /// # Panics
    ///
    /// If one is violated.
    pub fn check(&self) {
        let (mut seen, mut groups) = (0, 0);
        for raw in 0..=u16::MAX {
            let (level, end) = (Level(raw), u32::from(raw));
            let occupied = self.links[end as usize].next != end;
            assert_eq!(self.occupancy.highest_at_or_below(level) == Some(level), occupied, "bitmap at {level:?}");
            let mut grouped = std::collections::BTreeSet::new();
            let (mut at, mut before) = (self.links[end as usize].next, end);
            while at != end {
                let link = self.links[at as usize];
                assert!(link.level == raw && link.prev == before, "{link:?}");
                seen += 1;
                match link.place {
                    Place::Loose => {}
                    Place::Head => {
                        groups += 1;
                        assert!(grouped.insert(link.principal), "two groups of one principal at {level:?}");
                        assert_eq!(self.groups.find(&self.links, raw, link.principal), Some(at));
                        let mut member = self.members[key_of(at).0 as usize].next;
                        while member != at {
                            seen += 1;
                            let other = self.links[member as usize];
                            assert!(other.place == Place::Member && other.level == raw);
                            assert_eq!(other.principal, link.principal);
                            let next = self.members[key_of(member).0 as usize].next;
                            assert_eq!(self.members[key_of(next).0 as usize].prev, member);
                            member = next;
                        }
                    }
                    Place::Member | Place::Absent => panic!("{link:?} does not belong in a ring"),
                }
                before = at;
                at = link.next;
            }
            assert_eq!(self.links[end as usize].prev, before);
        }
        assert_eq!((seen, groups), (self.standing, self.groups.used));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(book: &mut Book, limit: usize) -> Vec<u32> {
        let mut out = Vec::new();
        book.rank(limit, Level(0), &mut out);
        out.iter().map(|r| r.order.0).collect()
    }

    #[test]
    fn dearer_orders_come_first() {
        let mut book = Book::new();
        for (key, price) in [(0, 5_000), (1, 7_000), (2, 6_000)] {
            book.register(OrderKey(key), PrincipalIndex(key), 1);
            book.set(OrderKey(key), Price(price));
        }
        assert_eq!(ranked(&mut book, 10), [1, 2, 0]);
        book.set(OrderKey(0), Price(8_000));
        book.cancel(OrderKey(1));
        assert_eq!(ranked(&mut book, 10), [0, 2]);
        book.check();
    }

    #[test]
    fn at_equal_price_principals_take_turns_and_their_orders_share_them() {
        let mut book = Book::new();
        // Principal 0 has orders 0..3, principal 1 has order 3.
        for (key, principal) in [(0, 0), (1, 0), (2, 0), (3, 1)] {
            book.register(OrderKey(key), PrincipalIndex(principal), 1);
            book.set(OrderKey(key), Price(5_000));
        }
        let mut winners = Vec::new();
        for _ in 0..14 {
            let first = ranked(&mut book, 1)[0];
            winners.push(first);
            book.served(OrderKey(first));
            book.check();
        }
        // The owner of three comes to no more turns than the owner of one, and spreads them over its three.
        assert_eq!(winners, [0, 3, 0, 3, 1, 3, 2, 3, 0, 3, 1, 3, 2, 3]);
    }

    #[test]
    fn a_second_unit_waits_until_everyone_has_a_first() {
        let mut book = Book::new();
        book.register(OrderKey(0), PrincipalIndex(0), 3);
        book.register(OrderKey(1), PrincipalIndex(1), 1);
        book.register(OrderKey(2), PrincipalIndex(1), 2);
        for key in 0..3 {
            book.set(OrderKey(key), Price(2_000));
        }
        assert_eq!(ranked(&mut book, 10), [0, 1, 0, 2, 0, 2]);
        assert_eq!(ranked(&mut book, 3), [0, 1, 0]);
    }

    #[test]
    fn registering_a_second_order_finds_the_first_ones_group() {
        let mut book = Book::new();
        book.register(OrderKey(0), PrincipalIndex(9), 1);
        book.set(OrderKey(0), Price(1_000));
        book.register(OrderKey(1), PrincipalIndex(9), 1);
        book.set(OrderKey(1), Price(1_000));
        book.check();
        book.unregister(OrderKey(0));
        book.check();
        assert_eq!(ranked(&mut book, 4), [1]);
    }
}
