//! From a wrapping hardware counter to exactly conserved nanojoules.
//!
//! [`Meter`] turns raw counts into nanojoules without ever losing a count: it keeps the total in counts and converts the
//! total, so rounding never accumulates. [`Attribution`] splits each delta among agents, the daemon and the rest, in
//! integers, so that `attributed + daemon + idle = meter`, always.

use serde::{Deserialize, Serialize};

use crate::sensor::{Activity, CounterReading, CounterSpec};
use crate::units::{Joule, Watts};

/// What a counter said about the time since it was last read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnergyDelta {
    /// Energy since the last reading.
    pub energy: Joule,
    /// The counter moved further than the machine can: it was reset, or wrapped more than once. Its movement is not
    /// counted as energy.
    pub gap: bool,
}

/// Reads a cumulative counter that wraps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meter {
    spec: CounterSpec,
    max_power: Watts,
    last: Option<u64>,
    counts: u128,
    gaps: u64,
}

impl Meter {
    /// A meter over a counter of a machine that never draws more than `max_power`.
    #[must_use]
    pub fn new(spec: CounterSpec, max_power: Watts) -> Self {
        Self { spec, max_power, last: None, counts: 0, gaps: 0 }
    }

    /// All energy so far.
    #[must_use]
    pub fn total(&self) -> u128 {
        self.counts * u128::from(self.spec.unit_num) / u128::from(self.spec.unit_den.max(1))
    }

    /// How often the counter moved further than the machine can.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// The counter shows `reading`, `elapsed_us` after the last one. The first reading only sets the zero.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, which is what a bound wants"
    )]
    pub fn advance(&mut self, reading: CounterReading, elapsed_us: u64) -> EnergyDelta {
        let raw = reading.raw.min(self.spec.max);
        let Some(last) = self.last.replace(raw) else { return EnergyDelta::default() };
        let counts = if raw >= last { raw - last } else { self.spec.max - last + 1 + raw };
        // A counter refreshes about every millisecond, so a delta may hold a little more time than has passed.
        let most_nj = self.max_power.0 * (elapsed_us as f64 + 2_000.0) * 1_000.0;
        let moved = u128::from(counts) * u128::from(self.spec.unit_num) / u128::from(self.spec.unit_den.max(1));
        if moved > most_nj as u128 {
            self.gaps += 1;
            return EnergyDelta { energy: Joule::ZERO, gap: true };
        }
        let before = self.total();
        self.counts += u128::from(counts);
        EnergyDelta { energy: Joule(u64::try_from(self.total() - before).unwrap_or(u64::MAX)), gap: false }
    }
}

/// Who used the energy so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribution {
    /// Energy of agents.
    pub attributed: u128,
    /// Energy of the daemon itself.
    pub daemon: u128,
    /// The idle machine, and everything on it that is not Maxwell's.
    pub idle: u128,
}

/// One delta being split. Made by [`Attribution::split`], booked by [`Attribution::finish`].
#[derive(Clone, Copy, Debug)]
pub struct Split {
    total: u64,
    dynamic: u64,
    weights: u64,
    left: u64,
    daemon: u64,
}

impl Split {
    /// The share of `weighted_us` (core time × power class, in thousandths).
    pub fn share(&mut self, weighted_us: u64) -> Joule {
        let share = part(self.dynamic, weighted_us, self.weights).min(self.left);
        self.left -= share;
        Joule(share)
    }
}

fn part(of: u64, weight: u64, weights: u64) -> u64 {
    if weights == 0 {
        return 0;
    }
    let weight = weight.min(weights);
    u64::try_from(u128::from(of) * u128::from(weight) / u128::from(weights)).expect("a part is at most the whole")
}

impl Attribution {
    /// Starts to split `delta`: the idle power comes off first, the rest goes by weighted core time.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    pub fn split(delta: Joule, idle_power: Watts, activity: &Activity) -> Split {
        let idle = (idle_power.0 * activity.elapsed_us as f64 * 1_000.0) as u64;
        let dynamic = delta.0.saturating_sub(idle);
        let weights = activity.agents_weighted_us.saturating_add(activity.daemon_us).saturating_add(activity.others_us);
        let daemon = part(dynamic, activity.daemon_us, weights);
        Split { total: delta.0, dynamic, weights, left: dynamic - daemon, daemon }
    }

    /// Books a split: what no agent and no daemon used is idle.
    pub fn finish(&mut self, split: Split) {
        let attributed = split.dynamic - split.daemon - split.left;
        self.attributed += u128::from(attributed);
        self.daemon += u128::from(split.daemon);
        self.idle += u128::from(split.total - attributed - split.daemon);
    }

    /// `meter − attributed − daemon − idle`: zero, or a bug.
    #[must_use]
    pub fn error(&self, meter: &Meter) -> i128 {
        let signed = |v: u128| i128::try_from(v).expect("energy is far below 2^127 nJ");
        signed(meter.total()) - signed(self.attributed + self.daemon + self.idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_ticks_with_wraps_and_lost_ticks_lose_no_count() {
        let spec = CounterSpec::rapl(16);
        let mut meter = Meter::new(spec, Watts(1_000.0));
        let mut attribution = Attribution::default();
        let (mut true_counts, mut wraps) = (u128::from(u32::MAX) - 5_000, 0u32);
        let start = true_counts;
        let raw = |counts: u128| CounterReading { raw: u64::try_from(counts & u128::from(u32::MAX)).unwrap() };
        meter.advance(raw(true_counts), 0);
        let mut x = 7u64;
        let mut elapsed = 0;
        for _ in 0..1_000_000 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let before = true_counts >> 32;
            true_counts += u128::from((x >> 40) % 500_000);
            wraps += u32::from(true_counts >> 32 != before);
            elapsed += 10_000;
            if (x >> 33).is_multiple_of(10) {
                continue; // a lost tick: its energy is in the next reading
            }
            let delta = meter.advance(raw(true_counts), elapsed);
            assert!(!delta.gap);
            let activity = Activity {
                elapsed_us: elapsed,
                agents_weighted_us: (x >> 20) % 15_000,
                agents_us: 0,
                daemon_us: (x >> 50) % 100,
                others_us: (x >> 45) % 5_000,
            };
            let mut split = Attribution::split(delta.energy, Watts(20.0), &activity);
            let half = activity.agents_weighted_us / 2;
            split.share(half);
            split.share(activity.agents_weighted_us - half);
            attribution.finish(split);
            assert_eq!(attribution.error(&meter), 0);
            elapsed = 0;
        }
        assert!(wraps > 40, "the test must wrap, it did {wraps} times");
        // What the last lost ticks still hide is the only difference.
        meter.advance(raw(true_counts), elapsed + 10_000);
        assert_eq!(meter.total(), (true_counts - start) * 1_000_000_000 / 65_536);
        assert!(attribution.attributed > 0 && attribution.daemon > 0 && attribution.idle > 0);
    }

    #[test]
    fn a_reset_counter_is_a_gap_not_a_spike() {
        let mut meter = Meter::new(CounterSpec::rapl(16), Watts(300.0));
        meter.advance(CounterReading { raw: 4_000_000_000 }, 0);
        meter.advance(CounterReading { raw: 4_000_100_000 }, 10_000);
        let before = meter.total();
        let delta = meter.advance(CounterReading { raw: 12 }, 10_000);
        assert_eq!(delta, EnergyDelta { energy: Joule::ZERO, gap: true });
        assert_eq!((meter.total(), meter.gaps()), (before, 1));
        assert!(!meter.advance(CounterReading { raw: 1_012 }, 10_000).gap, "counting goes on from the new value");
    }

    #[test]
    fn weights_beyond_the_total_cannot_attribute_more_than_was_used() {
        let activity = Activity { elapsed_us: 10_000, agents_weighted_us: 10, ..Activity::default() };
        let mut split = Attribution::split(Joule(1_000_000), Watts(0.0), &activity);
        let shares = [split.share(u64::MAX), split.share(10), split.share(10)];
        assert_eq!(shares.map(|j| j.0), [1_000_000, 0, 0]);
    }
}
