//! How many slots an agent could use at once, told from how much of its last ones it used.

/// Turns for which a demand is remembered.
const MEMORY: u8 = 20;
/// Of what it could have used: beyond this it would have used more.
const FULL: f64 = 0.85;

/// Doubles while everything is used, and falls by one slot when less was needed for a while: a compiler that starts eight
/// jobs has its slots within some ticks, and a server that waits keeps one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    slots: u16,
    most: u16,
    /// Turns in which fewer slots would have been enough.
    idle_turns: u8,
}

impl Demand {
    pub(super) fn new(most: u16) -> Self {
        Self { slots: 1, most: most.max(1), idle_turns: 0 }
    }

    /// A turn of `slots` slots is over in which `used` cores were busy on average.
    pub(super) fn observe(&mut self, slots: u16, used: f64) -> u16 {
        let slots = slots.max(1);
        if used >= FULL * f64::from(slots) {
            self.slots = self.slots.max(slots.saturating_mul(2)).min(self.most);
            self.idle_turns = 0;
        } else if used <= f64::from(self.slots) - 1.0 {
            self.idle_turns += 1;
            if self.idle_turns >= MEMORY {
                self.slots = (self.slots - 1).max(1);
                self.idle_turns = 0;
            }
        } else {
            self.idle_turns = 0;
        }
        self.slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demand_doubles_while_all_is_used_and_is_bounded() {
        let mut demand = Demand::new(6);
        assert_eq!([1, 2, 4, 6].map(|slots| demand.observe(slots, f64::from(slots) * 0.95)), [2, 4, 6, 6]);
    }

    #[test]
    fn demand_falls_slowly_to_what_is_used() {
        let mut demand = Demand::new(8);
        for slots in [1, 2, 4] {
            demand.observe(slots, f64::from(slots));
        }
        let after: Vec<u16> = (0..200).map(|_| demand.observe(8, 2.5)).collect();
        assert_eq!((after[10], *after.last().unwrap()), (8, 3));
        assert!(after.windows(2).all(|pair| pair[1] == pair[0] || pair[1] == pair[0] - 1));
    }

    #[test]
    fn a_sleeper_keeps_one_slot() {
        let mut demand = Demand::new(4);
        assert!((0..100).all(|_| demand.observe(1, 0.0) == 1));
    }
}
