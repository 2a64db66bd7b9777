//! What a slot's thread and a cell say to each other.

use std::cell::Cell as Slot;
use std::time::{Duration, Instant};

use maxwell_core::agent::LeaseKind;

use super::plan::{Plan, Seat};
use crate::{Assignment, Quote, Report};

/// A sandbox with an agent in it, as a slot's thread sees it.
pub trait Cell: Send + Sync + std::fmt::Debug {
    /// Runs the agent until its turn is over, and adds to `report` what it used (exactly one usage), claimed and said.
    fn run(&self, turn: &Turn<'_>, report: &mut Report) -> Ran;

    /// The agent holds no slot any more. A cell that lingered freezes now.
    fn release(&self) {}

    /// Frees what the agent holds. Never blocks.
    fn end(&self);

    /// Makes the cell anew, for an agent that was revived after its death.
    fn respawn(&self);
}

/// What a slot's thread must know of a turn that is over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ran {
    /// Core time of this process that the agent was billed for, in nanoseconds.
    pub own_ns: u64,
    /// The agent was left thawed, on the chance that it goes on in the next tick; it has paid for the time in between.
    pub lingers: bool,
}

/// An agent's turn on a slot, or on several.
#[derive(Debug)]
pub struct Turn<'a> {
    plan: &'a Plan,
    seat: &'a Seat,
    ends: Instant,
    core: Option<usize>,
    started: Slot<Option<Duration>>,
    stopped: Slot<Option<Duration>>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(plan: &'a Plan, seat: &'a Seat, core: Option<usize>) -> Self {
        let length = Duration::from_micros(seat.assignment.grant.length.0);
        let ends = Instant::now().checked_add(length).map_or(plan.stop_at, |ends| ends.min(plan.stop_at));
        Self { plan, seat, ends, core, started: Slot::new(None), stopped: Slot::new(None) }
    }

    /// The lease, and what its holder may know.
    #[must_use]
    pub fn assignment(&self) -> &Assignment {
        &self.seat.assignment
    }

    /// How many slots it covers.
    #[must_use]
    pub fn slots(&self) -> u16 {
        self.seat.assignment.slots
    }

    /// What agents may know about the market.
    #[must_use]
    pub fn quote(&self) -> Quote {
        self.plan.quote
    }

    /// Whether these are the agent's last words.
    #[must_use]
    pub fn is_last_words(&self) -> bool {
        matches!(self.seat.assignment.grant.kind, LeaseKind::LastWords(_))
    }

    /// The core that the slot's thread is bound to, if it is, and if other agents want theirs: who is alone may run anywhere.
    #[must_use]
    pub fn core(&self) -> Option<usize> {
        self.core.filter(|_| self.plan.is_shared())
    }

    /// When the slot ends.
    #[must_use]
    pub fn ends(&self) -> Instant {
        self.ends
    }

    /// Whether it ends before the tick does, because its wallet covered no more.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.ends < self.plan.stop_at
    }

    /// Whether the turn is over: its time is up, or it was called off.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.ends || self.plan.is_revoked()
    }

    /// Whether the turn was called off.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.plan.is_revoked()
    }

    /// Whether somebody stands by to take over the slot.
    #[must_use]
    pub fn is_contended(&self) -> bool {
        self.plan.is_contended()
    }

    /// The agent runs from now on: a measurement.
    pub fn note_started(&self) {
        self.started.set(Some(self.plan.published.elapsed()));
    }

    /// The agent stopped at `now`, because it had to: a measurement.
    pub fn note_stopped(&self, now: Instant) {
        self.stopped.set(Some(now.saturating_duration_since(self.plan.due().min(self.ends))));
    }

    /// How long after publication it started, and how long after it was to stop it had stopped.
    pub(super) fn times(&self) -> (Option<Duration>, Option<Duration>) {
        (self.started.get(), self.stopped.get())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use maxwell_core::agent::SlotId;
    use maxwell_core::market::Grant;
    use maxwell_core::{AgentId, Bytes, Joule, Micros, Price};

    use super::*;

    fn assignment(agent: u64, slot: u16, length: Micros) -> Assignment {
        let (price, kind) = (Price(1), LeaseKind::Slot(SlotId(slot)));
        let grant = Grant { agent: AgentId(agent), kind, price, length, worst_case: length, erasable: Bytes(0) };
        Assignment { grant, slots: 1, balance: Joule(0), spare: Bytes(0) }
    }

    fn plan(assignments: &[Assignment]) -> Plan {
        let until = Instant::now() + Duration::from_millis(10);
        let mut plan = Plan::new(1, Quote::default(), until, Arc::new(Vec::new()), 2);
        plan.seat(assignments);
        plan
    }

    #[test]
    fn only_who_shares_a_machine_is_sent_to_a_core() {
        let [one, other] = [0, 1].map(|agent| assignment(agent, 0, Micros(10_000)));
        let core = |held: &[Assignment]| {
            let (plan, seat) = (plan(held), Seat { assignment: held[0], cell: 0 });
            Turn::new(&plan, &seat, Some(3)).core()
        };
        assert_eq!(core(&[one, other]), Some(3));
        assert_eq!(core(&[one]), None);
        assert_eq!(core(&[one, assignment(0, 1, Micros(10_000))]), None, "it holds both slots");
    }

    #[test]
    fn a_turn_ends_with_what_was_bought_or_with_the_tick() {
        for (length, short) in [(Micros(10_000), false), (Micros(3_000), true)] {
            let held = assignment(0, 0, length);
            let (plan, seat) = (plan(&[held]), Seat { assignment: held, cell: 0 });
            let turn = Turn::new(&plan, &seat, None);
            assert_eq!((turn.is_short(), turn.ends() < plan.stop_at), (short, short));
            assert!(!turn.is_over(turn.ends() - Duration::from_nanos(1)) && turn.is_over(turn.ends()));
        }
    }
}
