//! Randomness by seed, means, and bootstrap intervals.
//!
//! Intervals are percentile bootstrap intervals (Efron, "Bootstrap methods: another look at the jackknife", *Annals of
//! Statistics* 7(1), 1979; Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13): resample the runs with
//! replacement, compute the figure anew, take the 2.5th and the 97.5th percentile. A ratio of two arms is resampled in
//! pairs, run by run, since both arms of a run share a seed and stand next to each other in time.

use serde::{Deserialize, Serialize};

/// SplitMix64 (Steele, Lea & Flood, OOPSLA 2014): the same seed gives the same numbers, on any machine.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number in `[from, to)`.
    pub fn between(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.unit()
    }

    /// A number below `n`; 0 if `n` is.
    #[allow(clippy::cast_possible_truncation, reason = "the high half of a product of two 64-bit numbers")]
    pub const fn below(&mut self, n: u64) -> u64 {
        ((self.next() as u128 * n as u128) >> 64) as u64
    }
}

/// A figure and the interval that holds it with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// From where to where.
    pub ci95: (f64, f64),
}

/// Resamples of a bootstrap: enough for two digits of a 95 % interval (Efron & Tibshirani, section 13.3).
const RESAMPLES: usize = 2_000;
const SEED: u64 = 0x6d61_7877_656c_6c21;

/// The arithmetic mean; `None` of nothing.
#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The share `q` of values lies at or below this (nearest rank); `None` of nothing. Sorts `values`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank within the slice")]
pub fn percentile(values: &mut [f64], q: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (q * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1).min(values.len().saturating_sub(1))).copied()
}

/// A figure of `n` runs with its bootstrap interval. `figure` computes it from the runs of the given indices; resamples
/// for which it is not a number are left out. `None` if it has no value for the runs themselves.
pub fn bootstrap(n: usize, figure: impl Fn(&mut dyn Iterator<Item = usize>) -> f64) -> Option<Estimate> {
    let value = figure(&mut (0..n));
    if n == 0 || !value.is_finite() {
        return None;
    }
    let mut dice = Dice::new(SEED);
    let mut draw = vec![0; n];
    let mut figures: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            for at in &mut draw {
                *at = usize::try_from(dice.below(n as u64)).unwrap_or(0);
            }
            figure(&mut draw.iter().copied())
        })
        .filter(|figure| figure.is_finite())
        .collect();
    let low = percentile(&mut figures, 0.025)?;
    let high = percentile(&mut figures, 0.975)?;
    Some(Estimate { value, ci95: (low, high) })
}

/// The mean of some runs with its interval.
#[must_use]
pub fn mean_of(values: &[f64]) -> Option<Estimate> {
    bootstrap(values.len(), |indices| {
        let (mut sum, mut count) = (0.0, 0.0);
        for at in indices {
            sum += values[at];
            count += 1.0;
        }
        sum / count
    })
}

/// The mean of `above` beside the mean of `below`, runs paired by index, with its interval.
#[must_use]
pub fn ratio_of(above: &[f64], below: &[f64]) -> Option<Estimate> {
    bootstrap(above.len().min(below.len()), |indices| {
        let (mut up, mut down) = (0.0, 0.0);
        for at in indices {
            up += above[at];
            down += below[at];
        }
        up / down
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_holds_the_true_mean_about_as_often_as_it_says() {
        // 400 samples of 30 uniform numbers: the interval misses the true mean in about 5 % (a little more, since 30 are few).
        let mut dice = Dice::new(1);
        let missed = (0..400)
            .filter(|_| {
                let sample: Vec<f64> = (0..30).map(|_| dice.unit()).collect();
                let (low, high) = mean_of(&sample).unwrap().ci95;
                !(low..=high).contains(&0.5)
            })
            .count();
        assert!((8..=48).contains(&missed), "missed {missed} of 400");
    }

    #[test]
    fn a_constant_has_no_spread_and_nothing_has_no_mean() {
        assert_eq!(mean_of(&[2.0; 5]), Some(Estimate { value: 2.0, ci95: (2.0, 2.0) }));
        assert_eq!(mean_of(&[]), None);
        assert_eq!(ratio_of(&[1.0], &[0.0]), None);
    }

    #[test]
    fn pairs_stay_together() {
        // Runs differ tenfold, but one arm is always twice the other: paired, the ratio is certain.
        let below = [1.0, 10.0, 3.0, 7.0];
        let above = below.map(|x| 2.0 * x);
        assert_eq!(ratio_of(&above, &below), Some(Estimate { value: 2.0, ci95: (2.0, 2.0) }));
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        assert_eq!(percentile(&mut [3.0, 1.0, 2.0], 0.5), Some(2.0));
        assert_eq!(percentile(&mut [3.0, 1.0, 2.0], 0.99), Some(3.0));
        assert_eq!(percentile(&mut [], 0.5), None);
    }
}
