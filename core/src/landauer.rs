//! Landauer's tax on erased bytes, and rent on held bytes.
//!
//! Erasing a bit dissipates at least `k_B · T · ln 2` (Landauer, *IBM J. Res. Dev.* 5(3), 1961). Real memory is some
//! twelve orders of magnitude worse; the factor is policy, so the tax on one byte is
//! `8 · k_B · T · ln 2 · inefficiency`, about 23 nJ at 300 K with the default of 10¹². Rent is the power of the DRAM
//! that a byte occupies: 0.392 W/GB (Cloud Carbon Footprint's coefficient for memory).
//!
//! Rates are fixed-point nanojoules with 40 fractional bits, rounded once when they are made; what is charged is an
//! integer, and the fraction that remains is carried to the next charge, never dropped.

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Celsius, Joule};

/// Boltzmann's constant in J/K, exact since the 2019 revision of the SI.
pub const BOLTZMANN_J_PER_K: f64 = 1.380_649e-23;

/// Fractional bits of a [`Rate`].
const FRACTION: u32 = 40;

/// A charge per unit (byte, or byte and tick) in nanojoules, with 40 fractional bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rate(u64);

impl Rate {
    /// The nearest rate to `nanojoules` per unit. Negative and non-numbers become zero; the largest rate is 16 mJ.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` from float saturates; NaN gives 0"
    )]
    pub fn from_nanojoules(nanojoules: f64) -> Self {
        // Scaling by a power of two is exact; `round` rounds half away from zero on every platform.
        Self(libm::round(nanojoules * (1u64 << FRACTION) as f64) as u64)
    }

    /// `nanojoules / per`, rounded down to the fixed point, saturating: a rate without floating point.
    #[must_use]
    pub fn ratio(nanojoules: u128, per: u64) -> Self {
        let whole = nanojoules / u128::from(per.max(1));
        let rest = nanojoules % u128::from(per.max(1));
        let fixed =
            whole.checked_mul(1 << FRACTION).map(|w| w.saturating_add((rest << FRACTION) / u128::from(per.max(1))));
        Self(fixed.and_then(|f| u64::try_from(f).ok()).unwrap_or(u64::MAX))
    }

    /// The most that `units` can cost: the charge with a full carry.
    #[must_use]
    pub fn ceiling(self, units: u64) -> Joule {
        if units == 0 {
            return Joule::ZERO;
        }
        let product = u128::from(self.0) * u128::from(units);
        let whole = u64::try_from(product >> FRACTION).unwrap_or(u64::MAX);
        Joule(whole).saturating_add(Joule(1))
    }

    /// The most units whose [`ceiling`](Self::ceiling) `held` covers; any number of them at a rate of zero.
    #[must_use]
    pub fn affordable(self, held: Joule) -> u64 {
        if self.0 == 0 {
            return u64::MAX;
        }
        let below = (u128::from(held.0) << FRACTION).saturating_sub(1);
        u64::try_from(below / u128::from(self.0)).unwrap_or(u64::MAX)
    }
}

/// What a charge left over: less than one nanojoule, carried to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carry(u64);

impl Carry {
    /// Charges `units` at `rate`: whole nanojoules now, the fraction carried.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the mask keeps 40 bits")]
    pub fn charge(&mut self, rate: Rate, units: u64) -> Joule {
        let total = u128::from(rate.0) * u128::from(units) + u128::from(self.0);
        self.0 = (total & ((1 << FRACTION) - 1)) as u64;
        Joule(u64::try_from(total >> FRACTION).unwrap_or(u64::MAX))
    }
}

/// The policy's constants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LandauerPolicy {
    /// How many times worse than the Landauer limit the machine's memory is. Zero turns the tax off.
    pub inefficiency: f64,
    /// Rent in watts for each 10⁹ bytes held.
    pub rent_watts_per_gb: f64,
}

impl Default for LandauerPolicy {
    fn default() -> Self {
        Self { inefficiency: 1e12, rent_watts_per_gb: 0.392 }
    }
}

impl LandauerPolicy {
    /// The tax on one erased byte at die temperature `die`.
    #[must_use]
    pub fn tax_rate(&self, die: Celsius) -> Rate {
        let joules = 8.0 * BOLTZMANN_J_PER_K * die.kelvin() * std::f64::consts::LN_2 * self.inefficiency;
        Rate::from_nanojoules(joules * 1e9)
    }

    /// The rent of one byte for one tick of `tick_us` microseconds.
    #[must_use]
    pub fn rent_rate(&self, tick_us: u64) -> Rate {
        // W/GB = nJ per byte-second; a tick is tick_us · 10⁻⁶ s.
        Rate::from_nanojoules(self.rent_watts_per_gb * tick_us as f64 * 1e-6)
    }
}

/// The rent of `held` bytes for `ticks` ticks.
#[must_use]
pub fn rent(carry: &mut Carry, rate: Rate, held: Bytes, ticks: u64) -> Joule {
    carry.charge(rate, held.0.saturating_mul(ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_at_300_kelvin_costs_23_nanojoules() {
        let rate = LandauerPolicy::default().tax_rate(Celsius(26.85));
        let mut carry = Carry::default();
        assert_eq!(carry.charge(rate, 1), Joule(22));
        assert_eq!(carry.charge(rate, 1_000_000), Joule(22_967_832));
    }

    #[test]
    fn rent_of_a_gigabyte_is_0_392_watts() {
        let rate = LandauerPolicy::default().rent_rate(10_000);
        let mut carry = Carry::default();
        let second = rent(&mut carry, rate, Bytes(1_000_000_000), 100);
        assert!(second.0.abs_diff(392_000_000) <= 1_000, "{second:?}");
    }

    #[test]
    fn fractions_are_carried_not_dropped() {
        let rate = Rate::from_nanojoules(0.3);
        let (mut single, mut bulk) = (Carry::default(), Carry::default());
        let one_by_one: u64 = (0..100_000).map(|_| single.charge(rate, 1).0).sum();
        assert_eq!(one_by_one, bulk.charge(rate, 100_000).0);
        assert_eq!(single, bulk);
        assert!(one_by_one >= 29_999);
    }

    #[test]
    fn the_ceiling_covers_every_carry() {
        let rate = Rate::from_nanojoules(22.97);
        for units in [0, 1, 77, 4096, u64::MAX] {
            let mut full = Carry((1 << FRACTION) - 1);
            assert!(full.charge(rate, units) <= rate.ceiling(units));
        }
    }

    #[test]
    fn what_is_affordable_is_covered_and_not_a_unit_more() {
        for rate in [0.001, 0.3, 22.97, 1e6].map(Rate::from_nanojoules) {
            for held in [0, 1, 2, 22, 23, 24, 1_000_000_007].map(Joule) {
                let units = rate.affordable(held);
                assert!(rate.ceiling(units) <= held, "{units} for {held:?} at {rate:?}");
                assert!(rate.ceiling(units + 1) > held, "{units} for {held:?} at {rate:?}");
            }
        }
        assert_eq!(Rate::default().affordable(Joule::ZERO), u64::MAX, "what costs nothing needs no money");
        assert_eq!(Rate(1).affordable(Joule::MAX), u64::MAX);
    }

    #[test]
    fn nonsense_rates_become_zero_or_the_maximum() {
        assert_eq!(Rate::from_nanojoules(f64::NAN), Rate(0));
        assert_eq!(Rate::from_nanojoules(-1.0), Rate(0));
        assert_eq!(Rate::from_nanojoules(f64::INFINITY), Rate(u64::MAX));
    }
}
