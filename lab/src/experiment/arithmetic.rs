//! What the result must be before anything runs.
//!
//! S scientists and L leeches, all bound by the processor and of equal power, on C cores; idle power P₀, a busy core draws p.
//!
//! ```text
//!   oversubscribed (S ≥ C)      oracle / fair = 1 + L/S, whatever p and P₀: the same watts, more of them useful
//!   otherwise                   oracle / fair = (work / power of the oracle) / (work / power of fair share), where
//!                               fair share gives every scientist min(1, C / (S + L)) of a core
//! ```
//!
//! So a factor over fair share says more about the leeches than about the scheduler. The share of the oracle, eta, says
//! what the scheduler did.

use serde::{Deserialize, Serialize};

use super::leech::LeechKind;
use super::plan::Plan;

/// The figures that follow from the plan alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arithmetic {
    /// Leeches for each scientist.
    pub leeches_per_scientist: f64,
    /// The scientists alone fill the machine.
    pub oversubscribed: bool,
    /// What an oracle does beside fair share, idle power included: the most that any scheduler can reach.
    pub oracle_over_fair: f64,
    /// The same with idle power left out.
    pub oracle_over_fair_active: f64,
    /// Work of fair share in core-seconds of a scientist, for each second.
    pub fair_work: f64,
    /// Work of the oracle.
    pub oracle_work: f64,
    /// Power of the machine under fair share, in watts.
    pub fair_watts: f64,
    /// Power of the machine under the oracle.
    pub oracle_watts: f64,
}

impl Arithmetic {
    /// The arithmetic of a plan: of leeches that want a core each (an orphan fleet wants them all, a sleeper none while
    /// scientists fill the machine), mimics with their share of useful work. A poor agent counts as a scientist, a bursty one
    /// as a tenth of one.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        Self::with_identities(plan, plan.leech.identities())
    }

    /// The same where a leech appears as so many agents.
    #[must_use]
    pub fn with_identities(plan: &Plan, identities: u16) -> Self {
        let cores = f64::from(plan.machine.slots);
        let scientists = f64::from(plan.scientists + plan.poor) + 0.1 * f64::from(plan.bursty);
        let idle = plan.leech == LeechKind::Sleeper && scientists >= cores;
        let leeches = if idle { 0.0 } else { f64::from(plan.leeches) * f64::from(identities) };
        let width = f64::from(plan.leech.processes().min(plan.machine.slots));
        let (fair_scientist, fair_leech) = share(cores, scientists, leeches, width);
        let useful = plan.leech.usefulness();
        let busy_fair = fair_scientist * scientists + fair_leech * leeches;
        let busy_oracle = scientists.min(cores);
        let fair_work = fair_scientist * scientists + useful * fair_leech * leeches;
        let watts = |busy: f64| plan.machine.idle.0 + plan.machine.core.0 * busy;
        let ratio = (busy_oracle / watts(busy_oracle)) / (fair_work / watts(busy_fair));
        Self {
            leeches_per_scientist: f64::from(plan.leeches) / scientists,
            oversubscribed: scientists >= cores,
            oracle_over_fair: ratio,
            oracle_over_fair_active: busy_fair / fair_work,
            fair_work,
            oracle_work: busy_oracle,
            fair_watts: watts(busy_fair),
            oracle_watts: watts(busy_oracle),
        }
    }
}

/// Max-min fair shares of `cores` between agents that can use one core, and others that can use `width`.
fn share(cores: f64, ones: f64, wides: f64, width: f64) -> (f64, f64) {
    let equal = cores / (ones + wides);
    if equal <= 1.0 {
        return (equal, equal);
    }
    let rest = if wides > 0.0 { ((cores - ones) / wides).min(width) } else { 0.0 };
    (1.0, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::plan::Machine;
    use maxwell_core::units::Watts;

    #[test]
    fn oversubscribed_it_is_one_and_the_leeches_per_scientist() {
        for (scientists, leeches, ratio) in [(2, 2, 2.0), (8, 2, 1.25), (2, 8, 5.0)] {
            let plan = Plan { scientists, leeches, ..Plan::default() };
            let sums = Arithmetic::of(&plan);
            assert!((sums.oracle_over_fair - ratio).abs() < 1e-9 && sums.oversubscribed, "{sums:?}");
        }
    }

    #[test]
    fn undersubscribed_idle_power_bounds_it() {
        // C = 16, S = L = 8, P₀ = 60 W, p = 8 W: 1.516.
        let machine = Machine { slots: 16, idle: Watts(60.0), core: Watts(8.0) };
        let plan = Plan { machine, scientists: 8, leeches: 8, ..Plan::default() };
        assert!((Arithmetic::of(&plan).oracle_over_fair - 188.0 / 124.0).abs() < 1e-9);
    }

    #[test]
    fn a_fleet_takes_what_cores_are_left() {
        let machine = Machine { slots: 8, ..Machine::default() };
        let plan = Plan { machine, scientists: 2, leeches: 1, leech: LeechKind::OrphanFleet, ..Plan::default() };
        let sums = Arithmetic::of(&plan);
        assert!((sums.fair_work - 2.0).abs() < 1e-9 && sums.fair_watts > sums.oracle_watts, "{sums:?}");
    }
}
