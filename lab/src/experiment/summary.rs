//! From runs to figures with intervals, and from those to what was met and what was not.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::arithmetic::Arithmetic;
use super::arm::Arm;
use super::leech::LeechKind;
use super::metrics::{FIGURES, Figure, RunMetrics, RunRecord};
use super::plan::Plan;
use super::stats::{Estimate, mean, mean_of, ratio_of};

/// Where it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Host {
    /// In virtual time, on modelled agents.
    pub simulated: bool,
    /// The kernel's name and version, or what stands for it.
    pub kernel: String,
    /// What its fair scheduler is: EEVDF from 6.6 on, CFS before.
    pub scheduler: String,
    /// The processor.
    pub processor: String,
}

impl Host {
    /// The modelled machine.
    #[must_use]
    pub fn simulated() -> Self {
        Self {
            simulated: true,
            kernel: "none: virtual time".into(),
            scheduler: "weighted max-min shares between groups: what EEVDF tends to".into(),
            processor: "modelled".into(),
        }
    }
}

/// Where joules come from. Stands beside every number of joules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SensorLabel {
    /// As in `maxwell doctor`: perf, powercap, msr, file, model.
    pub source: String,
    /// measured, filtered or modelled.
    pub quality: String,
}

impl SensorLabel {
    /// Joules of a model.
    #[must_use]
    pub fn modelled() -> Self {
        Self { source: "model".into(), quality: "modelled".into() }
    }
}

impl std::fmt::Display for SensorLabel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}", self.quality, self.source)
    }
}

/// 95 % intervals of an arm's main figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Intervals {
    /// Of the work per joule.
    pub work_per_joule: Option<(f64, f64)>,
    /// Of the work per joule without idle power.
    pub work_per_joule_active: Option<(f64, f64)>,
    /// Of eta, runs paired.
    pub eta: Option<(f64, f64)>,
    /// Of the ratio, runs paired.
    pub ratio_vs_linux: Option<(f64, f64)>,
}

/// What an arm came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmSummary {
    /// Runs.
    pub runs: usize,
    /// Verified work for each joule, idle power included.
    pub work_per_joule: Option<f64>,
    /// Idle power left out.
    pub work_per_joule_active: Option<f64>,
    /// The share of the oracle's work per joule.
    pub eta: Option<f64>,
    /// Work per joule beside fair share.
    pub ratio_vs_linux: Option<f64>,
    /// As `eta`, without idle power.
    pub eta_active: Option<Estimate>,
    /// As `ratio_vs_linux`, without idle power.
    pub ratio_vs_linux_active: Option<Estimate>,
    /// Intervals of the first four.
    pub ci95: Intervals,
    /// The mean of every figure over the runs that have it, with its interval.
    pub figures: BTreeMap<&'static str, Estimate>,
    /// The largest value of every figure.
    pub largest: BTreeMap<&'static str, f64>,
    /// The smallest.
    pub smallest: BTreeMap<&'static str, f64>,
}

/// A threshold and what came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What was wanted.
    pub goal: String,
    /// What came out.
    pub measured: String,
    /// Whether that is it.
    pub met: bool,
}

/// One experiment, finished.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// What was planned, thresholds included.
    pub plan: Plan,
    /// Where it ran.
    pub host: Host,
    /// Where its joules come from.
    pub sensor: SensorLabel,
    /// What had to come out.
    pub arithmetic: Arithmetic,
    /// The arms by name.
    pub arms: BTreeMap<&'static str, ArmSummary>,
    /// Maxwell's work per joule beside each rival's, runs paired.
    pub maxwell_over: BTreeMap<&'static str, Estimate>,
    /// Every threshold that this experiment can decide.
    pub verdicts: Vec<Verdict>,
    /// Where the auction earns its keep and where not.
    pub honestly: String,
}

/// The arms that an auction must beat to be worth having.
pub(super) const RIVALS: [Arm; 3] = [Arm::Killer, Arm::KillerPaid, Arm::Karma];

impl Summary {
    /// Sums up the records of a plan.
    #[must_use]
    pub fn new(plan: &Plan, records: &[RunRecord], host: Host, sensor: SensorLabel) -> Self {
        let runs = Runs::of(records);
        let arms = plan.arms.iter().map(|arm| (arm.name(), runs.arm(*arm))).collect();
        let maxwell_over = RIVALS
            .into_iter()
            .filter_map(|rival| Some((rival.name(), runs.beside(Arm::Maxwell, rival, per_joule)?)))
            .collect();
        // A host has room for fewer of a Sybil's identities.
        let most = if host.simulated { u16::MAX } else { super::real::SYBILS };
        let mut summary = Self {
            plan: plan.clone(),
            arithmetic: Arithmetic::with_identities(plan, plan.leech.identities().min(most)),
            host,
            sensor,
            arms,
            maxwell_over,
            verdicts: Vec::new(),
            honestly: String::new(),
        };
        summary.verdicts = summary.judge();
        summary.honestly = summary.honest_words();
        summary
    }

    /// An arm by what it is.
    #[must_use]
    pub fn arm(&self, arm: Arm) -> Option<&ArmSummary> {
        self.arms.get(arm.name())
    }

    fn judge(&self) -> Vec<Verdict> {
        let Some(maxwell) = self.arm(Arm::Maxwell) else { return Vec::new() };
        let wanted = self.plan.thresholds;
        let mut verdicts = Vec::new();
        let mut judge = |goal: String, measured: Option<f64>, unit: &str, met: &dyn Fn(f64) -> bool| {
            if let Some(value) = measured {
                verdicts.push(Verdict { goal, measured: format!("{value:.3}{unit}"), met: met(value) });
            }
        };
        let least = if self.arithmetic.oversubscribed { wanted.eta_oversubscribed } else { wanted.eta_undersubscribed };
        judge(format!("share of the oracle ≥ {least}"), maxwell.eta, "", &|eta| eta >= least);
        // Only where an oracle does better than what is asked, and the arithmetic is exact: without agents that come and go.
        if self.plan.bursty == 0 && self.arithmetic.oracle_over_fair >= wanted.ratio_vs_linux * 1.02 {
            let least = wanted.ratio_vs_linux;
            judge(format!("≥ {least} × linux"), maxwell.ratio_vs_linux, " ×", &|ratio| ratio >= least);
        }
        let largest = |name| maxwell.largest.get(name).copied();
        let most = wanted.neutralise_seconds;
        judge(
            format!("leeches below 1 % of the active power within {most} s of losing their funds, every run"),
            largest("neutralise_after_broke_seconds"),
            " s at worst",
            &|seconds| seconds <= most,
        );
        let most = wanted.freeze_ms;
        judge(format!("frozen within {most} ms, p99"), largest("freeze_p99_ms"), " ms", &|ms| ms <= most);
        let kills = wanted.false_kills as f64;
        judge(format!("at most {kills} honest agents killed in a run"), largest("false_kills"), "", &|n| n <= kills);
        let least = wanted.poor_share;
        judge(
            format!("a poor but useful agent has ≥ {least} of its ideal, every run"),
            maxwell.smallest.get("poor_share").copied(),
            " at worst",
            &|share| share >= least,
        );
        let most = wanted.own_share;
        let own = maxwell.figures.get("own_joules").zip(maxwell.figures.get("joules"));
        judge(format!("own energy < {most} of all"), own.map(|(own, all)| own.value / all.value), "", &|share| {
            share < most
        });
        let wrong = largest("money_error").zip(largest("energy_error")).map(|(money, energy)| money.max(energy));
        judge("money and energy conserved".to_owned(), wrong, " nJ", &|error| error == 0.0);
        if matches!(self.plan.leech, LeechKind::Mimic(_) | LeechKind::Rich) {
            for (rival, ratio) in &self.maxwell_over {
                verdicts.push(Verdict {
                    goal: format!("strictly better than {rival}"),
                    measured: format!("{:.3} × [{:.3}, {:.3}]", ratio.value, ratio.ci95.0, ratio.ci95.1),
                    met: ratio.ci95.0 > 1.0,
                });
            }
        }
        verdicts
    }

    fn honest_words(&self) -> String {
        let mut out = String::new();
        self.write_honestly(&mut out).expect("writing to a string");
        out
    }

    fn write_honestly(&self, out: &mut String) -> std::fmt::Result {
        let Self { plan, sensor, arithmetic, .. } = self;
        write!(
            out,
            "{} scientists and {} leeches ({}) on {} cores. By arithmetic alone an oracle does {:.2} times as much verified work for a joule ({sensor}) as fair share, so a factor over linux says more about how many leeches there are than about the scheduler.",
            plan.scientists, plan.leeches, plan.leech, plan.machine.slots, arithmetic.oracle_over_fair
        )?;
        if let Some(eta) = self.arm(Arm::Maxwell).and_then(|maxwell| maxwell.eta) {
            write!(out, " Maxwell reaches {:.1} % of the oracle.", eta * 100.0)?;
        }
        for (rival, ratio) in &self.maxwell_over {
            let (low, high) = ratio.ci95;
            let words = match *rival {
                "killer" => "a plain budget killer (which cannot tell who is useful, only who has spent)",
                "killer-paid" => "the same wallets and the same income without an auction",
                _ => "Karma's credits",
            };
            let change = (ratio.value - 1.0) * 100.0;
            if low > 1.01 {
                write!(out, " Over {words} the auction gains {change:.1} %.")?;
            } else if high < 0.99 {
                write!(out, " **Beside {words} the auction loses {:.1} %.**", -change)?;
            } else {
                write!(out, " **Over {words} the auction gains nothing worth having ({change:+.1} %).**")?;
            }
        }
        let missed: Vec<&str> = self.verdicts.iter().filter(|v| !v.met).map(|v| v.goal.as_str()).collect();
        match missed.as_slice() {
            [] => write!(out, " Every threshold that this experiment can decide was met."),
            missed => write!(out, " **Missed: {}.**", missed.join("; ")),
        }
    }
}

fn per_joule(metrics: &RunMetrics) -> Option<f64> {
    Some(metrics.work_per_joule())
}

fn per_joule_active(metrics: &RunMetrics) -> Option<f64> {
    Some(metrics.work_per_joule_active())
}

/// Records by arm, each in the order of repetitions.
struct Runs<'a>(BTreeMap<Arm, Vec<&'a RunRecord>>);

impl<'a> Runs<'a> {
    fn of(records: &'a [RunRecord]) -> Self {
        let mut arms: BTreeMap<Arm, Vec<&RunRecord>> = BTreeMap::new();
        for record in records {
            arms.entry(record.turn.arm).or_default().push(record);
        }
        arms.values_mut().for_each(|runs| runs.sort_by_key(|record| record.turn.run));
        Self(arms)
    }

    fn values(&self, arm: Arm, figure: Figure) -> Vec<f64> {
        let runs = self.0.get(&arm).map_or(&[][..], Vec::as_slice);
        runs.iter().filter_map(|record| figure(&record.metrics)).filter(|value| value.is_finite()).collect()
    }

    /// One arm's figure beside another's, over the repetitions that both have.
    fn beside(&self, arm: Arm, other: Arm, figure: Figure) -> Option<Estimate> {
        let (ours, theirs) = (self.0.get(&arm)?, self.0.get(&other)?);
        let (mut above, mut below) = (Vec::new(), Vec::new());
        for record in ours {
            let pair = theirs.iter().find(|theirs| theirs.turn.run == record.turn.run);
            if let Some((up, down)) = pair.and_then(|pair| figure(&record.metrics).zip(figure(&pair.metrics))) {
                above.push(up);
                below.push(down);
            }
        }
        ratio_of(&above, &below)
    }

    fn arm(&self, arm: Arm) -> ArmSummary {
        let mut figures = BTreeMap::new();
        let (mut largest, mut smallest) = (BTreeMap::new(), BTreeMap::new());
        for (name, figure) in FIGURES {
            let values = self.values(arm, figure);
            if let Some(estimate) = mean_of(&values) {
                figures.insert(name, estimate);
                largest.insert(name, values.iter().copied().fold(f64::MIN, f64::max));
                smallest.insert(name, values.iter().copied().fold(f64::MAX, f64::min));
            }
        }
        let eta = self.beside(arm, Arm::Oracle, per_joule);
        let ratio = self.beside(arm, Arm::Linux, per_joule);
        let figure = |name| figures.get(name).copied();
        let (whole, active): (Option<Estimate>, Option<Estimate>) =
            (figure("work_per_joule"), figure("work_per_joule_active"));
        let value = |estimate: Option<Estimate>| estimate.map(|estimate| estimate.value);
        let interval = |estimate: Option<Estimate>| estimate.map(|estimate| estimate.ci95);
        ArmSummary {
            runs: self.0.get(&arm).map_or(0, Vec::len),
            work_per_joule: value(whole),
            work_per_joule_active: value(active),
            eta: value(eta),
            ratio_vs_linux: value(ratio),
            eta_active: self.beside(arm, Arm::Oracle, per_joule_active),
            ratio_vs_linux_active: self.beside(arm, Arm::Linux, per_joule_active),
            ci95: Intervals {
                work_per_joule: interval(whole),
                work_per_joule_active: interval(active),
                eta: interval(eta),
                ratio_vs_linux: interval(ratio),
            },
            figures,
            largest,
            smallest,
        }
    }
}

/// The mean of a figure over an arm's records, for tests and quick looks.
#[must_use]
pub fn mean_figure(records: &[RunRecord], arm: Arm, figure: Figure) -> Option<f64> {
    mean(&Runs::of(records).values(arm, figure))
}
