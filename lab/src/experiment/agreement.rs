//! Whether a run on a host says what virtual time says of the same plan, within what is known of the difference.
//!
//! ```text
//!   eta        0.5         lower ├───── expected ─────┤ upper                 1
//!               ├─────────────────┼────────┬───────────┼────────────────────┤
//!   virtual                                ● v
//!   host                     ├─────○─────┤            95 % interval, runs paired: the two must meet
//! ```
//!
//! Virtual time has no cost of scheduling and nobody else on the machine. Both were measured in the runs that are compared, so what they
//! explain is allowed for, and no more:
//!
//! * **Own cost** `o`, the scheduler's share of the energy beyond idle: at worst all of it is missing, v·(1 − o).
//! * **Other cores** `x`, the share of the machine that something else used: leeches spend what they have whatever is left for the
//!   others, so what they take of it, 1 − v, becomes (1 − v)/(1 − x); but never more than under fair share, where everybody loses alike.
//! * **Slack** for what neither explains: agents in a core's cache before, programs that take time to start, batches that were not
//!   finished at the end ([`SLACK`]); and a tenth of the others' share, for the chance of sharing a core with them.
//!
//! Work per joule is compared without idle power. Idle joules are spent on whoever else computes as well, so with idle power the figure
//! says how busy the host was; it is compared too where nothing much else ran ([`QUIET`]).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::arithmetic::Arithmetic;
use super::arm::Arm;
use super::plan::Plan;
use super::stats::Estimate;

/// What neither own cost nor other cores explain, of the oracle's work per joule: twice the largest difference beyond own cost that was
/// seen on a quiet host (0.035, rich leeches; docs/experiment-host.md).
pub const SLACK: f64 = 0.08;
/// What others do to chance, beside their share of the cores: whoever happens to share a core with them for some seconds has less of it.
const NOISE: f64 = 0.1;
/// The share of cores below which a host is quiet.
pub const QUIET: f64 = 0.05;

/// What a comparison needs of `summary.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Told {
    /// What was run.
    pub plan: Plan,
    /// What had to come out.
    pub arithmetic: Arithmetic,
    arms: BTreeMap<String, ToldArm>,
    host: ToldHost,
}

#[derive(Clone, Debug, Deserialize)]
struct ToldHost {
    simulated: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ToldArm {
    eta: Option<f64>,
    ratio_vs_linux: Option<f64>,
    ci95: ToldIntervals,
    eta_active: Option<Estimate>,
    ratio_vs_linux_active: Option<Estimate>,
    figures: BTreeMap<String, Estimate>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct ToldIntervals {
    eta: Option<(f64, f64)>,
    ratio_vs_linux: Option<(f64, f64)>,
}

/// Two summaries that cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Not a summary of this version.
    #[error("this is no summary of a Maxwell of this version: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// The wrong way round, or two of a kind.
    #[error("the first is to be a run in virtual time and the second one on a host")]
    Order,
    /// Other agents, wallets or times.
    #[error(
        "they are not runs of the same plan: {0} differs; repeat the virtual run with the host's plan.json in mind"
    )]
    Plans(&'static str),
}

/// One figure of one arm, in both.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Which arm.
    pub arm: Arm,
    /// Which figure.
    pub figure: &'static str,
    /// In virtual time.
    pub simulated: f64,
    /// What is expected of a host, from the virtual figure and what was measured there.
    pub expected: (f64, f64),
    /// On the host.
    pub real: Estimate,
}

impl Comparison {
    /// Whether the interval of the host meets what is expected.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.real.ci95.0 <= self.expected.1 && self.real.ci95.1 >= self.expected.0
    }
}

impl Told {
    /// Reads a `summary.json`.
    ///
    /// # Errors
    ///
    /// [`CompareError::Unreadable`]
    pub fn read(text: &str) -> Result<Self, CompareError> {
        Ok(serde_json::from_str(text)?)
    }

    fn arm(&self, arm: Arm) -> Option<&ToldArm> {
        self.arms.get(arm.name())
    }

    /// The largest mean share of cores that something else on the host used, in any arm.
    #[must_use]
    pub fn crowd(&self) -> f64 {
        Arm::ALL.into_iter().map(|arm| self.others(arm)).fold(0.0, f64::max)
    }

    /// The largest mean share of cores that something else used, in this arm or in the oracle's.
    fn others(&self, arm: Arm) -> f64 {
        let of = |arm| self.arm(arm)?.figures.get("other_core_share").map(|share| share.value);
        [of(arm), of(Arm::Oracle)].into_iter().flatten().fold(0.0, f64::max).clamp(0.0, 0.95)
    }
}

impl ToldArm {
    /// The scheduler's share of the energy beyond idle.
    fn own(&self) -> f64 {
        let of = |name| self.figures.get(name).map(|estimate| estimate.value);
        of("own_joules").zip(of("joules_active")).map_or(0.0, |(own, all)| (own / all).clamp(0.0, 1.0))
    }

    fn eta_whole(&self) -> Option<Estimate> {
        Some(Estimate { value: self.eta?, ci95: self.ci95.eta? })
    }

    fn ratio_whole(&self) -> Option<Estimate> {
        Some(Estimate { value: self.ratio_vs_linux?, ci95: self.ci95.ratio_vs_linux? })
    }
}

/// What a host is expected to show where virtual time shows `v` of the oracle.
fn expected(v: f64, fair: f64, own: f64, others: f64) -> (f64, f64) {
    let crowded = (1.0 - (1.0 - v) / (1.0 - others)).max(fair.min(v));
    let slack = SLACK + NOISE * others;
    (crowded * (1.0 - own) - slack, v + slack)
}

fn same_plan(a: &Plan, b: &Plan) -> Result<(), CompareError> {
    let parts = [
        ("the number of scientists", a.scientists == b.scientists),
        ("the number of leeches", a.leeches == b.leeches),
        ("the kind of leech", a.leech == b.leech),
        ("the number of poor agents", a.poor == b.poor),
        ("the number of bursty agents", a.bursty == b.bursty),
        ("the economy", a.economy == b.economy),
        ("the length of a run", (a.seconds - b.seconds).abs() < 1e-9),
        ("the machine (--slots, --idle, --core)", same_machine(a, b)),
    ];
    parts.into_iter().find(|(_, same)| !same).map_or(Ok(()), |(what, _)| Err(CompareError::Plans(what)))
}

fn same_machine(a: &Plan, b: &Plan) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= 0.01 * a.abs().max(b.abs());
    let (a, b) = (a.machine, b.machine);
    a.slots == b.slots && near(a.idle.0, b.idle.0) && near(a.core.0, b.core.0)
}

/// Every figure that both have, arm by arm: the share of the oracle, and where there is fair share the ratio to it.
///
/// # Errors
///
/// [`CompareError`]: they are not two runs of one plan, one in virtual time and one on a host.
pub fn compare(simulated: &Told, real: &Told) -> Result<Vec<Comparison>, CompareError> {
    if !simulated.host.simulated || real.host.simulated {
        return Err(CompareError::Order);
    }
    same_plan(&simulated.plan, &real.plan)?;
    let mut all = Vec::new();
    for arm in Arm::ALL.into_iter().filter(|arm| *arm != Arm::Oracle) {
        let Some((here, there)) = simulated.arm(arm).zip(real.arm(arm)) else { continue };
        let others = real.others(arm);
        let active = (here.eta_active, there.eta_active, here.ratio_vs_linux_active, there.ratio_vs_linux_active);
        let whole = (here.eta_whole(), there.eta_whole(), here.ratio_whole(), there.ratio_whole());
        let names = [("eta, active", "× linux, active"), ("eta", "× linux")];
        for ((eta_name, ratio_name), (v, r, ratio_v, ratio_r)) in names.into_iter().zip([active, whole]) {
            let fair = 1.0 / real.arithmetic.oracle_over_fair_active;
            if eta_name == "eta" && real.crowd() > QUIET {
                continue;
            }
            let Some((v, r)) = v.zip(r) else { continue };
            let (low, high) = expected(v.value, fair, there.own(), others);
            all.push(Comparison { arm, figure: eta_name, simulated: v.value, expected: (low, high), real: r });
            let Some((ratio, real)) = ratio_v.zip(ratio_r).filter(|_| arm != Arm::Linux) else { continue };
            // What fair share itself is expected to show.
            let linux = v.value / ratio.value;
            let (least, most) = expected(linux, fair, 0.0, others);
            let expected = (low / most, high / least.max(0.01));
            all.push(Comparison { arm, figure: ratio_name, simulated: ratio.value, expected, real });
        }
    }
    Ok(all)
}

/// The table of a comparison, as Markdown.
#[must_use]
pub fn comparison_table(all: &[Comparison], real: &Told) -> String {
    let mut out = String::from("| arm | figure | virtual | expected here | host | |\n|---|---|---|---|---|---|\n");
    for one in all {
        let Comparison { arm, figure, simulated, expected: (low, high), real } = one;
        let said = if one.agrees() { "agrees" } else { "**differs**" };
        writeln!(
            out,
            "| {arm} | {figure} | {simulated:.3} | {low:.3} to {high:.3} | {:.3} [{:.3}, {:.3}] | {said} |",
            real.value, real.ci95.0, real.ci95.1
        )
        .expect("writing to a string");
    }
    let others = real.crowd();
    let recorded = real.arms.values().any(|arm| arm.figures.contains_key("other_core_share"));
    let crowd = format!("Something else used up to {:.1} % of the host's cores", others * 100.0);
    writeln!(
        out,
        "\n{}{}. What is expected allows for that, for the scheduler's own cost, and for {SLACK} of the oracle and a tenth of what else ran.",
        if recorded { crowd.as_str() } else { "What else ran on the host was not recorded, and is taken for nothing" },
        if others > QUIET { ": figures with idle power are not compared" } else { "" }
    )
    .expect("writing to a string");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_else_and_no_cost_leave_the_slack_alone() {
        let (low, high) = expected(0.9, 0.5, 0.0, 0.0);
        assert!((low - (0.9 - SLACK)).abs() < 1e-9 && (high - (0.9 + SLACK)).abs() < 1e-9);
    }

    #[test]
    fn a_crowded_host_makes_leeches_dearer_and_never_dearer_than_fair_share() {
        // Half the machine is somebody else's: a tenth becomes a fifth.
        assert!((expected(0.9, 0.5, 0.0, 0.5).0 - (0.8 - SLACK - 0.05)).abs() < 1e-9);
        assert!((expected(0.7, 0.5, 0.0, 0.9).0 - (0.5 - SLACK - 0.09)).abs() < 1e-9);
        // Fair share itself stays what it is, and own cost comes off.
        assert!((expected(0.5, 0.5, 0.0, 0.9).0 - (0.5 - SLACK - 0.09)).abs() < 1e-9);
        assert!((expected(0.9, 0.5, 0.1, 0.0).0 - (0.81 - SLACK)).abs() < 1e-9);
    }

    #[test]
    fn intervals_must_meet() {
        let real = Estimate { value: 0.6, ci95: (0.55, 0.65) };
        let of = |expected| Comparison { arm: Arm::Maxwell, figure: "eta", simulated: 0.9, expected, real };
        assert!(of((0.64, 0.9)).agrees() && of((0.1, 0.56)).agrees() && of((0.56, 0.6)).agrees());
        assert!(!of((0.66, 0.9)).agrees() && !of((0.1, 0.54)).agrees());
    }
}
