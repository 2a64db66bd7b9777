//! Fair share between groups, and the arms that are fair share with a change: weights, budgets or income.
//!
//! The kernel's fair scheduler (EEVDF since 6.6) is taken at its limit: weighted max-min shares between the groups that want
//! to run, exact in every tick, moved between cores at no cost. Every agent is a control group, as systemd and container
//! runtimes make it; so an orphan fleet of 500 processes has one share, not 500. A kernel without groups would do worse.

use maxwell_core::sensor::Reading;

use super::body::{Body, Role, UNIT_US, tax_joules};
use super::machine::WATTS_PER_GB;
use super::{Scheduler, TICK, TICK_US, Told};
use crate::experiment::arm::Arm;
use crate::experiment::plan::Plan;

/// Weights of nice 0 and nice 19 (kernel/sched/core.c, `sched_prio_to_weight`).
const NICE_0: f64 = 1_024.0;
const NICE_19: f64 = 15.0;
/// The lowest `cpu.weight` beside the default of 100: the best that hindsight finds for a known leech.
const LOWEST_WEIGHT: f64 = NICE_0 / 100.0;
/// The kernel's slice in milliseconds (`sysctl_sched_base_slice`, scaled for two cores and more).
const SLICE_MS: f64 = 3.0;

/// What ends an agent.
#[derive(Clone, Debug)]
enum Purse {
    /// Nothing does.
    None,
    /// Core-seconds that may be used.
    Budget(Vec<f64>),
    /// Core-seconds at par; verified work earns `reward` a unit, bytes that are held cost rent, and bytes that are erased tax.
    Wallet { held: Vec<f64>, reward: f64, rent: f64, tax: f64 },
}

/// Fair share.
#[derive(Debug)]
pub(super) struct Fair {
    slots: f64,
    weights: Vec<f64>,
    purse: Purse,
    /// Bodies that are still to be served, while a tick is shared out.
    open: Vec<usize>,
    /// Fractions of a microsecond that each is owed.
    owed: Vec<f64>,
}

impl Fair {
    pub(super) fn new(plan: &Plan, arm: Arm, bodies: &[Body]) -> Self {
        let weight = |body: &Body| match (arm, body.role) {
            (Arm::Nice, Role::Leech) => NICE_19,
            (Arm::Weight, Role::Leech) => LOWEST_WEIGHT,
            _ => NICE_0,
        };
        let economy = plan.economy;
        let purse = match arm {
            // The same budget for everybody, but who has ten wallets has ten budgets, and a wallet in 1,000 parts is a budget
            // in 1,000 parts.
            Arm::Killer => {
                Purse::Budget(bodies.iter().map(|body| plan.killer_budget() * body.wallet / economy.wallet).collect())
            }
            Arm::KillerPaid => Purse::Wallet {
                held: bodies.iter().map(|body| body.wallet + body.cover / plan.machine.core.0).collect(),
                reward: economy.value * UNIT_US * 1e-6,
                rent: WATTS_PER_GB * 1e-9 / plan.machine.core.0 * TICK,
                tax: tax_joules() / plan.machine.core.0,
            },
            _ => Purse::None,
        };
        Self {
            slots: f64::from(plan.machine.slots),
            weights: bodies.iter().map(weight).collect(),
            purse,
            open: Vec::with_capacity(bodies.len()),
            owed: vec![0.0; bodies.len()],
        }
    }

    /// Weighted max-min shares in microseconds: whoever's share is more than it can use gets what it can use, and the rest is
    /// shared anew.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and all cores for a tick")]
    fn share(&mut self, tick: u64, bodies: &mut [Body]) {
        let mut left = self.slots * TICK_US as f64;
        let mut weight: f64 = self.open.iter().map(|at| self.weights[*at]).sum();
        while !self.open.is_empty() {
            let before = self.open.len();
            let per_weight = left / weight;
            let mut at = 0;
            while at < self.open.len() {
                let body = self.open[at];
                let most = f64::from(bodies[body].wanted) * TICK_US as f64;
                if self.weights[body] * per_weight >= most {
                    left -= most;
                    weight -= self.weights[body];
                    bodies[body].run(tick, most as u64);
                    self.open.swap_remove(at);
                } else {
                    at += 1;
                }
            }
            if self.open.len() == before {
                break;
            }
        }
        for body in self.open.drain(..) {
            let due = self.weights[body] / weight * left + self.owed[body];
            self.owed[body] = due.fract();
            bodies[body].run(tick, due as u64);
        }
    }

    /// Charges the tick and kills who has nothing left. Returns whether a leech can still pay, where paying matters.
    fn settle(&mut self, bodies: &mut [Body]) -> Option<bool> {
        let purses = match &mut self.purse {
            Purse::None => return None,
            Purse::Budget(left) => {
                left.iter_mut().zip(&*bodies).for_each(|(left, body)| *left -= body.used_us as f64 * 1e-6);
                left
            }
            Purse::Wallet { held, reward, rent, tax } => {
                for (wallet, body) in held.iter_mut().zip(&*bodies) {
                    *wallet += f64::from(body.new_units) * *reward - body.used_us as f64 * 1e-6;
                    *wallet -= body.held as f64 * *rent + body.erased(body.used_us) as f64 * *tax;
                }
                held
            }
        };
        let mut solvent = false;
        for (left, body) in purses.iter().zip(bodies) {
            body.alive &= *left > 0.0;
            solvent |= body.alive && !body.honest();
        }
        Some(solvent)
    }
}

impl Scheduler for Fair {
    fn tick(&mut self, tick: u64, bodies: &mut [Body], _: &Reading) -> Told {
        self.open.clear();
        self.open.extend((0..bodies.len()).filter(|at| bodies[*at].wanted > 0));
        let runnable: f64 = self.open.iter().map(|at| self.weights[*at] / NICE_0).sum();
        self.share(tick, bodies);
        // Who wakes waits for the slices of those who share its core.
        let others = (runnable / self.slots - 1.0).max(0.0);
        Told { solvent_leeches: self.settle(bodies), wait_ms: Some(SLICE_MS * others), price: None }
    }
}
