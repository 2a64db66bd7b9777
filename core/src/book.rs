//! The order book: every standing order, on the price ladder, with O(1) updates and turns by principal.
//!
//! ```text
//!  occupancy bitmap ─► level 41,210: head ─► ring of groups ─► tail
//!                                            │ principal A: order 7 ⇄ order 9   (a circle; the head order stands in the ring)
//!                                            │ principal B: order 3
//!                                            └ principal C: order 12
//! ```
//!
//! * A **level** holds a ring of **groups**, one for each principal that bids at that price. The ring is in order of
//!   turns: whoever waited longest since its last turn here stands at the head, a newcomer at the tail. Being served
//!   moves the whole group to the tail. So at equal price principals take turns, whatever number of agents each of them
//!   has: splitting one owner into a thousand agents gains no place, and neither does arriving early, more than once.
//! * A **group** holds the principal's orders at that price in a circle; being served also turns the circle, so a
//!   principal's agents share its turns.
//!
//! A group has no record of its own: the first of its orders stands for it in the ring. One order is 28 bytes, and an
//! update touches the order, its ring neighbours and the tail of the new level. Principals with a single order (most of
//! a large market) need nothing else; the others find their group at a level through one flat hash table.
//!
//! Nothing here allocates except [`Book::register`], which is called when an agent is born, never on a tick's path.

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
/// In `Book::owners`: the principal has, or had, more than one order and its groups are in the hash table.
const MANY: u32 = u32::MAX - 1;

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Place {
    /// Registered, not on the ladder.
    Absent,
    /// Stands in a level's ring for its group.
    Head,
    /// Behind a head of the same principal.
    Member,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Neighbours in the ring; meaningful for heads only, [`NONE`] at the ends.
    ring_prev: u32,
    ring_next: u32,
    /// Neighbours in the group's circle; itself when alone.
    group_prev: u32,
    group_next: u32,
    principal: u32,
    /// Slots wanted at once.
    slots: u16,
    level: u16,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    head: u32,
    tail: u32,
}

/// The standing orders of a market. See the [module documentation](self).
#[derive(Debug, Clone)]
pub struct Book {
    nodes: Vec<Node>,
    levels: Box<[Ends]>,
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

impl Default for Book {
    fn default() -> Self {
        Self::new()
    }
}

impl Book {
    /// An empty book.
    #[must_use]
    pub fn new() -> Self {
        Self {
            nodes: Vec::new(),
            levels: vec![Ends { head: NONE, tail: NONE }; LEVELS].into_boxed_slice(),
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
    /// If the key is in use with a price, or `slots` is zero.
    pub fn register(&mut self, key: OrderKey, principal: PrincipalIndex, slots: u16) {
        assert!(slots > 0, "an order for no slot");
        let index = key.0 as usize;
        if index >= self.nodes.len() {
            let empty = Node {
                ring_prev: NONE,
                ring_next: NONE,
                group_prev: NONE,
                group_next: NONE,
                principal: NONE,
                slots: 1,
                level: 0,
                place: Place::Absent,
            };
            self.nodes.resize(index + 1, empty);
            self.groups.reserve(self.nodes.len());
        }
        if principal.0 as usize >= self.owners.len() {
            self.owners.resize(principal.0 as usize + 1, NONE);
        }
        assert!(self.nodes[index].place == Place::Absent, "order {key:?} is standing and cannot be registered anew");
        self.nodes[index].principal = principal.0;
        self.nodes[index].slots = slots;
        let owner = self.owners[principal.0 as usize];
        match owner {
            NONE => self.owners[principal.0 as usize] = key.0,
            MANY => {}
            only if only == key.0 => {}
            only => {
                self.owners[principal.0 as usize] = MANY;
                if self.nodes[only as usize].place == Place::Head {
                    self.groups.insert(hash(self.nodes[only as usize].level, principal.0), only);
                }
            }
        }
        // Cursors of one level never outnumber the orders.
        self.cursors.reserve(self.nodes.len().min(LEVELS).saturating_sub(self.cursors.len()));
    }

    /// Takes the order off the ladder and frees its key.
    pub fn unregister(&mut self, key: OrderKey) {
        self.cancel(key);
        let principal = self.nodes[key.0 as usize].principal;
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
        let node = self.nodes.get(key.0 as usize)?;
        (node.place != Place::Absent).then_some(Level(node.level))
    }

    /// The highest level with an order.
    #[must_use]
    pub fn best(&self) -> Option<Level> {
        self.occupancy.highest_at_or_below(Level(u16::MAX))
    }

    /// Moves an order to the level of `price`; a price of zero withdraws it. O(1). Setting the level it already stands
    /// on keeps its turn.
    #[inline]
    pub fn set(&mut self, key: OrderKey, price: Price) {
        match Level::of(price) {
            None => self.cancel(key),
            Some(level) => {
                let node = &self.nodes[key.0 as usize];
                if node.place != Place::Absent {
                    if node.level == level.0 {
                        return;
                    }
                    self.unlink(key.0);
                } else {
                    self.standing += 1;
                }
                self.link(key.0, level);
            }
        }
    }

    /// Takes an order off the ladder. O(1).
    pub fn cancel(&mut self, key: OrderKey) {
        if self.nodes[key.0 as usize].place != Place::Absent {
            self.unlink(key.0);
            self.nodes[key.0 as usize].place = Place::Absent;
            self.standing -= 1;
        }
    }

    /// Applies many updates, in order, with the memory each will need asked for in advance. Same result as calling
    /// [`set`](Self::set) for each; several times faster on a book that does not fit in the cache.
    pub fn set_all(&mut self, updates: &[(OrderKey, Price)]) {
        /// How far ahead each stage runs: long enough to hide a memory access, short enough to stay in the L1 cache.
        const NODE: usize = 24;
        const NEIGHBOURS: usize = 16;
        const GROUPS: usize = 8;
        for at in 0..updates.len() {
            if let Some((key, price)) = updates.get(at + NODE) {
                prefetch(&self.nodes, key.0 as usize);
                if let Some(level) = Level::of(*price) {
                    prefetch(&self.levels, usize::from(level.0));
                }
            }
            if let Some((key, price)) = updates.get(at + NEIGHBOURS) {
                let node = self.nodes[key.0 as usize];
                prefetch(&self.levels, usize::from(node.level));
                prefetch(&self.nodes, node.ring_prev as usize);
                prefetch(&self.nodes, node.ring_next as usize);
                prefetch(&self.owners, node.principal as usize);
                if node.group_next != key.0 {
                    prefetch(&self.nodes, node.group_next as usize);
                    prefetch(&self.nodes, node.group_prev as usize);
                }
                if let Some(level) = Level::of(*price) {
                    prefetch(&self.nodes, self.levels[usize::from(level.0)].tail as usize);
                }
            }
            if let Some((key, price)) = updates.get(at + GROUPS) {
                let node = self.nodes[key.0 as usize];
                if self.owners[node.principal as usize] == MANY {
                    self.groups.prefetch(hash(node.level, node.principal));
                    if let Some(level) = Level::of(*price) {
                        self.groups.prefetch(hash(level.0, node.principal));
                    }
                }
            }
            let (key, price) = updates[at];
            self.set(key, price);
        }
    }

    /// The order was served: its principal's turn at this level is over and its group goes to the end of the ring, and
    /// inside the group the turn passes to the principal's next order. O(1).
    pub fn served(&mut self, key: OrderKey) {
        let node = self.nodes[key.0 as usize];
        if node.place == Place::Absent {
            return;
        }
        let Ends { head, tail } = self.levels[usize::from(node.level)];
        if head == tail && node.group_next == key.0 {
            return;
        }
        // Take the order out and put it back in: it becomes the last of its group, or, alone, the last of the ring.
        let level = Level(node.level);
        if node.group_next == key.0 {
            self.unlink(key.0);
            self.link(key.0, level);
        } else {
            self.unlink(key.0);
            self.link(key.0, level);
            let group = self.groups.find(&self.nodes, node.level, node.principal);
            self.move_to_ring_tail(group.expect("an order was just linked behind this group's head"));
        }
    }

    /// The first `limit` units of demand at or above `floor`, dearest first; at equal price in order of turns, one unit
    /// to each principal, then a second to each, and so on. O(`limit`), independent of the number of orders.
    pub fn rank(&mut self, limit: usize, floor: Level, out: &mut Vec<Ranked>) {
        out.clear();
        let mut from = Level(u16::MAX);
        while out.len() < limit {
            let Some(level) = self.occupancy.highest_at_or_below(from) else { return };
            if level < floor {
                return;
            }
            self.rank_level(level, limit, out);
            match level.0.checked_sub(1) {
                Some(below) => from = Level(below),
                None => return,
            }
        }
    }

    fn rank_level(&mut self, level: Level, limit: usize, out: &mut Vec<Ranked>) {
        self.cursors.clear();
        let mut head = self.levels[usize::from(level.0)].head;
        while head != NONE && out.len() < limit {
            let node = &self.nodes[head as usize];
            out.push(Ranked { order: OrderKey(head), level });
            if node.slots > 1 {
                self.cursors.push(Cursor { head, at: head, used: 1 });
            } else if node.group_next != head {
                self.cursors.push(Cursor { head, at: node.group_next, used: 0 });
            }
            head = node.ring_next;
        }
        while out.len() < limit && !self.cursors.is_empty() {
            let nodes = &self.nodes;
            self.cursors.retain_mut(|cursor| {
                if out.len() >= limit {
                    return false;
                }
                out.push(Ranked { order: OrderKey(cursor.at), level });
                cursor.used += 1;
                let node = &nodes[cursor.at as usize];
                if cursor.used < node.slots {
                    return true;
                }
                cursor.at = node.group_next;
                cursor.used = 0;
                cursor.at != cursor.head
            });
        }
    }

    fn link(&mut self, key: u32, level: Level) {
        let principal = self.nodes[key as usize].principal;
        let many = self.owners[principal as usize] == MANY;
        if many && let Some(head) = self.groups.find(&self.nodes, level.0, principal) {
            let last = self.nodes[head as usize].group_prev;
            let node = &mut self.nodes[key as usize];
            node.level = level.0;
            node.place = Place::Member;
            node.ring_prev = NONE;
            node.ring_next = NONE;
            node.group_prev = last;
            node.group_next = head;
            self.nodes[last as usize].group_next = key;
            self.nodes[head as usize].group_prev = key;
            return;
        }
        let ends = &mut self.levels[usize::from(level.0)];
        let tail = ends.tail;
        ends.tail = key;
        if tail == NONE {
            ends.head = key;
            self.occupancy.set(level);
        } else {
            self.nodes[tail as usize].ring_next = key;
        }
        let node = &mut self.nodes[key as usize];
        node.level = level.0;
        node.place = Place::Head;
        node.ring_prev = tail;
        node.ring_next = NONE;
        node.group_prev = key;
        node.group_next = key;
        if many {
            self.groups.insert(hash(level.0, principal), key);
        }
    }

    fn unlink(&mut self, key: u32) {
        let node = self.nodes[key as usize];
        let alone = node.group_next == key;
        if !alone {
            self.nodes[node.group_prev as usize].group_next = node.group_next;
            self.nodes[node.group_next as usize].group_prev = node.group_prev;
        }
        if node.place != Place::Head {
            return;
        }
        if alone {
            self.unlink_from_ring(&node);
            if self.owners[node.principal as usize] == MANY {
                self.groups.remove(hash(node.level, node.principal), key);
            }
        } else {
            let successor = node.group_next;
            self.nodes[successor as usize].place = Place::Head;
            self.nodes[successor as usize].ring_prev = node.ring_prev;
            self.nodes[successor as usize].ring_next = node.ring_next;
            let ends = &mut self.levels[usize::from(node.level)];
            match node.ring_prev {
                NONE => ends.head = successor,
                prev => self.nodes[prev as usize].ring_next = successor,
            }
            match node.ring_next {
                NONE => ends.tail = successor,
                next => self.nodes[next as usize].ring_prev = successor,
            }
            self.groups.replace(hash(node.level, node.principal), key, successor);
        }
    }

    fn unlink_from_ring(&mut self, node: &Node) {
        let ends = &mut self.levels[usize::from(node.level)];
        match node.ring_prev {
            NONE => ends.head = node.ring_next,
            prev => self.nodes[prev as usize].ring_next = node.ring_next,
        }
        match node.ring_next {
            NONE => ends.tail = node.ring_prev,
            next => self.nodes[next as usize].ring_prev = node.ring_prev,
        }
        if ends.head == NONE {
            self.occupancy.clear(Level(node.level));
        }
    }

    fn move_to_ring_tail(&mut self, head: u32) {
        let node = self.nodes[head as usize];
        let ends = self.levels[usize::from(node.level)];
        if ends.tail == head {
            return;
        }
        self.unlink_from_ring(&node);
        self.levels[usize::from(node.level)].tail = head;
        self.nodes[ends.tail as usize].ring_next = head;
        self.nodes[head as usize].ring_prev = ends.tail;
        self.nodes[head as usize].ring_next = NONE;
    }

    /// Checks every invariant of the structure; for tests. O(orders + levels).
    ///
    /// # Panics
    ///
    /// If one is violated.
    pub fn check(&self) {
        let mut seen = 0;
        for (raw, ends) in self.levels.iter().enumerate() {
            let level = Level(u16::try_from(raw).expect("levels are 2^16"));
            assert_eq!(
                self.occupancy.highest_at_or_below(level) == Some(level),
                ends.head != NONE,
                "bitmap and ring disagree at {level:?}"
            );
            let mut principals = std::collections::BTreeSet::new();
            let (mut at, mut before) = (ends.head, NONE);
            while at != NONE {
                let head = &self.nodes[at as usize];
                assert!(head.place == Place::Head && head.level == level.0 && head.ring_prev == before);
                assert!(principals.insert(head.principal), "two groups of one principal at {level:?}");
                if self.owners[head.principal as usize] == MANY {
                    assert_eq!(self.groups.find(&self.nodes, level.0, head.principal), Some(at));
                }
                let mut member = at;
                loop {
                    seen += 1;
                    let node = &self.nodes[member as usize];
                    assert!(node.level == level.0 && node.principal == head.principal);
                    assert_eq!(self.nodes[node.group_next as usize].group_prev, member);
                    assert!(member == at || node.place == Place::Member);
                    member = node.group_next;
                    if member == at {
                        break;
                    }
                }
                before = at;
                at = head.ring_next;
            }
            assert_eq!(ends.tail, before);
        }
        assert_eq!(seen, self.standing);
    }
}

/// A 32-bit mix of level and principal (the finaliser of MurmurHash3, public domain).
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "a hash keeps the bits it wants")]
fn hash(level: u16, principal: u32) -> u32 {
    let mut h = (u64::from(principal) << 16) | u64::from(level);
    h ^= h >> 33;
    h = h.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    h ^= h >> 33;
    h = h.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    (h ^ (h >> 33)) as u32
}

/// (level, principal) → head of the group. Open addressing, linear probing, backward-shift deletion; a slot keeps the
/// hash beside the index, so that probing and shifting rarely touch an order.
#[derive(Debug, Clone)]
struct GroupTable {
    /// `hash << 32 | order`, or [`u64::MAX`] when empty.
    slots: Vec<u64>,
    used: usize,
}

const EMPTY: u64 = u64::MAX;

#[allow(clippy::cast_possible_truncation, reason = "a slot packs two 32-bit values")]
impl GroupTable {
    fn new() -> Self {
        Self { slots: vec![EMPTY; 16], used: 0 }
    }

    fn reserve(&mut self, orders: usize) {
        let wanted = (orders * 2).next_power_of_two().max(16);
        if wanted > self.slots.len() {
            let old = std::mem::replace(&mut self.slots, vec![EMPTY; wanted]);
            for slot in old.into_iter().filter(|slot| *slot != EMPTY) {
                self.used -= 1;
                self.insert((slot >> 32) as u32, slot as u32);
            }
        }
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    #[inline]
    fn prefetch(&self, hash: u32) {
        prefetch(&self.slots, self.home(hash));
    }

    #[inline]
    fn find(&self, nodes: &[Node], level: u16, principal: u32) -> Option<u32> {
        let wanted = hash(level, principal);
        let mut at = self.home(wanted);
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                return None;
            }
            if (slot >> 32) as u32 == wanted {
                let node = &nodes[slot as u32 as usize];
                if node.level == level && node.principal == principal {
                    return Some(slot as u32);
                }
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    fn position(&self, hash: u32, order: u32) -> usize {
        let wanted = (u64::from(hash) << 32) | u64::from(order);
        let mut at = self.home(hash);
        while self.slots[at] != wanted {
            assert!(self.slots[at] != EMPTY, "the group of order {order} is missing from the table");
            at = (at + 1) & (self.slots.len() - 1);
        }
        at
    }

    fn insert(&mut self, hash: u32, order: u32) {
        let mut at = self.home(hash);
        while self.slots[at] != EMPTY {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = (u64::from(hash) << 32) | u64::from(order);
        self.used += 1;
    }

    fn replace(&mut self, hash: u32, old: u32, new: u32) {
        let at = self.position(hash, old);
        self.slots[at] = (u64::from(hash) << 32) | u64::from(new);
    }

    fn remove(&mut self, hash: u32, order: u32) {
        let mask = self.slots.len() - 1;
        let mut hole = self.position(hash, order);
        self.used -= 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let slot = self.slots[at];
            if slot == EMPTY {
                break;
            }
            let home = self.home((slot >> 32) as u32);
            // The entry may move into the hole if its home does not lie between the hole (exclusive) and itself.
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = EMPTY;
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
        for _ in 0..6 {
            let first = ranked(&mut book, 1)[0];
            winners.push(first);
            book.served(OrderKey(first));
            book.check();
        }
        assert_eq!(winners, [0, 3, 1, 3, 2, 3]);
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
