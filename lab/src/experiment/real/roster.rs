//! Who takes part, as programs.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::experiment::arm::Arm;
use crate::experiment::leech::LeechKind;
use crate::experiment::plan::Plan;
use crate::experiment::stats::Dice;

/// What somebody is in the experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Works whenever it can.
    Scientist,
    /// As useful, with a tenth of the wallet.
    Poor,
    /// Works in bursts.
    Bursty,
    /// Takes and does not give.
    Leech,
}

impl Role {
    /// Whether its end by force is an error of the arm.
    #[must_use]
    pub const fn is_honest(self) -> bool {
        !matches!(self, Self::Leech)
    }
}

/// One agent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) role: Role,
    /// Its program and the arguments.
    pub(super) command: Vec<String>,
    /// First money, in core-seconds at par.
    pub(super) wallet: f64,
    /// What it bids for a core-second, beside par.
    pub(super) bid: f64,
    /// The most slots it asks for.
    pub(super) slots: u16,
    /// Its descendants are to go on without it.
    pub(super) wait_all: bool,
}

/// Identities of a Sybil on a real host: each is a process with a group and meters of its own, and what they say of a thousand
/// they say of a hundred.
pub const SYBILS: u16 = 100;
/// Memory that a hoarder takes: an eighth of a gibibyte does not harm a small host.
const HOARD_MIB: u32 = 128;
/// A parker bids this much less than the scientists, two levels of the ladder.
const BELOW: f64 = 0.998;
/// A sleeper bids this much, beside par: it runs when nobody else wants a core.
const CHEAP: f64 = 1.05;

/// Leeches begin within this many milliseconds.
const LATEST_MS: u64 = 1_000;

/// Everybody who takes part in an arm. The oracle's list has no leeches.
pub(super) fn roster(plan: &Plan, arm: Arm, seed: u64, agents: &Path) -> Vec<Member> {
    let scientist = agents.join("scientist").to_string_lossy().into_owned();
    let miner = agents.join("miner").to_string_lossy().into_owned();
    let bid = plan.economy.value * plan.economy.bid;
    let mut members = Vec::new();
    let honest = [(Role::Scientist, plan.scientists), (Role::Poor, plan.poor), (Role::Bursty, plan.bursty)];
    for (role, count) in honest {
        for number in 0..count {
            let mut command = vec![scientist.clone()];
            command.extend(place(seed, members.len()));
            let (name, wallet) = match role {
                Role::Poor => ("poor", plan.economy.wallet / 10.0),
                Role::Bursty => ("bursty", plan.economy.wallet),
                _ => ("scientist", plan.economy.wallet),
            };
            match role {
                Role::Scientist => command.push("--wake".to_owned()),
                Role::Bursty => command.push("--bursty".to_owned()),
                _ => {}
            }
            let name = format!("{name}-{number}");
            members.push(Member { name, role, command, wallet, bid, slots: 1, wait_all: false });
        }
    }
    if arm == Arm::Oracle {
        return members;
    }
    let kind = plan.leech;
    let identities = kind.identities().min(SYBILS);
    let mut dice = Dice::new(seed);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
    let now = u64::try_from(now).unwrap_or(0);
    for number in 0..plan.leeches * identities {
        let words: Vec<String> = match kind {
            LeechKind::Miner => vec!["mine".to_owned()],
            LeechKind::Hoarder => vec!["hoard".to_owned(), HOARD_MIB.to_string()],
            LeechKind::OrphanFleet => vec!["orphans".to_owned(), kind.processes().to_string()],
            LeechKind::Sleeper => {
                // Cheap is what it bids.
                vec!["sleep".to_owned(), format!("{:.0}", CHEAP * plan.machine.core.0 * 1e3)]
            }
            LeechKind::Mimic(percent) => vec!["mimic".to_owned(), percent.to_string()],
            _ => vec!["spin".to_owned()],
        };
        let mut command = vec![miner.clone()];
        command.extend(words);
        command.extend(place(seed, members.len()));
        // Within the first second, at the same moments in every arm, as in virtual time.
        command.extend(["--at".to_owned(), (now + dice.below(LATEST_MS)).to_string()]);
        let wide = kind.processes() > 1;
        members.push(Member {
            name: format!("leech-{number}"),
            role: Role::Leech,
            command,
            wallet: plan.economy.wallet * f64::from(kind.wealth()) / f64::from(identities),
            bid: match kind {
                LeechKind::Overbidder => 10.0 * bid,
                LeechKind::Parker => BELOW * bid,
                LeechKind::Sleeper => CHEAP,
                _ => bid,
            },
            slots: if wide { plan.machine.slots } else { 1 },
            wait_all: wide,
        });
    }
    members
}

fn place(seed: u64, worker: usize) -> [String; 4] {
    ["--seed".to_owned(), (seed % 512).to_string(), "--worker".to_owned(), worker.to_string()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_has_no_leeches_and_a_sybil_splits_its_wallet() {
        let plan = Plan { leech: LeechKind::Sybil, leeches: 1, poor: 1, ..Plan::default() };
        let oracle = roster(&plan, Arm::Oracle, 1, Path::new("/x"));
        assert!(oracle.len() == 3 && oracle.iter().all(|member| member.role.is_honest()));
        let all = roster(&plan, Arm::Linux, 1, Path::new("/x"));
        let wallets: f64 = all.iter().filter(|m| m.role == Role::Leech).map(|m| m.wallet).sum();
        assert_eq!(all.len(), 3 + usize::from(SYBILS));
        assert!((wallets - plan.economy.wallet).abs() < 1e-9);
    }
}
