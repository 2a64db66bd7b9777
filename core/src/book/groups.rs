//! Where a principal's group at a level is: one flat hash table, touched only for orders that were gathered.

use super::Link;

/// A 32-bit mix of level and principal (the finaliser of MurmurHash3, public domain).
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "a hash keeps the bits it wants")]
pub(super) fn hash(level: u16, principal: u32) -> u32 {
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
pub(super) struct GroupTable {
    /// `hash << 32 | order`, or [`u64::MAX`] when empty.
    slots: Vec<u64>,
    pub(super) used: usize,
}

const EMPTY: u64 = u64::MAX;

#[allow(clippy::cast_possible_truncation, reason = "a slot packs two 32-bit values")]
impl GroupTable {
    pub(super) fn new() -> Self {
        Self { slots: vec![EMPTY; 16], used: 0 }
    }

    pub(super) fn reserve(&mut self, orders: usize) {
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
    pub(super) fn find(&self, links: &[Link], level: u16, principal: u32) -> Option<u32> {
        let wanted = hash(level, principal);
        let mut at = self.home(wanted);
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                return None;
            }
            if (slot >> 32) as u32 == wanted {
                let link = &links[slot as u32 as usize];
                if link.level == level && link.principal == principal {
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

    pub(super) fn insert(&mut self, hash: u32, order: u32) {
        let mut at = self.home(hash);
        while self.slots[at] != EMPTY {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = (u64::from(hash) << 32) | u64::from(order);
        self.used += 1;
    }

    pub(super) fn replace(&mut self, hash: u32, old: u32, new: u32) {
        let at = self.position(hash, old);
        self.slots[at] = (u64::from(hash) << 32) | u64::from(new);
    }

    pub(super) fn remove(&mut self, hash: u32, order: u32) {
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
