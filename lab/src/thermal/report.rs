//! All cases, both governors, and what came of the goals.

use std::fmt::Write;

use serde::Serialize;

use super::case::Case;
use super::governor::{Auction, Governor, Linux};
use super::metrics::Metrics;
use super::rig::Rig;
use super::trial::Trial;

/// One case, tried by every governor: Maxwell first, then `power_allocator` as it is usually polled, then polled as often
/// as Maxwell.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The case.
    pub case: Case,
    /// The trials.
    pub trials: Vec<Trial>,
}

impl Comparison {
    /// Runs every governor on a case.
    #[must_use]
    pub fn run(case: Case) -> Self {
        let trial = |governor: &mut dyn Governor| Trial::run(&case, &mut Rig::new(&case), governor);
        let mut auction = Auction::new(&case, Rig::new(&case).counters());
        let trials = vec![trial(&mut auction), trial(&mut Linux::new(10)), trial(&mut Linux::new(1))];
        Self { case, trials }
    }

    /// Maxwell's figures.
    #[must_use]
    pub fn maxwell(&self) -> &Metrics {
        &self.trials[0].metrics
    }

    /// The figures of `power_allocator` as it is usually polled.
    #[must_use]
    pub fn linux(&self) -> &Metrics {
        &self.trials[1].metrics
    }
}

/// A goal and what was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Goal {
    /// What was wanted.
    pub goal: String,
    /// What came out.
    pub measured: String,
    /// Whether that is it.
    pub met: bool,
}

/// Everything that was tried.
#[derive(Clone, Debug)]
pub struct Report {
    /// The cases, in order.
    pub comparisons: Vec<Comparison>,
}

#[derive(Serialize)]
struct Row<'a> {
    case: &'a str,
    title: &'a str,
    governor: &'static str,
    #[serde(flatten)]
    metrics: &'a Metrics,
}

/// The largest of some figures and the case it comes from.
fn worst<'a>(values: impl Iterator<Item = (&'a str, f64)>) -> (&'a str, f64) {
    values.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("nothing", 0.0))
}

impl Report {
    /// What came of the goals, as far as the cases tried can tell.
    #[must_use]
    pub fn goals(&self) -> Vec<Goal> {
        let of = |value: fn(&Comparison) -> Option<f64>| {
            worst(self.comparisons.iter().filter_map(|c| value(c).map(|v| (c.case.name.as_str(), v))))
        };
        let (hot, overshoot) = of(|c| Some(c.maxwell().overshoot));
        let (loose, band) = of(|c| c.maxwell().band);
        let (slow, recovery) = of(|c| c.maxwell().recovery);
        let (restless, amplitude) = of(|c| c.maxwell().price_amplitude);
        let mut goals = vec![
            Goal {
                goal: "overshoot ≤ 2 K on every plant".into(),
                measured: format!("{overshoot:.2} K at worst ({hot})"),
                met: overshoot <= 2.0,
            },
            Goal {
                goal: "steady within ±1 K on every plant".into(),
                measured: format!("±{band:.2} K at worst ({loose})"),
                met: band <= 1.0,
            },
            Goal {
                goal: "no price cycle of more than 5 %".into(),
                measured: format!("{:.1} % at worst ({restless})", amplitude * 100.0),
                met: amplitude <= 0.05,
            },
            Goal {
                goal: "no throttling, no trip".into(),
                measured: format!(
                    "{} throttled, {} tripped",
                    self.comparisons.iter().filter(|c| c.maxwell().throttle_events > 0).count(),
                    self.comparisons.iter().filter(|c| c.maxwell().trips > 0).count()
                ),
                met: self.comparisons.iter().all(|c| c.maxwell().throttle_events + c.maxwell().trips == 0),
            },
        ];
        if self.comparisons.iter().any(|c| c.maxwell().recovery.is_some()) {
            goals.push(Goal {
                goal: "a minute of saturation over within 1 s".into(),
                measured: format!("{recovery:.2} s ({slow})"),
                met: recovery <= 1.0,
            });
        }
        if let Some(step) = self.comparisons.iter().find(|c| c.case.name == "step") {
            let (iae, work) = (step.maxwell().iae / step.linux().iae, step.maxwell().work / step.linux().work);
            goals.push(Goal {
                goal: "load step: ≥ 30 % lower IAE than power_allocator at the same work".into(),
                measured: format!("{:.0} % lower, {:+.1} % work", (1.0 - iae) * 100.0, (work - 1.0) * 100.0),
                met: iae <= 0.7 && work >= 0.99,
            });
        }
        goals
    }

    /// The cases as rows of a Markdown table.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).expect("writing to a string");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "| case | governor | overshoot K | settling s | steady ± K | IAE K·s | throttle | price ± | recovery s | slope learnt | work core-s |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|")?;
        let optional = |value: Option<f64>, digits| value.map_or_else(|| "–".to_owned(), |v| format!("{v:.digits$}"));
        for comparison in &self.comparisons {
            for trial in &comparison.trials {
                let m = &trial.metrics;
                writeln!(
                    out,
                    "| {} | {} | {:.2} | {} | {} | {:.1} | {} | {} | {} | {} | {:.1} |",
                    comparison.case.name,
                    trial.governor,
                    m.overshoot,
                    optional(m.settling, 1),
                    optional(m.band, 2),
                    m.iae,
                    m.throttle_events,
                    m.price_amplitude.map_or_else(|| "–".to_owned(), |a| format!("{:.1} %", a * 100.0)),
                    optional(m.recovery, 2),
                    m.slope_learnt.map_or_else(|| "–".to_owned(), |factor| format!("×{factor:.2}")),
                    m.work
                )?;
            }
        }
        writeln!(out)?;
        for goal in self.goals() {
            writeln!(out, "* {}: {}, {}", if goal.met { "met" } else { "**missed**" }, goal.goal, goal.measured)?;
        }
        Ok(())
    }

    /// Everything as JSON.
    #[must_use]
    pub fn json(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        struct Whole<'a> {
            trials: Vec<Row<'a>>,
            goals: Vec<Goal>,
        }
        let trials = self
            .comparisons
            .iter()
            .flat_map(|c| {
                c.trials.iter().map(|trial| Row {
                    case: &c.case.name,
                    title: &c.case.title,
                    governor: trial.governor,
                    metrics: &trial.metrics,
                })
            })
            .collect();
        Whole { trials, goals: self.goals() }
    }
}
