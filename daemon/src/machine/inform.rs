//! What process agents are told each tick, and what they claimed too late for their slots' ends.

use maxwell_core::agent::{Agent, Life};
use maxwell_core::reason::Reason;
use maxwell_hypervisor::Quote;
use maxwell_hypervisor::protocol::account::{Notice, Standing};

use super::Machine;

impl Machine {
    /// Takes claims that were verified after their agents' slots had ended: who is broke may have no other slot in which to bring
    /// them, and would be ended with money on its way.
    pub(super) fn collect_claims(&mut self) {
        // Whoever cannot be looked at now is looked at in the next tick.
        self.board.take_claimants(&mut self.claimants);
        let (cells, claims) = (&self.process_cells, &mut self.report.claims);
        self.claimants.retain(|agent| {
            let cell = usize::try_from(agent.0).ok().and_then(|at| cells.get(at)).and_then(Option::as_ref);
            cell.is_some_and(|cell| !cell.account().take_claims(claims))
        });
    }

    /// Shows process agents the price, and those that are granted something where they stand.
    pub(super) fn inform(&self, quote: Quote) {
        if self.processes.is_none() {
            return;
        }
        // Whoever is reading just now sees the last tick's.
        self.board.publish(Notice { quote, reserve: Some(self.out.control.reserve) });
        for grant in &self.out.grants {
            let (Some(cell), Some(agent)) = (self.process(grant.agent), self.market.agent(grant.agent)) else {
                continue;
            };
            let reason = self.market.reason(grant.agent).unwrap_or(Reason::Running);
            let (limit, balance) = (agent.spec.order.limit, self.market.balance(grant.agent));
            cell.account().publish(Standing {
                state: agent.state(),
                reason: last_reason(agent, reason),
                limit,
                balance,
            });
        }
    }
}

/// Why a dying agent dies, although it runs at this moment.
fn last_reason(agent: &Agent, now: Reason) -> Reason {
    match agent.life {
        Life::Dying { reason, .. } => reason,
        _ => now,
    }
}
