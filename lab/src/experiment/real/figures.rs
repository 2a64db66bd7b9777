//! From what was seen to the figures of a run.

use maxwell_core::units::Watts;

use super::roster::Role;
use super::watch::{RawSample, Watched};
use super::{Outcome, Real};
use crate::experiment::metrics::{RunMetrics, RunRecord, Sample};
use crate::experiment::plan::{Plan, Turn};
use crate::experiment::stats::{Dice, percentile};

/// Leeches that draw less than this share of the active power are no trouble any more.
const NEUTRAL: f64 = 0.01;

/// The share of power beyond idle that leeches drew: core time is all that tells one program's power from another's.
fn leech_share(sample: &RawSample) -> f64 {
    let busy = sample.honest_cores + sample.leech_cores + sample.own_cores;
    if busy > 0.0 { sample.leech_cores / busy } else { 0.0 }
}

/// What a sample's energy is without idle power.
fn active(sample: &RawSample, idle: Watts, seconds: f64) -> f64 {
    (sample.joules - idle.0 * seconds).max(0.0)
}

/// Seconds of each sample.
fn spans(samples: &[RawSample]) -> impl Iterator<Item = (&RawSample, f64)> {
    let before = std::iter::once(0.0).chain(samples.iter().map(|sample| sample.seconds));
    samples.iter().zip(before).map(|(sample, before)| (sample, sample.seconds - before))
}

/// From when to when leeches drew more than a hundredth; nothing if they never did.
fn trouble(samples: &[RawSample]) -> Option<(f64, f64)> {
    let troubled: Vec<f64> =
        spans(samples).filter(|(sample, _)| leech_share(sample) >= NEUTRAL).map(|(s, span)| s.seconds - span).collect();
    let first = *troubled.first()?;
    let end = samples.iter().rfind(|sample| leech_share(sample) >= NEUTRAL)?.seconds;
    Some((first, end))
}

/// The 99th percentile, in milliseconds, of times in units of which `unit` make one.
fn p99_ms(times: impl Iterator<Item = u64>, unit: f64) -> Option<f64> {
    let mut times: Vec<f64> = times.map(|time| time as f64 / unit).collect();
    percentile(&mut times, 0.99)
}

/// Peak to peak beside the mean, over the last half.
fn amplitude(samples: &[RawSample]) -> Option<f64> {
    let prices: Vec<f64> = samples[samples.len() / 2..].iter().filter_map(|sample| sample.price).collect();
    let low = prices.iter().copied().reduce(f64::min)?;
    let high = prices.iter().copied().reduce(f64::max)?;
    let mean = prices.iter().sum::<f64>() / prices.len() as f64;
    (mean > 0.0).then(|| (high - low) / mean)
}

/// When the last leech was dead, or broke: none while one is not.
fn last(watched: &Watched, when: impl Fn(&super::watch::Seen) -> Option<std::time::Duration>) -> Option<f64> {
    let leeches = watched.seen.iter().filter(|seen| seen.role == Role::Leech);
    let times: Option<Vec<f64>> = leeches.map(|seen| when(seen).map(|time| time.as_secs_f64())).collect();
    times?.into_iter().reduce(f64::max)
}

/// The figures of a run.
pub(super) fn outcome(real: &Real, plan: &Plan, turn: Turn, mut watched: Watched) -> Outcome {
    let mut dice = Dice::new(turn.seed);
    let (mut primes, mut verified) = (0u64, 0u64);
    for seen in &watched.seen {
        match seen.lines.verify(&mut dice) {
            Ok(samples) => {
                verified += samples;
                primes += seen.lines.primes();
            }
            // All of it: who lies once is not believed.
            Err(why) => watched.remarks.push(format!("the work of {} counts nothing: {why}", seen.name)),
        }
    }
    let samples = std::mem::take(&mut watched.samples);
    let idle = plan.machine.idle;
    let core_seconds = |primes: u64| primes as f64 / real.yardstick.primes;
    let mut metrics = RunMetrics { work: core_seconds(primes), ..RunMetrics::default() };
    let (mut own_core_seconds, mut other_core_seconds) = (0.0, 0.0);
    for (sample, span) in spans(&samples) {
        let active = active(sample, idle, span);
        let busy = sample.honest_cores + sample.leech_cores + sample.own_cores;
        metrics.joules += sample.joules;
        metrics.joules_active += active;
        metrics.leech_joules += active * leech_share(sample);
        metrics.leech_core_seconds += sample.leech_cores * span;
        own_core_seconds += sample.own_cores * span;
        other_core_seconds += sample.other_cores * span;
        if busy > 0.0 {
            *metrics.own_joules.get_or_insert(0.0) += active * sample.own_cores / busy;
        }
        metrics.seconds = sample.seconds;
    }
    let capacity = metrics.seconds * f64::from(plan.machine.slots);
    metrics.own_core_share = (capacity > 0.0).then(|| own_core_seconds / capacity);
    metrics.other_core_share = (capacity > 0.0).then(|| other_core_seconds / capacity);
    metrics.wasted_joules = metrics.leech_joules;
    if let Some((first, end)) = trouble(&samples) {
        metrics.neutralise_seconds = Some(end - first);
        let broke = last(&watched, |seen| seen.broke);
        metrics.neutralise_after_broke_seconds = broke.map(|broke| (end - broke).max(0.0));
    }
    metrics.kill_seconds = last(&watched, |seen| seen.killed);
    let wakes = watched.seen.iter().filter(|seen| seen.role == Role::Scientist).flat_map(|seen| seen.lines.wakes());
    metrics.wake_p99_ms = p99_ms(wakes.copied(), 1e3);
    metrics.freeze_p99_ms = p99_ms(watched.freezes_ns.iter().copied(), 1e6);
    let honest = f64::from(plan.scientists) + f64::from(plan.poor) + f64::from(plan.bursty);
    let ideal = metrics.seconds * (f64::from(plan.machine.slots) / honest).min(1.0);
    let poor = watched.seen.iter().filter(|seen| seen.role == Role::Poor);
    metrics.poor_share = poor.map(|seen| core_seconds(seen.lines.primes()) / ideal).reduce(f64::min);
    metrics.false_kills =
        watched.seen.iter().filter(|seen| seen.role.is_honest() && seen.killed.is_some()).count() as u64;
    metrics.peak_celsius = samples.iter().filter_map(|sample| sample.celsius).reduce(f64::max);
    metrics.price_amplitude = amplitude(&samples);
    (metrics.money_error, metrics.energy_error) = (watched.money_error, watched.energy_error);
    let trace = spans(&samples)
        .map(|(sample, span)| Sample {
            seconds: sample.seconds,
            watts: sample.joules / span.max(1e-9),
            leech_watts: active(sample, idle, span) / span.max(1e-9) * leech_share(sample),
            work: core_seconds(sample.primes),
            celsius: sample.celsius,
            price: sample.price,
        })
        .collect();
    Outcome { record: RunRecord { turn, metrics, trace }, samples, primes, verified, remarks: watched.remarks }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: f64, leech: f64, price: f64) -> RawSample {
        RawSample {
            seconds: at,
            joules: 2.0,
            honest_cores: 1.0,
            leech_cores: leech,
            price: Some(price),
            ..RawSample::default()
        }
    }

    #[test]
    fn trouble_lasts_from_the_first_to_the_last_leech() {
        let samples = [sample(0.1, 0.0, 1.0), sample(0.2, 1.0, 1.0), sample(0.3, 0.0, 1.0), sample(0.4, 0.02, 1.0)];
        let (first, end) = trouble(&samples).expect("there was trouble");
        assert!((first - 0.1).abs() < 1e-9 && (end - 0.4).abs() < 1e-9);
        assert_eq!(trouble(&samples[..1]), None);
        // A twentieth of a hundredth is no trouble.
        assert_eq!(trouble(&[sample(0.1, 0.000_5, 1.0)]), None);
    }

    #[test]
    fn amplitude_is_that_of_the_last_half() {
        let samples = [sample(0.1, 0.0, 9.0), sample(0.2, 0.0, 9.0), sample(0.3, 0.0, 1.0), sample(0.4, 0.0, 3.0)];
        assert_eq!(amplitude(&samples), Some(1.0));
        assert_eq!(amplitude(&[]), None);
    }

    #[test]
    fn idle_power_is_taken_off_and_never_below_nothing() {
        assert!((active(&sample(0.1, 0.0, 1.0), Watts(10.0), 0.1) - 1.0).abs() < 1e-9);
        assert!(active(&sample(0.1, 0.0, 1.0), Watts(100.0), 0.1).abs() < 1e-9);
    }
}
