//! A hierarchical timing wheel: one alarm for each agent, set, moved and cancelled in O(1), fired in due order.
//!
//! Varghese & Lauck, "Hashed and hierarchical timing wheels" (SOSP 1987), the same structure as the Linux timer wheel:
//! level 0 holds the next 64 ticks one by one, level 1 the next 64² in slots of 64, and so on. An alarm cascades down at
//! most four times. Nothing allocates after [`Wheel::reserve`].

use crate::prefetch::prefetch;
use crate::units::Tick;

const LEVELS: usize = 5;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Alarms further away than this wait here and are looked at again when they arrive.
const HORIZON: u64 = 1 << (6 * LEVELS);
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Alarm {
    due: u64,
    prev: u32,
    next: u32,
    /// `level * SLOTS + slot`, or [`NONE`] when not set.
    list: u32,
}

/// Alarms of agents, by dense index. See the [module documentation](self).
#[derive(Clone, Debug)]
pub struct Wheel {
    alarms: Vec<Alarm>,
    lists: Box<[u32; LEVELS * SLOTS]>,
    now: u64,
}

impl Default for Wheel {
    fn default() -> Self {
        Self { alarms: Vec::new(), lists: Box::new([NONE; LEVELS * SLOTS]), now: 0 }
    }
}

impl Wheel {
    /// Makes room for agents up to `index`.
    pub fn reserve(&mut self, index: u32) {
        if self.alarms.len() <= index as usize {
            self.alarms.resize(index as usize + 1, Alarm { due: 0, prev: NONE, next: NONE, list: NONE });
        }
    }

    /// Asks for an agent's alarm before it is needed.
    pub(crate) fn expect(&self, index: u32) {
        prefetch(&self.alarms, index as usize);
    }

    /// When the agent's alarm is due, if it is set.
    #[must_use]
    pub fn due(&self, index: u32) -> Option<Tick> {
        let alarm = self.alarms.get(index as usize)?;
        (alarm.list != NONE).then_some(Tick(alarm.due))
    }

    /// Sets or moves the agent's alarm. A time in the past is due at the next advance.
    pub fn set(&mut self, index: u32, due: Tick) {
        self.cancel(index);
        let due = due.0.max(self.now + 1);
        self.alarms[index as usize].due = due;
        self.place(index);
    }

    /// Clears the agent's alarm.
    pub fn cancel(&mut self, index: u32) {
        let alarm = self.alarms[index as usize];
        if alarm.list == NONE {
            return;
        }
        match alarm.prev {
            NONE => self.lists[alarm.list as usize] = alarm.next,
            prev => self.alarms[prev as usize].next = alarm.next,
        }
        if alarm.next != NONE {
            self.alarms[alarm.next as usize].prev = alarm.prev;
        }
        self.alarms[index as usize].list = NONE;
    }

    /// Moves time to `now` and appends to `due`, in order of their time, the agents whose alarms have come. They are
    /// cleared. Cost: one step a tick, plus the alarms that fire or cascade.
    pub fn advance(&mut self, now: Tick, due: &mut Vec<u32>) {
        while self.now < now.0 {
            self.now += 1;
            for level in (1..LEVELS).rev() {
                if self.now.trailing_zeros() >= SLOT_BITS * u32::try_from(level).expect("five levels") {
                    self.cascade(level);
                }
            }
            let list = usize::try_from(self.now).expect("64-bit") & (SLOTS - 1);
            let from = due.len();
            while self.lists[list] != NONE {
                let index = self.lists[list];
                self.cancel(index);
                due.push(index);
            }
            // Lists are last-in first-out; agents of one tick are reported in the order of their index, so that the
            // outcome does not depend on the order in which alarms were set.
            due[from..].sort_unstable();
        }
    }

    fn cascade(&mut self, level: usize) {
        let slot = usize::try_from(self.now >> (SLOT_BITS as usize * level)).expect("64-bit") & (SLOTS - 1);
        let mut index = std::mem::replace(&mut self.lists[level * SLOTS + slot], NONE);
        while index != NONE {
            let next = self.alarms[index as usize].next;
            self.alarms[index as usize].list = NONE;
            self.place(index);
            index = next;
        }
    }

    fn place(&mut self, index: u32) {
        let due = self.alarms[index as usize].due;
        let wait = due.saturating_sub(self.now).min(HORIZON - 1);
        let at = self.now + wait;
        let level = if wait < SLOTS as u64 { 0 } else { (63 - wait.leading_zeros()) / SLOT_BITS };
        let slot = u32::try_from((at >> (SLOT_BITS * level)) & (SLOTS as u64 - 1)).expect("six bits");
        let list = (level << SLOT_BITS) + slot;
        let head = self.lists[list as usize];
        if head != NONE {
            self.alarms[head as usize].prev = index;
        }
        let alarm = &mut self.alarms[index as usize];
        alarm.list = list;
        alarm.prev = NONE;
        alarm.next = head;
        self.lists[list as usize] = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn alarms_fire_at_their_tick_whatever_the_distance() {
        let mut wheel = Wheel::default();
        let mut naive = BTreeMap::new();
        wheel.reserve(999);
        let mut x = 1u64;
        let mut random = move || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            x >> 20
        };
        let mut now = 0;
        for _ in 0..30_000 {
            let index = u32::try_from(random() % 1000).unwrap();
            match random() % 4 {
                0 => {
                    wheel.cancel(index);
                    naive.remove(&index);
                }
                1 | 2 => {
                    let distance = [1, 63, 64, 65, 4_000, 300_000][usize::try_from(random() % 6).unwrap()];
                    let due = now + 1 + random() % distance;
                    wheel.set(index, Tick(due));
                    naive.insert(index, due);
                }
                _ => {
                    now += random() % 200;
                    let mut fired = Vec::new();
                    wheel.advance(Tick(now), &mut fired);
                    let mut expected: Vec<(u64, u32)> =
                        naive.iter().filter(|(_, due)| **due <= now).map(|(index, due)| (*due, *index)).collect();
                    expected.sort_unstable();
                    naive.retain(|_, due| *due > now);
                    assert_eq!(fired, expected.iter().map(|(_, index)| *index).collect::<Vec<_>>());
                }
            }
            assert_eq!(wheel.due(index).map(|t| t.0), naive.get(&index).copied());
        }
    }

    #[test]
    fn an_alarm_beyond_the_horizon_is_not_early() {
        let mut wheel = Wheel::default();
        wheel.reserve(0);
        wheel.set(0, Tick(u64::MAX));
        let mut fired = Vec::new();
        wheel.advance(Tick(200_000), &mut fired);
        assert!(fired.is_empty());
    }
}
