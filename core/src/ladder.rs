//! The price ladder: 65,536 levels, 1,024 to an octave, that cover every price from 1 mW to 2⁶⁴ − 1 mW.
//!
//! A price with its highest bit at position `e` belongs to octave `e`, and its next ten bits choose one of 1,024 steps
//! inside it. So a level is at most 1/1,024 < 0.1 % wide, and rounding is always *down*: nobody pays more than they bid.
//! Below 1,024 mW the ladder is exact.

use crate::units::Price;

/// Bits of a price that are kept below its leading bit.
const STEP_BITS: u32 = 10;
/// Levels in one octave.
const STEPS: u64 = 1 << STEP_BITS;
/// Levels on the whole ladder.
pub const LEVELS: usize = 1 << 16;

/// A rung of the ladder. Higher is dearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(pub u16);

impl Level {
    /// The level of `price`, rounded down; `None` for a price of zero, which buys nothing.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "an octave is at most 63, so the level is below 2^16")]
    pub const fn of(price: Price) -> Option<Self> {
        if price.0 == 0 {
            return None;
        }
        let octave = 63 - price.0.leading_zeros();
        let step = if octave >= STEP_BITS { price.0 >> (octave - STEP_BITS) } else { price.0 << (STEP_BITS - octave) }
            & (STEPS - 1);
        Some(Self(((octave << STEP_BITS) | step as u32) as u16))
    }

    /// The lowest price that belongs to this level: what an order on it counts as bidding.
    #[must_use]
    pub const fn price(self) -> Price {
        let octave = (self.0 >> STEP_BITS) as u32;
        let mantissa = STEPS | (self.0 as u64 & (STEPS - 1));
        Price(if octave >= STEP_BITS { mantissa << (octave - STEP_BITS) } else { mantissa >> (STEP_BITS - octave) })
    }

    /// The lowest level whose price is at least `price`: where a bidder must stand to meet a reserve.
    #[must_use]
    pub const fn at_least(price: Price) -> Option<Self> {
        match Self::of(price) {
            None => Some(Self(0)),
            Some(level) if level.price().0 == price.0 => Some(level),
            Some(Self(u16::MAX)) => None,
            // In the exact octaves consecutive levels may share a price, but then `of` is exact and returned above.
            Some(Self(raw)) => Some(Self(raw + 1)),
        }
    }
}

/// Which levels hold orders: a three-level bitmap, 64 bits a word, so that the best level is three `leading_zeros`.
#[derive(Debug, Clone)]
pub(crate) struct Occupancy {
    leaves: Box<[u64; LEVELS / 64]>,
    middle: [u64; LEVELS / 64 / 64],
    root: u64,
}

impl Occupancy {
    pub(crate) fn new() -> Self {
        Self { leaves: Box::new([0; LEVELS / 64]), middle: [0; 16], root: 0 }
    }

    #[inline]
    pub(crate) fn set(&mut self, level: Level) {
        let (leaf, bit) = (usize::from(level.0 >> 6), level.0 & 63);
        self.leaves[leaf] |= 1 << bit;
        self.middle[leaf >> 6] |= 1 << (leaf & 63);
        self.root |= 1 << (leaf >> 6);
    }

    #[inline]
    pub(crate) fn clear(&mut self, level: Level) {
        let (leaf, bit) = (usize::from(level.0 >> 6), level.0 & 63);
        self.leaves[leaf] &= !(1 << bit);
        if self.leaves[leaf] == 0 {
            self.middle[leaf >> 6] &= !(1 << (leaf & 63));
            if self.middle[leaf >> 6] == 0 {
                self.root &= !(1 << (leaf >> 6));
            }
        }
    }

    /// The highest occupied level at or below `from`.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "indices are below 2^16 by construction")]
    pub(crate) fn highest_at_or_below(&self, from: Level) -> Option<Level> {
        let top = |word: u64| 63 - word.leading_zeros() as usize;
        let upto = |word: u64, bit: usize| word & (u64::MAX >> (63 - bit));
        let leaf = usize::from(from.0 >> 6);
        let word = upto(self.leaves[leaf], usize::from(from.0 & 63));
        if word != 0 {
            return Some(Level(((leaf << 6) | top(word)) as u16));
        }
        let mut group = leaf >> 6;
        let mut word = if leaf & 63 == 0 { 0 } else { upto(self.middle[group], (leaf & 63) - 1) };
        if word == 0 {
            let groups = if group == 0 { 0 } else { upto(self.root, group - 1) };
            if groups == 0 {
                return None;
            }
            group = top(groups);
            word = self.middle[group];
        }
        let leaf = (group << 6) | top(word);
        Some(Level(((leaf << 6) | top(self.leaves[leaf])) as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn low_bits(x: u64) -> u16 {
        u16::try_from(x & 0xFFFF).unwrap()
    }

    #[test]
    fn levels_round_down_by_at_most_a_tenth_of_a_percent() {
        let mut price = 1u64;
        while price < u64::MAX / 2 {
            for p in [price, price + price / 3, price + price / 2, price.saturating_mul(2) - 1] {
                let level = Level::of(Price(p)).unwrap();
                let floor = level.price().0;
                assert!(floor <= p, "{p} rounded up to {floor}");
                assert!((p - floor) as f64 <= p as f64 / 1000.0, "{p} lost {}", p - floor);
                assert_eq!(Level::of(Price(floor)), Some(level), "a level's own price belongs to it");
            }
            price = price * 2 + price / 7 + 1;
        }
        assert_eq!(Level::of(Price(0)), None);
        assert_eq!(Level::of(Price::MAX), Some(Level(u16::MAX)));
    }

    #[test]
    fn a_dearer_price_never_has_a_lower_level() {
        let mut last = Level::of(Price(1)).unwrap();
        for p in (1..200_000u64).chain((0..60).map(|e| (1 << e) + 12345)).filter(|p| *p >= 1) {
            if p > last.price().0 {
                let level = Level::of(Price(p)).unwrap();
                assert!(level >= last);
                last = level;
            }
        }
    }

    #[test]
    fn at_least_is_the_lowest_level_that_meets_a_reserve() {
        for reserve in (0..5_000).chain([1 << 20, (1 << 20) + 1, 123_456_789, u64::MAX >> 1]) {
            let level = Level::at_least(Price(reserve)).unwrap();
            assert!(level.price().0 >= reserve);
            if let Some(below) = Level::of(Price(reserve.saturating_sub(1))) {
                assert!(below < level || below.price().0 >= reserve);
            }
        }
        assert_eq!(Level::at_least(Price::MAX), None, "no level is as dear as the largest integer");
    }

    #[test]
    fn occupancy_finds_the_same_level_as_a_scan() {
        let mut occupancy = Occupancy::new();
        let mut naive = std::collections::BTreeSet::new();
        let mut x = 0x9E37_79B9u64;
        for round in 0..20_000 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let level = Level(low_bits(x >> 33));
            if round % 3 == 2 {
                occupancy.clear(level);
                naive.remove(&level.0);
            } else {
                occupancy.set(level);
                naive.insert(level.0);
            }
            let from = Level(low_bits(x >> 17));
            let expected = naive.range(..=from.0).next_back().map(|l| Level(*l));
            assert_eq!(occupancy.highest_at_or_below(from), expected);
        }
    }
}
