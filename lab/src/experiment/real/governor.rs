//! The arms without a market: the kernel's fair share, with somebody at the switches every 100 ms, or nobody.

use std::sync::atomic::{AtomicBool, Ordering};

use maxwell_hypervisor::clock;

use super::fleet::Fleet;
use super::meter::Meter;
use super::roster::{Member, roster};
use super::watch::{EVERY, Watched};
use super::{Real, RealError};
use crate::experiment::arm::Arm;
use crate::experiment::plan::{Plan, Turn};

/// Who sits at the switches.
#[derive(Debug)]
enum Governor {
    /// Nobody.
    Kernel,
    /// Kills whoever has used its core-seconds. The same for everybody, but who has ten wallets has ten budgets, and a wallet in a
    /// hundred parts is a budget in a hundred parts, as in virtual time.
    Killer { budgets: Vec<f64> },
    /// Kills whoever has used what it had and what its work earned. Each agent's wallet in core-seconds at par; batches that
    /// were paid; what a batch earns in core-seconds.
    KillerPaid { wallets: Vec<f64>, paid: Vec<usize>, batch: f64 },
    /// Karma: credits in core-seconds, and how much each used of late when it might run.
    Karma { credits: Vec<f64>, appetite: Vec<f64>, cores: f64 },
}

/// Runs a turn of any arm but the market.
pub(super) fn run(real: &Real, plan: &Plan, turn: Turn, stop: &AtomicBool) -> Result<Watched, RealError> {
    let members = roster(plan, turn.arm, turn.seed, &real.agents);
    let (mut fleet, seen) = Fleet::new(real, turn.arm, &members)?;
    let mut governor = Governor::new(real, plan, turn.arm, &members);
    let mut watched = Watched::start(seen, Meter::new(&real.scenario)?);
    governor.start(&mut fleet)?;
    let mut governing_ns = 0;
    while watched.goes_on(plan.seconds) && !stop.load(Ordering::Relaxed) {
        watched.wait(plan.seconds);
        watched.look(None, governing_ns)?;
        let began = clock::thread_cpu_ns();
        governor.govern(&mut fleet, &mut watched)?;
        governing_ns = clock::thread_cpu_ns() - began;
    }
    note_ends(&members, &mut fleet, &mut watched);
    Ok(watched)
}

/// Programs that ended by themselves: nobody is meant to, but who fathers orphans.
fn note_ends(members: &[Member], fleet: &mut Fleet, watched: &mut Watched) {
    for (at, member) in members.iter().enumerate() {
        if fleet.bodies[at].alive
            && !member.wait_all
            && let Some(exit) = fleet.ended(at)
        {
            watched.remarks.push(format!("{} ended by itself: {exit}", member.name));
        }
    }
}

impl Governor {
    fn new(real: &Real, plan: &Plan, arm: Arm, members: &[Member]) -> Self {
        match arm {
            Arm::Killer => {
                let budget = |member: &Member| plan.killer_budget() * member.wallet / plan.economy.wallet;
                Self::Killer { budgets: members.iter().map(budget).collect() }
            }
            Arm::KillerPaid => Self::KillerPaid {
                wallets: members.iter().map(|member| member.wallet).collect(),
                paid: vec![0; members.len()],
                batch: plan.economy.value / real.yardstick.batches.max(1e-9),
            },
            Arm::Karma => Self::Karma {
                credits: vec![0.0; members.len()],
                appetite: members.iter().map(|member| f64::from(member.slots)).collect(),
                cores: f64::from(real.machine().slots),
            },
            _ => Self::Kernel,
        }
    }

    /// Lets run whom it likes.
    fn start(&mut self, fleet: &mut Fleet) -> Result<(), RealError> {
        match self {
            Self::Karma { .. } => self.share(fleet).map(drop),
            _ => (0..fleet.bodies.len()).try_for_each(|at| fleet.thaw(at)),
        }
    }

    /// Decides, by what was seen at the last look.
    fn govern(&mut self, fleet: &mut Fleet, watched: &mut Watched) -> Result<(), RealError> {
        let now = watched.elapsed();
        match self {
            Self::Kernel => {}
            Self::Killer { budgets } => {
                for (at, (seen, budget)) in watched.seen.iter_mut().zip(budgets).enumerate() {
                    if fleet.bodies[at].alive && seen.core_ns as f64 * 1e-9 >= *budget {
                        fleet.kill(at)?;
                        (seen.killed, seen.broke) = (Some(now), Some(now));
                    }
                }
            }
            Self::KillerPaid { wallets, paid, batch } => {
                for (at, seen) in watched.seen.iter_mut().enumerate() {
                    let batches = seen.lines.batches();
                    for claim in &batches[paid[at]..] {
                        // As sponsors do it, and charged to nobody.
                        wallets[at] += if maxwell_core::bounty::is_prime(claim.to) { *batch } else { 0.0 };
                    }
                    paid[at] = batches.len();
                    wallets[at] -= seen.newest_ns as f64 * 1e-9;
                    if fleet.bodies[at].alive && wallets[at] <= 0.0 {
                        fleet.kill(at)?;
                        (seen.killed, seen.broke) = (Some(now), Some(now));
                    }
                }
            }
            Self::Karma { credits, appetite, cores } => {
                // Each round everybody earns an equal share, and pays for what it used: who uses less than its share lends it.
                let alive = fleet.bodies.iter().filter(|body| body.alive).count().max(1) as f64;
                for (at, seen) in watched.seen.iter().enumerate() {
                    let used = seen.newest_ns as f64 * 1e-9;
                    credits[at] += *cores * EVERY.as_secs_f64() / alive - used;
                    if fleet.bodies[at].thawed {
                        appetite[at] += 0.5 * (used / EVERY.as_secs_f64() - appetite[at]);
                    }
                }
                let froze = self.share(fleet)?;
                watched.freezes_ns.extend(froze);
            }
        }
        Ok(())
    }

    /// Karma's round: those with most credits run, until the cores are filled; the rest is frozen.
    fn share(&mut self, fleet: &mut Fleet) -> Result<Vec<u64>, RealError> {
        let Self::Karma { credits, appetite, cores } = self else { return Ok(Vec::new()) };
        let mut order: Vec<usize> = (0..credits.len()).collect();
        order.sort_by(|a, b| credits[*b].total_cmp(&credits[*a]));
        let (mut filled, mut froze) = (0.0, Vec::new());
        let mut run = vec![false; order.len()];
        for at in order {
            // Who sleeps is let run, so that it can wake, and fills next to nothing.
            run[at] = filled + 0.1 < *cores;
            filled += if run[at] { appetite[at] } else { 0.0 };
        }
        for (at, run) in run.iter().enumerate() {
            if !run && let Some(took) = fleet.freeze(at)? {
                froze.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            }
        }
        for (at, run) in run.iter().enumerate() {
            if *run {
                fleet.thaw(at)?;
            }
        }
        Ok(froze)
    }
}
