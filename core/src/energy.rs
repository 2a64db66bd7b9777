//! From wrapping hardware counters to exactly conserved nanojoules.
//!
//! ```text
//!  Counter ─► Meter       one counter: wraps, gaps, time since it last moved; keeps counts, not joules
//!               └─► Metering     all of them, and what counters that are gone had shown
//!                      └─► Attribution   each delta split among agents, the daemon and the rest
//! ```
//!
//! A [`Meter`] turns raw counts into nanojoules without ever losing a count: it keeps the total in counts and converts the
//! total, so rounding never accumulates. [`Attribution`] splits each delta in integers, so that
//! `attributed + daemon + idle = meter`, always.

use serde::{Deserialize, Serialize};

use crate::sensor::{Activity, Counter, CounterReading, Domain, Quality, Source};
use crate::units::{Joule, Watts};

/// A counter that has not moved for this long beyond its refresh is stale.
const STALE_MS: u32 = 250;
/// The most counters a machine may have; more are a mistake.
pub const MOST_COUNTERS: usize = 256;
/// No domain draws more: a bound that keeps all arithmetic far from overflow.
const MOST_WATTS: f64 = 1e9;
/// No counter has a coarser unit, in nanojoules.
const COARSEST_UNIT: u64 = 1_000_000_000_000;

/// What a counter said about the time since it last moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnergyDelta {
    /// Energy since the last reading.
    pub energy: Joule,
    /// The counter moved further than the machine can: it was reset, or wrapped more than once. Its movement is not
    /// counted as energy.
    pub gap: bool,
    /// The counter could not be read, or has not moved for too long: its power is unknown.
    pub stale: bool,
}

/// Reads a cumulative counter that wraps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Meter {
    counter: Counter,
    last: Option<u64>,
    counts: u128,
    gaps: u64,
    /// Time since the count last moved, in microseconds.
    still_us: u64,
}

impl Meter {
    /// A meter over `counter`.
    #[must_use]
    pub fn new(mut counter: Counter) -> Self {
        counter.spec.unit_num = counter.spec.unit_num.min(COARSEST_UNIT);
        counter.spec.unit_den = counter.spec.unit_den.max(1);
        Self { counter, last: None, counts: 0, gaps: 0, still_us: 0 }
    }

    /// The counter.
    #[must_use]
    pub fn counter(&self) -> &Counter {
        &self.counter
    }

    /// All energy so far, in nanojoules.
    #[must_use]
    pub fn total(&self) -> u128 {
        self.nanojoules(self.counts)
    }

    /// How often the counter moved further than the machine can.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    fn nanojoules(&self, counts: u128) -> u128 {
        counts * u128::from(self.counter.spec.unit_num) / u128::from(self.counter.spec.unit_den)
    }

    /// The counter shows `reading`, `elapsed_us` after the last look. The first reading only sets the zero.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, which is what a bound wants"
    )]
    pub fn advance(&mut self, reading: CounterReading, elapsed_us: u64) -> EnergyDelta {
        self.still_us = self.still_us.saturating_add(elapsed_us);
        let limit = u64::from(self.counter.refresh_ms.saturating_add(STALE_MS));
        let stale = reading.raw.is_none() || u64::from(reading.age_ms).max(self.still_us / 1_000) > limit;
        let Some(raw) = reading.raw else { return EnergyDelta { stale: true, ..EnergyDelta::default() } };
        let raw = raw.min(self.counter.spec.max);
        let Some(last) = self.last.replace(raw) else {
            self.still_us = 0;
            return EnergyDelta::default();
        };
        let counts = if raw >= last { raw - last } else { self.counter.spec.max - last + 1 + raw };
        if counts == 0 {
            return EnergyDelta { stale, ..EnergyDelta::default() };
        }
        // The delta holds the time since the count last moved, and a little more: counts are renewed with jitter.
        let time_us =
            std::mem::take(&mut self.still_us) as f64 + 2_000.0 + f64::from(self.counter.refresh_ms) * 1_000.0;
        let most_nj = self.counter.max_power.0.clamp(0.0, MOST_WATTS) * time_us * 1_000.0;
        if self.nanojoules(u128::from(counts)) > most_nj as u128 {
            self.gaps += 1;
            return EnergyDelta { energy: Joule::ZERO, gap: true, stale: true };
        }
        let before = self.total();
        self.counts += u128::from(counts);
        let energy = Joule(u64::try_from(self.total() - before).unwrap_or(u64::MAX));
        EnergyDelta { energy, gap: false, stale: false }
    }
}

/// The energy that one domain showed through one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metered {
    /// The domain.
    pub domain: Domain,
    /// The source.
    pub source: Source,
    /// How far to trust it.
    pub quality: Quality,
    /// The energy, in nanojoules.
    pub energy: u128,
}

/// What all counters said about one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeteredTick {
    /// Energy of the domains that follow core time.
    pub shared: Joule,
    /// Energy of accelerators.
    pub accelerators: Joule,
    /// Energy that heats the die.
    pub die: Joule,
    /// A counter was reset.
    pub gap: bool,
    /// Not every counter that heats the die could be read: the die's power is unknown.
    pub stale: bool,
}

/// All meters of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metering {
    meters: Vec<Meter>,
    /// What counters showed that are not read any more.
    retired: Vec<Metered>,
}

impl Metering {
    /// From now on these are the machine's counters. One that was there before goes on; one that is gone keeps what it
    /// had shown.
    pub fn choose(&mut self, counters: &[Counter]) {
        let mut before = std::mem::take(&mut self.meters);
        for counter in counters.iter().take(MOST_COUNTERS) {
            let fresh = Meter::new(*counter);
            let kept = before.iter().position(|meter| meter.counter == fresh.counter);
            self.meters.push(kept.map_or(fresh, |at| before.swap_remove(at)));
        }
        for meter in before {
            let gone = metered(&meter);
            let same =
                |old: &&mut Metered| (old.domain, old.source, old.quality) == (gone.domain, gone.source, gone.quality);
            match self.retired.iter_mut().find(same) {
                Some(old) => old.energy += gone.energy,
                None => self.retired.push(gone),
            }
        }
    }

    /// One tick: what each counter shows now, in order. A counter without a reading counts as unreadable.
    pub fn advance(&mut self, readings: &[CounterReading], elapsed_us: u64) -> MeteredTick {
        let mut tick = MeteredTick {
            stale: !self.meters.iter().any(|meter| meter.counter.domain.heats_die()),
            ..MeteredTick::default()
        };
        for (at, meter) in self.meters.iter_mut().enumerate() {
            let delta = meter.advance(readings.get(at).copied().unwrap_or_default(), elapsed_us);
            let domain = meter.counter.domain;
            let kind = if domain.follows_core_time() { &mut tick.shared } else { &mut tick.accelerators };
            *kind = kind.saturating_add(delta.energy);
            tick.gap |= delta.gap;
            if domain.heats_die() {
                tick.die = tick.die.saturating_add(delta.energy);
                tick.stale |= delta.stale;
            }
        }
        tick
    }

    /// All energy so far, in nanojoules.
    #[must_use]
    pub fn total(&self) -> u128 {
        self.metered().map(|metered| metered.energy).sum()
    }

    /// What each domain showed through each source, counters that are gone included.
    pub fn metered(&self) -> impl Iterator<Item = Metered> {
        self.meters.iter().map(metered).chain(self.retired.iter().copied())
    }

    /// How often a counter was reset.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.meters.iter().map(Meter::gaps).sum()
    }
}

fn metered(meter: &Meter) -> Metered {
    let Counter { domain, source, quality, .. } = meter.counter;
    Metered { domain, source, quality, energy: meter.total() }
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
    /// Starts to split the energy of a tick: the idle power comes off first, the rest goes by weighted core time.
    /// Accelerators are nobody's as long as no cell uses them.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    pub fn split(tick: &MeteredTick, idle_power: Watts, activity: &Activity) -> Split {
        let idle = (idle_power.0 * activity.elapsed_us as f64 * 1_000.0) as u64;
        let total = tick.shared.0.saturating_add(tick.accelerators.0);
        let dynamic = tick.shared.0.saturating_sub(idle);
        let weights = activity.agents_weighted_us.saturating_add(activity.daemon_us).saturating_add(activity.others_us);
        let daemon = part(dynamic, activity.daemon_us, weights);
        Split { total, dynamic, weights, left: dynamic - daemon, daemon }
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
    pub fn error(&self, metering: &Metering) -> i128 {
        let signed = |v: u128| i128::try_from(v).expect("energy is far below 2^127 nJ");
        signed(metering.total()) - signed(self.attributed + self.daemon + self.idle)
    }
}
