//! Fitting the model of power.
//!
//! For a given *structure* (knot positions, whether the package wakes, what a sibling thread adds, the clock's exponent)
//! the model is linear in its watts: idle, awake, and the rise from each knot to the next. Those are found by least squares
//! with nothing below zero, so that no curve falls. The structure is chosen among some dozens by error on held-out blocks;
//! of structures that are equally good (within 2 %) the one with the fewest numbers.
//!
//! That choice is fitting, too. So the error that is reported comes from an outer loop: for each block, structure and
//! watts are found from the other blocks alone, and only then meet the block. To do both loops at the price of one, every
//! structure is fitted without each *pair* of blocks, and both blocks of the pair are scored.

use std::ops::Range;

use maxwell_core::units::Watts;

use super::baseline::Formula;
use super::least_squares::Normal;
use super::{FitError, Options, Trace};
use crate::power::{Cores, Frequency, Knot, Megahertz, PowerModel, Siblings, awake, ramp, weighted};

/// Fewer rows teach nothing that could be checked.
pub const LEAST_ROWS: usize = 6;
/// A machine whose utilisation moves less than this shows no curve.
const LEAST_SWING: f64 = 0.1;
/// Blocks of one trace, and of all.
const BLOCKS: usize = 10;
const MOST_BLOCKS: usize = 20;
/// A structure this much worse than the best is as good, if it is simpler.
const AS_GOOD: f64 = 1.02;

/// Where curves may bend, from straight to free.
const KNOTS: [&[f64]; 6] =
    [&[1.0], &[0.5, 1.0], &[0.1, 1.0], &[0.1, 0.5, 1.0], &[0.25, 0.5, 0.75, 1.0], &[0.1, 0.3, 0.5, 0.7, 1.0]];
/// What a sibling thread may add to a busy core.
const SHARES: [f64; 4] = [0.5, 0.3, 0.15, 0.0];
/// Exponents of the clock: dynamic power goes with f·V², and V with something between f⁰ and f¹.
const GAMMAS: [f64; 6] = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0];

/// Mean absolute errors of one formula.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// On the rows that it was fitted to.
    pub in_sample: Watts,
    /// On rows that it was not fitted to.
    pub held_out: Watts,
}

/// A fitted model of power.
#[derive(Clone, Debug, PartialEq)]
pub struct PowerFit {
    /// The model.
    pub model: PowerModel,
    /// Rows that it was fitted to.
    pub rows: usize,
    /// Contiguous blocks that took turns in being held out.
    pub blocks: usize,
    /// The highest power of a row.
    pub peak: Watts,
    /// The model's errors.
    pub ours: Score,
    /// Errors of a straight line over the machine's utilisation.
    pub line: Score,
    /// Errors of CodeCarbon's formula, TDP · (0.1 + 0.9 u³).
    pub cubic: Score,
    /// Each row in the order of the traces: the machine's utilisation, what it burned, and what a model said that was
    /// chosen and fitted without the row's block.
    pub points: Vec<Point>,
    /// What a user of the model should know.
    pub notes: Vec<String>,
}

/// One row, measured and predicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Share of the whole machine.
    pub utilisation: f64,
    /// What was measured.
    pub watts: Watts,
    /// The prediction by a model that has not seen the row.
    pub held_out: Watts,
    /// The prediction by the final model.
    pub fitted: Watts,
}

/// A row, ready to be fitted.
struct Sample {
    cores: Vec<Cores>,
    clock: Option<Megahertz>,
    watts: f64,
    block: usize,
}

/// Which terms a model has.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Structure {
    knots: &'static [f64],
    awake: bool,
    siblings: Option<Siblings>,
    frequency: Option<Frequency>,
}

impl Structure {
    /// All that are considered, simple ones first.
    fn all(threads: u16, reference: Option<Megahertz>) -> Vec<Self> {
        // A machine shows siblings only as threads in pairs.
        let pairs = SHARES.map(|share| Some(Siblings { cores: threads / 2, share }));
        let siblings: &[_] = if threads >= 2 && threads.is_multiple_of(2) { &pairs } else { &[] };
        let gammas = GAMMAS.map(|gamma| reference.map(|reference| Frequency { reference, gamma }));
        let frequencies: &[_] = if reference.is_some() { &gammas } else { &[] };
        let mut all = Vec::new();
        for frequency in [None].iter().chain(frequencies).copied() {
            for siblings in [None].iter().chain(siblings).copied() {
                for awake in [false, true] {
                    all.extend(KNOTS.map(|knots| Self { knots, awake, siblings, frequency }));
                }
            }
        }
        all.sort_by_key(Self::size);
        all
    }

    /// Unknown watts: idle, awake, and a rise to each knot.
    fn width(&self) -> usize {
        1 + usize::from(self.awake) + self.knots.len()
    }

    /// Numbers that the data decided.
    fn size(&self) -> usize {
        self.width() + usize::from(self.siblings.is_some()) + usize::from(self.frequency.is_some())
    }

    /// What each unknown is multiplied with in a sample.
    fn terms(&self, sample: &Sample, into: &mut [f64]) {
        let clocked = match (self.frequency, sample.clock) {
            (Some(frequency), Some(clock)) => frequency.factor(clock),
            _ => 1.0,
        };
        let mut terms = into.iter_mut();
        terms.next().into_iter().for_each(|idle| *idle = 1.0);
        if self.awake {
            terms.next().into_iter().for_each(|term| *term = clocked * awake(&sample.cores));
        }
        let mut from = 0.0;
        for (term, to) in terms.zip(self.knots) {
            let rise = |(weight, utilisation): (f64, f64)| weight * ramp(utilisation, from, *to);
            *term = clocked * weighted(self.siblings, &sample.cores).map(rise).sum::<f64>();
            from = *to;
        }
    }

    /// The model with these watts.
    fn model(&self, watts: &[f64]) -> PowerModel {
        let at = |index: usize| watts.get(index).copied().unwrap_or(0.0);
        let first = 1 + usize::from(self.awake);
        let mut sum = 0.0;
        let curve = self.knots.iter().enumerate().map(|(index, utilisation)| {
            sum += at(first + index);
            Knot { utilisation: *utilisation, watts: milli(sum) }
        });
        PowerModel {
            curve: curve.collect(),
            idle: milli(at(0)),
            awake: milli(if self.awake { at(1) } else { 0.0 }),
            siblings: self.siblings,
            frequency: self.frequency,
        }
    }
}

/// Rounded to a milliwatt: no meter is better, and people read it.
fn milli(watts: f64) -> Watts {
    Watts((watts * 1e3).round() / 1e3)
}

/// Fits the traces of a machine with so many hardware threads.
pub(super) fn fit(traces: &[Trace], threads: u16, options: &Options) -> Result<PowerFit, FitError> {
    let (samples, blocks) = samples(traces, threads);
    if samples.len() < LEAST_ROWS || blocks < 3 {
        return Err(FitError::Rows { rows: samples.len(), least: LEAST_ROWS });
    }
    let utilisation: Vec<f64> = samples.iter().map(|sample| mean_utilisation(&sample.cores, threads)).collect();
    let least = utilisation.iter().copied().fold(f64::INFINITY, f64::min);
    let most = utilisation.iter().copied().fold(0.0, f64::max);
    if most - least < LEAST_SWING {
        return Err(FitError::Load { least, most });
    }
    let peak = samples.iter().map(|sample| sample.watts).fold(0.0, f64::max);
    if peak <= 0.0 {
        return Err(FitError::NoPower);
    }

    let reference = if options.clock { median_clock(&samples) } else { None };
    let structures = Structure::all(threads, reference);
    let trials: Vec<Trial> = structures.iter().map(|structure| Trial::new(*structure, &samples, blocks)).collect();

    let mut held_out = vec![0.0; samples.len()];
    for block in 0..blocks {
        let chosen = choose(&trials, |trial| trial.inner_error(block));
        let model = chosen.fit_without(Some(block));
        for (sample, predicted) in samples.iter().zip(&mut held_out).filter(|(sample, _)| sample.block == block) {
            *predicted = chosen.predict(&model, sample);
        }
    }
    let chosen = choose(&trials, Trial::outer_error);
    let model = chosen.structure.model(&chosen.fit_without(None));

    let points: Vec<Point> = samples
        .iter()
        .zip(&utilisation)
        .zip(&held_out)
        .map(|((sample, utilisation), held_out)| Point {
            utilisation: *utilisation,
            watts: Watts(sample.watts),
            held_out: Watts(*held_out),
            fitted: model.at(&sample.cores, 1.0, sample.clock),
        })
        .collect();
    let mean = |predicted: fn(&Point) -> Watts| {
        let sum: f64 = points.iter().map(|point| (predicted(point).0 - point.watts.0).abs()).sum();
        Watts(sum / points.len() as f64)
    };
    let ours = Score { in_sample: mean(|point| point.fitted), held_out: mean(|point| point.held_out) };
    let flat: Vec<(f64, f64, usize)> =
        samples.iter().zip(&utilisation).map(|(sample, u)| (*u, sample.watts, sample.block)).collect();
    let score = |formula: Formula| {
        let (inside, outside) = formula.score(&flat, blocks);
        Score { in_sample: Watts(inside), held_out: Watts(outside) }
    };
    Ok(PowerFit {
        rows: samples.len(),
        blocks,
        peak: Watts(peak),
        ours,
        line: score(Formula::Line),
        cubic: score(Formula::Cubic { tdp: options.tdp.map(|tdp| tdp.0) }),
        notes: notes(traces, &samples, most, least, &model),
        points,
        model,
    })
}

/// The rows of all traces, each trace cut into contiguous blocks of its own; and how many blocks there are.
fn samples(traces: &[Trace], threads: u16) -> (Vec<Sample>, usize) {
    let most = (MOST_BLOCKS / traces.len().max(1)).clamp(1, BLOCKS);
    let mut samples = Vec::new();
    let mut before = 0;
    for trace in traces {
        let rows = trace.rows.len();
        let blocks = rows.min(most);
        samples.extend(trace.rows.iter().enumerate().map(|(at, row)| Sample {
            cores: row.load.cores(threads),
            clock: row.clock,
            watts: row.watts.0,
            block: before + at * blocks / rows,
        }));
        before += blocks;
    }
    (samples, before)
}

fn mean_utilisation(cores: &[Cores], threads: u16) -> f64 {
    let busy: f64 = cores.iter().map(|group| f64::from(group.count) * group.utilisation).sum();
    busy / f64::from(threads.max(1))
}

/// The median clock, if every row has one.
fn median_clock(samples: &[Sample]) -> Option<Megahertz> {
    let mut clocks: Vec<f64> = samples.iter().map(|sample| sample.clock.map(|clock| clock.0)).collect::<Option<_>>()?;
    clocks.sort_by(f64::total_cmp);
    clocks.get(clocks.len() / 2).copied().map(Megahertz)
}

/// The first structure, simple ones first, that is as good as the best.
fn choose(trials: &[Trial], error: impl Fn(&Trial) -> f64) -> &Trial {
    let errors: Vec<f64> = trials.iter().map(error).collect();
    let best = errors.iter().copied().fold(f64::INFINITY, f64::min);
    let chosen = errors.iter().position(|error| *error <= best * AS_GOOD + 1e-9).unwrap_or(0);
    trials.get(chosen).expect("there are always structures")
}

/// What a user of the model should know about the rows.
fn notes(traces: &[Trace], samples: &[Sample], most: f64, least: f64, model: &PowerModel) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for note in traces.iter().flat_map(|trace| &trace.notes) {
        if !notes.contains(note) {
            notes.push(note.clone());
        }
    }
    let partly = |group: &Cores| group.count > 0 && group.utilisation > 0.02 && group.utilisation < 0.98;
    if !samples.iter().any(|sample| sample.cores.iter().any(partly)) {
        notes.push("no row has a partly busy core: a core's curve is a straight line".to_owned());
    }
    if most < 0.9 {
        notes.push(format!("utilisation reaches {most:.2}: beyond it the curve is a guess"));
    }
    if least > 0.1 {
        notes.push(format!("utilisation never falls below {least:.2}: idle power is a guess"));
    }
    if model.frequency.is_some() {
        notes.push(
            "power follows the clock: who uses this profile without knowing the clock gets the median one".to_owned(),
        );
    }
    notes
}

/// One structure, fitted without every pair of blocks.
struct Trial {
    structure: Structure,
    /// Sums of each block.
    normals: Vec<Normal>,
    /// `errors[outer][inner]`: sum of absolute errors on block `inner`, of the fit without `outer` and `inner`.
    errors: Vec<Vec<f64>>,
}

impl Trial {
    fn new(structure: Structure, samples: &[Sample], blocks: usize) -> Self {
        let width = structure.width();
        let mut terms = vec![0.0; width * samples.len()];
        let mut normals = vec![Normal::new(width); blocks];
        for (into, sample) in terms.chunks_exact_mut(width).zip(samples) {
            structure.terms(sample, into);
            if let Some(normal) = normals.get_mut(sample.block) {
                normal.row(into, sample.watts);
            }
        }
        // Samples of a block lie together.
        let ranges: Vec<Range<usize>> = (0..blocks)
            .map(|block| {
                let from = samples.partition_point(|sample| sample.block < block);
                from..samples.partition_point(|sample| sample.block <= block)
            })
            .collect();
        let mut trial = Self { structure, normals, errors: vec![vec![0.0; blocks]; blocks] };
        for a in 0..blocks {
            for b in 0..=a {
                // On the diagonal one block is left out alone.
                let watts = trial.fit_without_two(a, b);
                let error = |block: usize| {
                    let range = ranges.get(block).cloned().unwrap_or_default();
                    let terms = terms.chunks_exact(width).skip(range.start);
                    let rows = terms.zip(samples.get(range).unwrap_or_default());
                    rows.map(|(x, sample)| (dot(x, &watts) - sample.watts).abs()).sum::<f64>()
                };
                trial.set_error(a, b, error(b));
                if a != b {
                    trial.set_error(b, a, error(a));
                }
            }
        }
        trial
    }

    fn set_error(&mut self, outer: usize, inner: usize, error: f64) {
        if let Some(place) = self.errors.get_mut(outer).and_then(|line| line.get_mut(inner)) {
            *place = error;
        }
    }

    fn fit_where(&self, keep: impl Fn(usize) -> bool) -> Vec<f64> {
        let mut sum = Normal::new(self.structure.width());
        self.normals.iter().enumerate().filter(|(block, _)| keep(*block)).for_each(|(_, normal)| sum.add(normal));
        sum.non_negative()
    }

    fn fit_without_two(&self, a: usize, b: usize) -> Vec<f64> {
        self.fit_where(|block| block != a && block != b)
    }

    fn fit_without(&self, without: Option<usize>) -> Vec<f64> {
        self.fit_where(|block| Some(block) != without)
    }

    fn predict(&self, watts: &[f64], sample: &Sample) -> f64 {
        let mut terms = vec![0.0; self.structure.width()];
        self.structure.terms(sample, &mut terms);
        dot(&terms, watts)
    }

    /// The error on every block but `outer`, each by a fit without it and without `outer`.
    fn inner_error(&self, outer: usize) -> f64 {
        let line = self.errors.get(outer).map_or(&[][..], Vec::as_slice);
        line.iter().enumerate().filter(|(inner, _)| *inner != outer).map(|(_, error)| error).sum()
    }

    /// The error on every block by a fit without it.
    fn outer_error(&self) -> f64 {
        self.errors.iter().enumerate().filter_map(|(block, line)| line.get(block)).sum()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
