//! What is going to be run, and what is expected of it: fixed, and written down, before the first run.

use maxwell_core::units::Watts;
use serde::{Deserialize, Serialize};

use super::arm::Arm;
use super::leech::LeechKind;
use super::stats::Dice;

/// The machine as far as the arithmetic needs it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Cores for agents.
    pub slots: u16,
    /// Power of the idle machine.
    pub idle: Watts,
    /// Power that a busy core adds: par.
    pub core: Watts,
}

impl Default for Machine {
    /// Two cores; powers as of `ThermalPolicy`'s default machine.
    fn default() -> Self {
        Self { slots: 2, idle: Watts(10.0), core: Watts(4.5) }
    }
}

/// What agents are given and earn. Core-seconds are core-seconds at par.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Economy {
    /// What every agent has at birth, in core-seconds at par.
    pub wallet: f64,
    /// What the sponsor pays for a core-second of a scientist's work, beside par.
    pub value: f64,
    /// The share of its income that a scientist bids; the rest covers rent, tax and fees.
    pub bid: f64,
    /// The budget of the arm `killer` in core-seconds for each agent. `None`: as much as a scientist needs that is
    /// disturbed by nobody, the best that somebody who knows the whole run could choose without knowing who is who.
    pub killer_budget: Option<f64>,
}

impl Default for Economy {
    fn default() -> Self {
        Self { wallet: 1.0, value: 4.0, bid: 0.9, killer_budget: None }
    }
}

/// What is wanted. Written into the report before the first run, and compared with what came out after the last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Maxwell's share of the oracle's work per joule, where the scientists alone fill the machine.
    pub eta_oversubscribed: f64,
    /// The same where they do not.
    pub eta_undersubscribed: f64,
    /// Maxwell's work per joule beside `linux`, where the arithmetic allows at least twice.
    pub ratio_vs_linux: f64,
    /// Seconds from the loss of its funds until a leech draws less than 1 % of the power.
    pub neutralise_seconds: f64,
    /// Milliseconds until an orphan fleet is frozen, 99th percentile.
    pub freeze_ms: f64,
    /// Honest agents killed.
    pub false_kills: u64,
    /// A poor but useful agent's share of its ideal.
    pub poor_share: f64,
    /// Maxwell's own share of all energy.
    pub own_share: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            eta_oversubscribed: 0.95,
            eta_undersubscribed: 0.90,
            ratio_vs_linux: 1.8,
            neutralise_seconds: 1.0,
            freeze_ms: 50.0,
            false_kills: 0,
            poor_share: 0.5,
            own_share: 0.01,
        }
    }
}

/// One experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// A short name, usable as a file name.
    pub name: String,
    /// The arms.
    pub arms: Vec<Arm>,
    /// Agents that do verified work whenever they can.
    pub scientists: u16,
    /// Agents that do not.
    pub leeches: u16,
    /// What kind of leech.
    pub leech: LeechKind,
    /// Agents as useful as a scientist with a tenth of its wallet.
    pub poor: u16,
    /// Honest agents that work in bursts of one or two seconds and sleep between them.
    pub bursty: u16,
    /// The machine.
    pub machine: Machine,
    /// Wallets and rewards.
    pub economy: Economy,
    /// How long a run lasts, in seconds.
    pub seconds: f64,
    /// How often each arm runs.
    pub runs: u32,
    /// The seed of everything that is random.
    pub seed: u64,
    /// What is wanted.
    pub thresholds: Thresholds,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            name: "scientist-vs-leech".to_owned(),
            arms: Arm::ALL.to_vec(),
            scientists: 2,
            leeches: 2,
            leech: LeechKind::Spin,
            poor: 0,
            bursty: 0,
            machine: Machine::default(),
            economy: Economy::default(),
            seconds: 60.0,
            runs: 20,
            seed: 1,
            thresholds: Thresholds::default(),
        }
    }
}

/// Why a plan cannot be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the plan's {field} is out of range: {range}")]
pub struct PlanError {
    /// Which part.
    pub field: &'static str,
    /// What it must be.
    pub range: &'static str,
}

/// One arm, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Turn {
    /// Which arm.
    pub arm: Arm,
    /// Which repetition, from 0.
    pub run: u32,
    /// The seed: the same for every arm of a repetition.
    pub seed: u64,
}

impl Plan {
    /// Whether it can be carried out.
    ///
    /// # Errors
    ///
    /// The first part that is out of range.
    pub fn check(&self) -> Result<(), PlanError> {
        let Machine { slots, idle, core } = self.machine;
        let Economy { wallet, value, bid, killer_budget } = self.economy;
        let agents = u32::from(self.scientists) + u32::from(self.poor) + u32::from(self.bursty);
        let mut distinct = self.arms.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let checks = [
            ("arms", "at least one, each once", !self.arms.is_empty() && distinct.len() == self.arms.len()),
            ("scientists", "1 to 1000, with all other honest agents", self.scientists > 0 && agents <= 1_000),
            ("leeches", "at most 1000, and 10000 identities", {
                self.leeches <= 1_000 && u32::from(self.leeches) * u32::from(self.leech.identities()) <= 10_000
            }),
            ("slots", "1 to 1024", (1..=1_024).contains(&slots)),
            ("idle", "0 W to 10 kW", (0.0..=1e4).contains(&idle.0)),
            ("core", "1 mW to 1 kW", (0.001..=1e3).contains(&core.0)),
            ("wallet", "0.1 to 10000 core-seconds", (0.1..=1e4).contains(&wallet)),
            ("value", "0.1 to 1000 times par", (0.1..=1e3).contains(&value)),
            ("bid", "0.01 to 1", (0.01..=1.0).contains(&bid)),
            ("killer budget", "above 0", killer_budget.is_none_or(|budget| budget > 0.0 && budget.is_finite())),
            ("seconds", "1 to 86400", (1.0..=86_400.0).contains(&self.seconds)),
            ("runs", "1 to 100000", (1..=100_000).contains(&self.runs)),
        ];
        match checks.into_iter().find(|(_, _, good)| !good) {
            Some((field, range, _)) => Err(PlanError { field, range }),
            None => Ok(()),
        }
    }

    /// The turns in the order in which they are taken: forward in even repetitions and backward in odd ones (ABBA), so that
    /// what drifts slowly, such as the temperature of the room, meets all arms alike.
    #[must_use]
    pub fn turns(&self) -> Vec<Turn> {
        let mut dice = Dice::new(self.seed);
        let mut turns = Vec::with_capacity(self.arms.len() * self.runs as usize);
        for run in 0..self.runs {
            let seed = dice.next();
            let turn = |arm: &Arm| Turn { arm: *arm, run, seed };
            if run % 2 == 0 {
                turns.extend(self.arms.iter().map(turn));
            } else {
                turns.extend(self.arms.iter().rev().map(turn));
            }
        }
        turns
    }

    /// The budget of the arm `killer`, in core-seconds for each agent.
    #[must_use]
    pub fn killer_budget(&self) -> f64 {
        self.economy.killer_budget.unwrap_or_else(|| {
            self.seconds * (f64::from(self.machine.slots) / f64::from(self.scientists.max(1))).min(1.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_there_and_back_and_share_seeds() {
        let plan = Plan { arms: vec![Arm::Linux, Arm::Maxwell, Arm::Oracle], runs: 2, ..Plan::default() };
        let turns = plan.turns();
        let arms: Vec<Arm> = turns.iter().map(|turn| turn.arm).collect();
        assert_eq!(arms, [Arm::Linux, Arm::Maxwell, Arm::Oracle, Arm::Oracle, Arm::Maxwell, Arm::Linux]);
        assert!(turns[..3].iter().all(|turn| turn.seed == turns[0].seed));
        assert_ne!(turns[0].seed, turns[3].seed);
    }

    #[test]
    fn a_plan_that_makes_no_sense_is_refused() {
        assert_eq!(Plan::default().check(), Ok(()));
        let twice = Plan { arms: vec![Arm::Linux; 2], ..Plan::default() };
        assert_eq!(twice.check().unwrap_err().field, "arms");
        let endless = Plan { seconds: f64::NAN, ..Plan::default() };
        assert_eq!(endless.check().unwrap_err().field, "seconds");
        let crowd = Plan { leech: LeechKind::Sybil, leeches: 11, ..Plan::default() };
        assert_eq!(crowd.check().unwrap_err().field, "leeches");
    }
}
