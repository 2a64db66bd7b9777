//! A plan: who runs on which slot in one tick. Published once, read by every worker.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use maxwell_core::AgentId;
use maxwell_core::agent::{LeaseKind, SlotId};

use crate::{Assignment, Cell, Quote, lock};

/// A lease and where the cell that holds it is in the plan's list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    pub(super) assignment: Assignment,
    pub(super) cell: usize,
}

/// What a slot does in a tick.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// Nothing: it was not sold.
    Dark,
    /// It runs this lease.
    Lit(Seat),
    /// It belongs to a lease that another slot runs.
    Follows(usize),
}

/// What the workers do in one tick.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) number: u64,
    pub(super) quote: Quote,
    pub(super) published: Instant,
    /// Slots stop as soon as they can after this.
    pub(super) stop_at: Instant,
    /// All cells: one shared list, so that a plan of a hundred leases touches no reference counts that other cores hold.
    pub(super) cells: Arc<Vec<Arc<dyn Cell>>>,
    pub(super) places: Vec<Place>,
    /// More than one agent has a lease.
    shared: bool,
    standby: Vec<Seat>,
    next: AtomicUsize,
    revoked: AtomicBool,
    /// When it was revoked, in nanoseconds after publication.
    revoked_ns: AtomicU64,
    /// For slots that follow: which leases are over.
    over: Mutex<Vec<usize>>,
    lease_over: Condvar,
}

impl Plan {
    pub(super) fn new(
        number: u64,
        quote: Quote,
        stop_at: Instant,
        cells: Arc<Vec<Arc<dyn Cell>>>,
        slots: usize,
    ) -> Self {
        Self {
            number,
            quote,
            published: Instant::now(),
            stop_at,
            cells,
            places: vec![Place::Dark; slots],
            shared: false,
            standby: Vec::new(),
            next: AtomicUsize::new(0),
            revoked: AtomicBool::new(false),
            revoked_ns: AtomicU64::new(0),
            over: Mutex::new(Vec::new()),
            lease_over: Condvar::new(),
        }
    }

    /// Puts every lease in its place. Slots of one agent follow the first of them.
    pub(super) fn seat(&mut self, assignments: &[Assignment]) {
        self.standby.reserve(assignments.len());
        self.shared = assignments.windows(2).any(|pair| pair[0].grant.agent != pair[1].grant.agent);
        for assignment in assignments {
            let cell = usize::try_from(assignment.grant.agent.0).unwrap_or(usize::MAX);
            if cell >= self.cells.len() {
                continue;
            }
            let seat = Seat { assignment: *assignment, cell };
            match assignment.grant.kind {
                LeaseKind::Slot(SlotId(slot)) | LeaseKind::LastWords(SlotId(slot)) => {
                    // Only who holds several slots can have been seated before.
                    let lead = if assignment.slots > 1 { self.lead(cell) } else { None };
                    let place = lead.map_or(Place::Lit(seat), Place::Follows);
                    if let Some(own) = self.places.get_mut(usize::from(slot)) {
                        *own = place;
                    }
                }
                LeaseKind::Standby => self.standby.push(seat),
            }
        }
    }

    /// The slot that runs a cell's lease.
    fn lead(&self, cell: usize) -> Option<usize> {
        self.places.iter().position(|place| matches!(place, Place::Lit(seat) if seat.cell == cell))
    }

    /// Whether an agent runs on one of the slots.
    pub(super) fn seats(&self, agent: AgentId) -> bool {
        usize::try_from(agent.0).is_ok_and(|cell| self.lead(cell).is_some())
    }

    /// Stops every slot as soon as it can, and hands out no more standbys.
    pub(super) fn revoke(&self) {
        let after = u64::try_from(self.published.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.revoked_ns.store(after, Ordering::Relaxed);
        self.revoked.store(true, Ordering::Release);
    }

    /// The standbys that nobody has taken, which nobody will take from now on.
    pub(super) fn close(&self) -> &[Seat] {
        let taken = self.next.swap(usize::MAX / 2, Ordering::AcqRel).min(self.standby.len());
        &self.standby[taken..]
    }

    pub(super) fn take_standby(&self) -> Option<&Seat> {
        // A plan that ran out must not count on for ever.
        if !self.is_contended() {
            return None;
        }
        self.standby.get(self.next.fetch_add(1, Ordering::AcqRel))
    }

    /// Whether more than one agent has a lease.
    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Whether somebody stands by to take over a slot.
    pub(super) fn is_contended(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.standby.len()
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// When the slots were to stop.
    pub(super) fn due(&self) -> Instant {
        if self.is_revoked() {
            self.published + Duration::from_nanos(self.revoked_ns.load(Ordering::Relaxed))
        } else {
            self.stop_at
        }
    }

    /// The lease that a slot runs is over: slots that follow it are free.
    pub(super) fn set_over(&self, lead: usize) {
        lock(&self.over).push(lead);
        self.lease_over.notify_all();
    }

    /// Waits until the lease that a slot runs is over.
    pub(super) fn wait_over(&self, lead: usize, quit: &AtomicBool) {
        let mut over = lock(&self.over);
        while !over.contains(&lead) && !quit.load(Ordering::Acquire) {
            let waited = self.lease_over.wait_timeout(over, Duration::from_millis(20));
            over = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}
