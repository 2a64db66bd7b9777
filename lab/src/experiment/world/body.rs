//! Bodies: the agents of the virtual world, as a scheduler sees them. What they do with a core does not depend on the arm.

use maxwell_core::landauer::LandauerPolicy;

use crate::experiment::leech::LeechKind;
use crate::experiment::plan::{Plan, Turn};
use crate::experiment::stats::Dice;

use super::TICK_US;

/// What an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Always has useful work.
    Scientist,
    /// As a scientist, with a tenth of the wallet.
    Poor,
    /// Honest, with work that comes in bursts.
    Bursty,
    /// See the plan for its kind.
    Leech,
}

/// When it wants to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    Always,
    /// While honest agents leave cores unused.
    WhenQuiet,
    /// So much core time, then sleep until a tick.
    Bursts {
        left_us: u64,
        wakes: u64,
    },
}

/// How its order stands beside a scientist's, under arms with prices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bid {
    /// So many times a scientist's.
    Times(f64),
    /// A little above par: it buys what is cheap.
    Cheap,
}

/// Core time of a scientist that one verified unit takes, on average.
pub(super) const UNIT_US: f64 = 10_000.0;

/// What erasing a byte costs at the temperature of the busy machine, in joules, by the market's default policy.
pub(super) fn tax_joules() -> f64 {
    let rate = LandauerPolicy::default().tax_rate(super::machine::FULL);
    // A gigabyte at once, since rates are finer than a nanojoule.
    rate.ceiling(1_000_000_000).0 as f64 * 1e-18
}

const MIB: u64 = 1 << 20;
/// Memory of a small native program.
const SMALL: u64 = 2 * MIB;
/// An agent's session before it does anything (AgentCgroup, arXiv 2602.09345: 185 MB).
const SESSION: u64 = 185 * MIB;

/// One agent.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) role: Role,
    /// Cores that it can use at once.
    pub(super) width: u16,
    /// Power of its work beside a scientist's.
    pub(super) class: f64,
    /// Units that it does in a scientist's time for one.
    usefulness: f64,
    /// Memory that it holds, and takes for every core-second.
    pub(super) held: u64,
    grows: u64,
    /// Memory that it gives back for every core-second: erased.
    pub(super) erases: u64,
    /// Core-seconds at par that it has at birth.
    pub(super) wallet: f64,
    /// What it has beside that, in joules: as much as the tax on erasing all that it holds at birth, so that it can pay for its end.
    pub(super) cover: f64,
    pub(super) bid: Bid,
    pub(super) alive: bool,
    habit: Habit,
    starts: u64,
    dice: Dice,
    /// Core time until the next unit is done.
    unit_us: f64,
    /// Cores that it wants in this tick.
    pub(super) wanted: u16,
    /// It wants to run since this tick and has not; whether it slept before.
    waits: Option<(u64, bool)>,
    /// Core time that it got in this tick, and units that it finished.
    pub(super) used_us: u64,
    pub(super) new_units: u32,
    /// All units so far.
    pub(super) units: u64,
}

/// The most memory that a hoarder takes.
const MOST_HELD: u64 = 8 << 30;
/// A burst is one to two core-seconds, as in AgentCgroup's traces; ten to twenty seconds of sleep make 7 to 13 % of a core.
const BURST_US: (f64, f64) = (1e6, 2e6);
const SLEEP_TICKS: (f64, f64) = (1_000.0, 2_000.0);

/// How long a cell may not look at what its agent erases (`ERASING_LOOK` in `hypervisor/src/process/cell.rs`).
const LOOK_US: u64 = 1_000;

/// The agents of a turn: the same for every arm of a repetition.
pub(super) fn population(plan: &Plan, turn: Turn) -> Vec<Body> {
    let mut dice = Dice::new(turn.seed);
    let mut bodies = Vec::new();
    let roles = [(Role::Scientist, plan.scientists), (Role::Poor, plan.poor), (Role::Bursty, plan.bursty)];
    for (role, count) in roles {
        bodies.extend((0..count).map(|_| Body::new(role, plan, dice.next())));
    }
    for _ in 0..plan.leeches {
        let starts = 1 + dice.below(100);
        let identities = plan.leech.identities();
        bodies.extend((0..identities).map(|_| Body { starts, ..Body::leech(plan, dice.next()) }));
    }
    bodies
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small positive times")]
fn drawn(dice: &mut Dice, range: (f64, f64)) -> u64 {
    dice.between(range.0, range.1) as u64
}

impl Body {
    fn new(role: Role, plan: &Plan, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let habit = match role {
            // The first burst comes within the first sleep, so that sessions are out of step.
            Role::Bursty => Habit::Bursts { left_us: drawn(&mut dice, BURST_US), wakes: dice.below(2_000) },
            _ => Habit::Always,
        };
        let mut body = Self {
            role,
            width: 1,
            class: 1.0,
            usefulness: 1.0,
            held: if role == Role::Bursty { SESSION } else { SMALL },
            grows: 0,
            erases: MIB / 2,
            wallet: plan.economy.wallet * if role == Role::Poor { 0.1 } else { 1.0 },
            cover: 0.0,
            bid: Bid::Times(1.0),
            alive: true,
            habit,
            starts: 1,
            dice,
            unit_us: 0.0,
            wanted: 0,
            waits: None,
            used_us: 0,
            new_units: 0,
            units: 0,
        };
        body.next_unit();
        body.cover = body.held as f64 * tax_joules();
        body
    }

    fn leech(plan: &Plan, seed: u64) -> Self {
        let kind = plan.leech;
        let identities = u64::from(kind.identities());
        let plain = Self {
            usefulness: kind.usefulness(),
            wallet: plan.economy.wallet * f64::from(kind.wealth()) / identities as f64,
            width: kind.processes().min(plan.machine.slots),
            held: SMALL / identities,
            ..Self::new(Role::Leech, plan, seed)
        };
        let mut body = match kind {
            // Hashing and its memory draw a fifth more; 50 MiB of every core-second are given back and taken anew.
            LeechKind::Miner => Self { class: 1.2, held: 64 * MIB, erases: 50 * MIB, ..plain },
            LeechKind::Hoarder => Self { grows: 256 * MIB, ..plain },
            // A thread's stack and its share of page tables each.
            LeechKind::OrphanFleet => Self { held: 500 * MIB, ..plain },
            LeechKind::Sleeper => Self { habit: Habit::WhenQuiet, bid: Bid::Cheap, ..plain },
            LeechKind::Overbidder => Self { bid: Bid::Times(10.0), ..plain },
            // Levels are 1.1 % apart at most; one level under the others.
            LeechKind::Parker => Self { bid: Bid::Times(0.998), ..plain },
            LeechKind::Spin | LeechKind::Mimic(_) | LeechKind::Rich | LeechKind::Sybil => plain,
        };
        (body.unit_us, body.cover) = (0.0, body.held as f64 * tax_joules());
        body.next_unit();
        body
    }

    pub(super) fn honest(&self) -> bool {
        self.role != Role::Leech
    }

    /// Seconds of work so far, of an undisturbed scientist.
    pub(super) fn work(&self) -> f64 {
        self.units as f64 * UNIT_US * 1e-6
    }

    fn next_unit(&mut self) {
        if self.usefulness > 0.0 {
            self.unit_us += UNIT_US / self.usefulness * self.dice.between(0.5, 1.5);
        }
    }

    /// A tick begins: how many cores does it want?
    pub(super) fn wake(&mut self, tick: u64, crowded: bool) {
        (self.used_us, self.new_units) = (0, 0);
        let wants = self.alive
            && tick >= self.starts
            && match self.habit {
                Habit::Always => true,
                Habit::WhenQuiet => !crowded,
                Habit::Bursts { wakes, .. } => tick >= wakes,
            };
        let slept = self.wanted == 0;
        self.wanted = if wants { self.width } else { 0 };
        match self.waits {
            _ if !wants => self.waits = None,
            None => self.waits = Some((tick, slept)),
            Some(_) => {}
        }
    }

    /// It gets so much core time in this tick; returns what it used.
    pub(super) fn run(&mut self, tick: u64, us: u64) -> u64 {
        if self.wanted == 0 || !self.alive {
            return 0;
        }
        let mut used = us.min(u64::from(self.width) * TICK_US - self.used_us);
        if let Habit::Bursts { left_us, wakes } = &mut self.habit {
            used = used.min(*left_us);
            *left_us -= used;
            if *left_us == 0 {
                *wakes = tick + drawn(&mut self.dice, SLEEP_TICKS);
                *left_us = drawn(&mut self.dice, BURST_US);
                self.wanted = 0;
            }
        }
        self.used_us += used;
        self.held = (self.held + self.grows * used / 1_000_000).min(MOST_HELD.max(self.held));
        if self.usefulness > 0.0 {
            self.unit_us -= used as f64;
            while self.unit_us <= 0.0 {
                self.new_units += 1;
                self.units += 1;
                self.next_unit();
            }
        }
        used
    }

    /// The tick is over: how long had it waited when it ran at last, in ticks, and had it slept before?
    pub(super) fn waited(&mut self, tick: u64) -> Option<(u64, bool)> {
        if self.used_us == 0 {
            return None;
        }
        let (since, slept) = self.waits.take()?;
        let ticks = tick - since;
        (slept || ticks > 0).then_some((ticks, slept))
    }

    /// Core time until it has erased so many bytes and its cell has seen it.
    pub(super) fn time_to_erase(&self, bytes: u64) -> u64 {
        let until = bytes.saturating_mul(1_000_000).checked_div(self.erases);
        until.map_or(u64::MAX, |us| us.saturating_add(LOOK_US))
    }

    /// What it erases while it uses so much core time.
    pub(super) fn erased(&self, us: u64) -> u64 {
        self.erases * us / 1_000_000
    }
}
