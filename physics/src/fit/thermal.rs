//! Fitting the two-node Foster plant.
//!
//! ```text
//!  T(t) = T_ambient + R₁·z₁(t) + R₂·z₂(t) + Σ_traces cᵢ·exp(−t/τ₂)        zᵢ = power, low-passed by τᵢ
//! ```
//!
//! For given time constants that is linear, and the low-pass is exact for power that is constant between rows, however
//! irregular their steps. So only the two time constants are searched: a grid in their logarithms, then Nelder and Mead's
//! simplex. Each trace begins with a sink in a state of its own (`cᵢ`); its die is taken to have settled, which it does in
//! seconds. Temperatures in whole degrees are as good as others once the trace moves by several of them.
//!
//! Not every trace can tell. Rows too far apart do not show the die, a trace shorter than the sink's time constant does not
//! show the sink, and a machine under constant load shows neither. Numbers from such a trace would look as precise as any,
//! so they are refused, with the reason.

use maxwell_core::thermal::{FosterNode, PlantModel};
use maxwell_core::units::Celsius;

use super::Trace;
use super::least_squares::Normal;

/// Fewer rows with a temperature are not enough for five constants.
const LEAST_ROWS: usize = 60;
/// Rows further apart than this do not show the die.
const MOST_STEP: f64 = 5.0;
/// A smaller excursion drowns in sensors' whole degrees.
const LEAST_EXCURSION: f64 = 5.0;
/// Power must move by this share of its peak.
const LEAST_SWING: f64 = 0.2;
/// Time constants that are searched, in seconds; and the sink must be so much slower than the die.
const TAUS: (f64, f64) = (0.05, 2_000.0);
const SEPARATION: f64 = 3.0;
/// Grid points for each time constant.
const GRID: u32 = 18;
/// Share of each trace, at its end, that checks the fit.
const HELD_OUT: f64 = 0.2;
/// Larger held-out errors, as a share of the excursion, mean that the machine is no such plant.
const MOST_ERROR: f64 = 0.25;

/// A fitted plant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThermalFit {
    /// The plant, fitted to all rows.
    pub plant: PlantModel,
    /// Rows with a temperature.
    pub rows: usize,
    /// Between the lowest and the highest temperature, in kelvin.
    pub excursion: f64,
    /// Root of the mean squared error on all rows, in kelvin.
    pub in_sample: f64,
    /// The same on the last fifth of each trace, by a fit to the rest, in kelvin.
    pub held_out: f64,
}

/// Why traces do not show how a machine warms.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// No temperatures.
    #[error("no row has a temperature: log the die's as `celsius`, with its power, once a second")]
    NoTemperature,
    /// Sampled too slowly.
    #[error(
        "rows with a temperature are {step:.0} s apart, and the die settles between them: log once a second (at most {MOST_STEP} s)"
    )]
    Slow {
        /// Median seconds between rows.
        step: f64,
    },
    /// Too short.
    #[error("{rows} rows with a temperature are too few: log at least {LEAST_ROWS}")]
    Rows {
        /// How many there are.
        rows: usize,
    },
    /// Too little heat.
    #[error(
        "temperature moved by {excursion:.1} K and power by {swing:.0} % of its peak: let the machine idle and work hard in turns, so that they move by {LEAST_EXCURSION} K and 20 %"
    )]
    Calm {
        /// Kelvin between the lowest and the highest temperature.
        excursion: f64,
        /// Percent of peak power between the lowest and the highest power.
        swing: f64,
    },
    /// The sink is slower than the trace is long.
    #[error(
        "the sink's time constant is {tau:.0} s or more, and the longest trace lasts {duration:.0} s: log at least twice that long"
    )]
    Short {
        /// The slow time constant found, in seconds.
        tau: f64,
        /// Seconds of the longest trace.
        duration: f64,
    },
    /// Only one time constant shows.
    #[error(
        "rows {step:.1} s apart show no second, faster time constant: log faster, with steps between idle and full load"
    )]
    OneNode {
        /// Median seconds between rows.
        step: f64,
    },
    /// Something else moved the temperature.
    #[error(
        "two nodes miss the temperature by {error:.1} K of {excursion:.1} K on rows that they were not fitted to: a fan that changes speed, other heat, or clocks of power and temperature that differ"
    )]
    NoPlant {
        /// Held-out error in kelvin.
        error: f64,
        /// Kelvin between the lowest and the highest temperature.
        excursion: f64,
    },
}

/// A row with a temperature.
#[derive(Clone, Copy)]
struct Sample {
    /// Seconds since the row before, and since the trace began.
    step: f64,
    time: f64,
    watts: f64,
    celsius: f64,
}

/// Fits a plant to all traces that have temperatures.
pub(super) fn fit(traces: &[Trace]) -> Result<ThermalFit, Refusal> {
    let runs: Vec<Vec<Sample>> = traces.iter().map(samples).filter(|run| run.len() > 1).collect();
    let survey = Survey::of(&runs)?;
    let all: Vec<&[Sample]> = runs.iter().map(Vec::as_slice).collect();
    let best = search(&all, &survey).ok_or(Refusal::OneNode { step: survey.step })?;
    let (fast, slow) = best.taus();
    if slow * 2.0 > survey.duration {
        return Err(Refusal::Short { tau: slow, duration: survey.duration });
    }
    if fast < survey.step * 0.3 || best.fast.resistance < 0.02 * best.slow.resistance {
        return Err(Refusal::OneNode { step: survey.step });
    }
    let held_out = held_out(&all, &survey).ok_or(Refusal::OneNode { step: survey.step })?;
    if held_out > (MOST_ERROR * survey.excursion).max(1.0) {
        return Err(Refusal::NoPlant { error: held_out, excursion: survey.excursion });
    }
    let node = |node: FosterNode| FosterNode { resistance: rounded(node.resistance), tau: rounded(node.tau) };
    Ok(ThermalFit {
        plant: PlantModel {
            ambient: Celsius((best.ambient * 100.0).round() / 100.0),
            fast: node(best.fast),
            slow: node(best.slow),
        },
        rows: survey.rows,
        excursion: survey.excursion,
        in_sample: best.error,
        held_out,
    })
}

/// Four significant digits: more than any trace shows.
fn rounded(value: f64) -> f64 {
    let scale = 10f64.powf(3.0 - value.abs().max(1e-300).log10().floor());
    (value * scale).round() / scale
}

fn samples(trace: &Trace) -> Vec<Sample> {
    let start = trace.rows.first().map_or(0.0, |row| row.seconds);
    let mut before = start;
    let mut energy = 0.0;
    let mut samples = Vec::new();
    let mut last = start;
    for row in &trace.rows {
        // Rows without a temperature still heat the machine: their energy is carried to the next that has one.
        energy += row.watts.0 * (row.seconds - before);
        before = row.seconds;
        let Some(celsius) = row.celsius else { continue };
        let step = row.seconds - last;
        let watts = if step > 0.0 { energy / step } else { row.watts.0 };
        samples.push(Sample { step, time: row.seconds - start, watts, celsius: celsius.0 });
        (last, energy) = (row.seconds, 0.0);
    }
    samples
}

/// What the traces look like.
struct Survey {
    rows: usize,
    step: f64,
    duration: f64,
    excursion: f64,
}

impl Survey {
    fn of(runs: &[Vec<Sample>]) -> Result<Self, Refusal> {
        let rows = runs.iter().map(Vec::len).sum();
        let mut steps: Vec<f64> = runs.iter().flat_map(|run| run.iter().skip(1)).map(|sample| sample.step).collect();
        steps.sort_by(f64::total_cmp);
        let step = *steps.get(steps.len() / 2).ok_or(Refusal::NoTemperature)?;
        if step > MOST_STEP {
            return Err(Refusal::Slow { step });
        }
        if rows < LEAST_ROWS {
            return Err(Refusal::Rows { rows });
        }
        let spread = |value: fn(&Sample) -> f64| {
            let values = runs.iter().flatten().map(value);
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
        };
        let (coldest, hottest) = spread(|sample| sample.celsius);
        let (least, peak) = spread(|sample| sample.watts);
        let (excursion, swing) = (hottest - coldest, (peak - least) / peak.max(1e-9));
        if excursion < LEAST_EXCURSION || swing < LEAST_SWING {
            return Err(Refusal::Calm { excursion, swing: swing * 100.0 });
        }
        let duration = runs.iter().filter_map(|run| run.last()).map(|sample| sample.time).fold(0.0, f64::max);
        Ok(Self { rows, step, duration, excursion })
    }
}

/// The best plant for two time constants.
#[derive(Clone, Copy)]
struct Candidate {
    ambient: f64,
    fast: FosterNode,
    slow: FosterNode,
    /// Root of the mean squared error.
    error: f64,
}

impl Candidate {
    fn taus(&self) -> (f64, f64) {
        (self.fast.tau, self.slow.tau)
    }
}

/// Calls `row` with each sample's regressors [1, z₁, z₂, exp(−t/τ₂)].
fn regress(run: &[Sample], fast: f64, slow: f64, mut row: impl FnMut(&Sample, [f64; 4])) {
    let Some(first) = run.first() else { return };
    let (mut z1, mut z2) = (first.watts, first.watts);
    // Most traces have one step throughout, so its exponentials are worth keeping.
    let (mut step, mut keep1, mut keep2, mut left) = (f64::NAN, 1.0, 1.0, 1.0);
    for (at, sample) in run.iter().enumerate() {
        if at > 0 {
            if sample.step.to_bits() != step.to_bits() {
                step = sample.step;
                (keep1, keep2) = ((-step / fast).exp(), (-step / slow).exp());
            }
            z1 = keep1 * z1 + (1.0 - keep1) * sample.watts;
            z2 = keep2 * z2 + (1.0 - keep2) * sample.watts;
            left *= keep2;
        }
        row(sample, [1.0, z1, z2, left]);
    }
}

/// The constants that suit two time constants best: ambient, both resistances, and each run's beginning.
fn constants(runs: &[&[Sample]], fast: f64, slow: f64) -> Option<Vec<f64>> {
    let width = 3 + runs.len();
    let mut normal = Normal::new(width);
    let mut x = vec![0.0; width];
    for (number, run) in runs.iter().enumerate() {
        regress(run, fast, slow, |sample, [one, z1, z2, left]| {
            x.fill(0.0);
            let own = x.iter_mut().enumerate().filter_map(|(at, x)| match at {
                0 => Some((x, one)),
                1 => Some((x, z1)),
                2 => Some((x, z2)),
                at if at == 3 + number => Some((x, left)),
                _ => None,
            });
            own.for_each(|(x, value)| *x = value);
            normal.row(&x, sample.celsius);
        });
    }
    let all: Vec<usize> = (0..width).collect();
    normal.solve(&all)
}

/// Squared error and number of the rows from `skip(run)` on.
fn squared_error(
    runs: &[&[Sample]],
    fast: f64,
    slow: f64,
    constants: &[f64],
    skip: impl Fn(&[Sample]) -> usize,
) -> (f64, usize) {
    let at = |index: usize| constants.get(index).copied().unwrap_or(0.0);
    let (mut sum, mut count) = (0.0, 0);
    for (number, run) in runs.iter().enumerate() {
        let (skip, mut row) = (skip(run), 0);
        regress(run, fast, slow, |sample, [one, z1, z2, left]| {
            if row >= skip {
                let model = one * at(0) + z1 * at(1) + z2 * at(2) + left * at(3 + number);
                sum += (model - sample.celsius).powi(2);
                count += 1;
            }
            row += 1;
        });
    }
    (sum, count)
}

fn candidate(runs: &[&[Sample]], fast: f64, slow: f64) -> Option<Candidate> {
    let constants = constants(runs, fast, slow)?;
    let [ambient, r1, r2, ..] = *constants.as_slice() else { return None };
    if !(r1 > 0.0 && r2 > 0.0) {
        return None;
    }
    let (sum, count) = squared_error(runs, fast, slow, &constants, |_| 0);
    Some(Candidate {
        ambient,
        fast: FosterNode { resistance: r1, tau: fast },
        slow: FosterNode { resistance: r2, tau: slow },
        error: (sum / count.max(1) as f64).sqrt(),
    })
}

/// The best plant: a grid over both time constants, then a simplex around its best point.
fn search(runs: &[&[Sample]], survey: &Survey) -> Option<Candidate> {
    let (low, high) = (TAUS.0.max(survey.step * 0.2).ln(), TAUS.1.min(survey.duration).ln());
    let try_at = |[fast, slow]: [f64; 2]| {
        let inside = fast >= low && slow <= high && slow - fast >= SEPARATION.ln();
        if inside { candidate(runs, fast.exp(), slow.exp()) } else { None }
    };
    let error = |point: [f64; 2]| try_at(point).map_or(f64::INFINITY, |candidate| candidate.error);
    let width = (high - low) / f64::from(GRID - 1);
    let grid = |at: u32| low + width * f64::from(at);
    let points = (0..GRID).flat_map(|fast| (fast + 1..GRID).map(move |slow| [grid(fast), grid(slow)]));
    let start = points.map(|point| (error(point), point)).min_by(|a, b| a.0.total_cmp(&b.0))?.1;
    try_at(simplex(start, width, error))
}

/// Nelder and Mead's search for a minimum in the plane (*A simplex method for function minimization*, 1965).
fn simplex(start: [f64; 2], size: f64, error: impl Fn([f64; 2]) -> f64) -> [f64; 2] {
    let at = |point: [f64; 2]| (error(point), point);
    let [x, y] = start;
    let mut corners = [at(start), at([x + size, y]), at([x, y - size])];
    for _ in 0..80 {
        corners.sort_by(|a, b| a.0.total_cmp(&b.0));
        let [best, middle, worst] = corners;
        let centre = [(best.1[0] + middle.1[0]) / 2.0, (best.1[1] + middle.1[1]) / 2.0];
        let along = |by: f64| at([0, 1].map(|axis| centre[axis] + by * (worst.1[axis] - centre[axis])));
        let mirrored = along(-1.0);
        let next = if mirrored.0 < best.0 {
            let further = along(-2.0);
            if further.0 < mirrored.0 { further } else { mirrored }
        } else if mirrored.0 < middle.0 {
            mirrored
        } else {
            along(if mirrored.0 < worst.0 { -0.5 } else { 0.5 })
        };
        if next.0 < worst.0 {
            corners[2] = next;
        } else {
            let towards = |point: [f64; 2]| [0, 1].map(|axis| (point[axis] + best.1[axis]) / 2.0);
            corners = [best, at(towards(middle.1)), at(towards(worst.1))];
        }
    }
    corners.sort_by(|a, b| a.0.total_cmp(&b.0));
    corners[0].1
}

/// The error on the last part of each run, by a plant fitted to the first parts and driven on by power alone.
fn held_out(runs: &[&[Sample]], survey: &Survey) -> Option<f64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    let cut = |run: &[Sample]| (run.len() as f64 * (1.0 - HELD_OUT)) as usize;
    let first: Vec<&[Sample]> = runs.iter().map(|run| run.get(..cut(run)).unwrap_or(run)).collect();
    let (fast, slow) = search(&first, survey)?.taus();
    let constants = constants(&first, fast, slow)?;
    let (sum, count) = squared_error(runs, fast, slow, &constants, cut);
    Some((sum / count.max(1) as f64).sqrt())
}
