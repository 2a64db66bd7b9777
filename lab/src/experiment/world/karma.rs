//! Karma's credits (Vuppalapati et al., "Karma: Resource Allocation for Dynamic Demands", OSDI 2023, algorithm 1).
//!
//! Every quantum each user has a fair share f. A part α·f of it is guaranteed; what it does not want of that it donates. The
//! rest is shared by all, for which everybody gets (1 − α)·f credits. Who wants more than its guarantee borrows: slice by
//! slice, the borrower with the most credits pays one and takes a slice donated by the donor with the fewest credits, who earns
//! it; when nothing donated is left, a shared one. Initial credits are large, as in the authors' code, so that no demand goes
//! unserved for want of credits while cores are idle.
//!
//! Users are agents, slices are milliseconds of a core, a quantum is 100 ms.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use maxwell_core::sensor::Reading;

use super::body::Body;
use super::{Scheduler, TICK_US, Told};
use crate::experiment::plan::Plan;

/// Ticks in a quantum.
const QUANTUM: u64 = 10;
/// The guaranteed part of a fair share: the paper's evaluation takes one half.
const ALPHA: f64 = 0.5;
/// A slice in microseconds.
const SLICE_US: u64 = 1_000;
const INITIAL_CREDITS: i64 = 1_000_000_000_000;

/// The credit scheduler. Credits and shares are in microseconds of core time.
#[derive(Debug)]
pub(super) struct Karma {
    slots: u16,
    credits: Vec<i64>,
    /// What each may still use in this quantum.
    allotted: Vec<u64>,
}

impl Karma {
    pub(super) fn new(plan: &Plan, users: usize) -> Self {
        Self { slots: plan.machine.slots, credits: vec![INITIAL_CREDITS; users], allotted: vec![0; users] }
    }

    /// Shares out the next quantum by what users want now.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_possible_wrap,
        reason = "microseconds of a quantum"
    )]
    fn allocate(&mut self, bodies: &[Body]) {
        let whole = u64::from(self.slots) * QUANTUM * TICK_US;
        let users = bodies.iter().filter(|body| body.alive).count().max(1) as u64;
        let fair = whole / users;
        let guaranteed = (fair as f64 * ALPHA) as u64;
        let mut shared = whole - guaranteed * users;
        let mut donors = BinaryHeap::new();
        let mut borrowers = BinaryHeap::new();
        for (at, body) in bodies.iter().enumerate().filter(|(_, body)| body.alive) {
            self.credits[at] += (fair - guaranteed) as i64;
            let demand = u64::from(body.wanted) * QUANTUM * TICK_US;
            self.allotted[at] = demand.min(guaranteed);
            if demand < guaranteed {
                donors.push(Reverse((self.credits[at], at, guaranteed - demand)));
            } else if demand > guaranteed && self.credits[at] > 0 {
                // Equal credits go round by index.
                borrowers.push((self.credits[at], Reverse(at), demand - guaranteed));
            }
        }
        while let Some((credits, Reverse(borrower), wants)) = borrowers.pop() {
            let mut slice = wants.min(SLICE_US).min(credits as u64);
            if let Some(Reverse((earned, donor, left))) = donors.pop() {
                slice = slice.min(left);
                self.credits[donor] += slice as i64;
                if left > slice {
                    donors.push(Reverse((earned + slice as i64, donor, left - slice)));
                }
            } else if shared > 0 {
                slice = slice.min(shared);
                shared -= slice;
            } else {
                break;
            }
            self.credits[borrower] -= slice as i64;
            self.allotted[borrower] += slice;
            if wants > slice && self.credits[borrower] > 0 {
                borrowers.push((self.credits[borrower], Reverse(borrower), wants - slice));
            }
        }
    }
}

impl Scheduler for Karma {
    fn tick(&mut self, tick: u64, bodies: &mut [Body], _: &Reading) -> Told {
        if tick % QUANTUM == 1 {
            self.allocate(bodies);
        }
        // Allotments are spread over what is left of the quantum; unused core time of a tick goes to whoever has some left.
        let left = QUANTUM - (tick + QUANTUM - 1) % QUANTUM;
        let mut free = u64::from(self.slots) * TICK_US;
        for even in [true, false] {
            for (body, allotted) in bodies.iter_mut().zip(&mut self.allotted) {
                let most = if even { allotted.div_ceil(left) } else { *allotted };
                let used = body.run(tick, most.min(free));
                *allotted -= used;
                free -= used;
            }
        }
        Told::default()
    }
}
