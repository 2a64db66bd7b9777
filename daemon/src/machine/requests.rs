//! Wishes from outside the loop: from people through the control socket, and from whoever runs the machine.
//!
//! One wish that changes something is carried out a tick, so that what the market says about it is about it.

use std::sync::mpsc::Receiver;

use maxwell_core::agent::Order;
use maxwell_core::market::{Command, Event, Refusal};
use maxwell_core::{AgentId, Joule};
use maxwell_hypervisor::protocol::control::{AgentRow, Answer, Ask, PAGE, Request, Which};
use maxwell_hypervisor::protocol::fault::Fault;

use super::Machine;

/// Where wishes come from.
#[derive(Debug, Default)]
pub struct Wishes {
    /// From people: the other end of a control socket.
    pub asks: Option<Receiver<Ask>>,
    /// From whoever runs the machine; nobody waits for an answer.
    pub commands: Option<Receiver<Command>>,
}

/// Requests that are looked at in one tick; lists are answered at once.
const MOST_A_TICK: usize = 8;

impl Machine {
    /// Takes wishes: commands all at once, of people's requests one that changes something.
    pub(super) fn hear(&mut self, wishes: &Wishes) {
        if let Some(commands) = &wishes.commands {
            self.input.commands.extend(commands.try_iter().take(MOST_A_TICK));
        }
        let Some(asks) = &wishes.asks else { return };
        for ask in asks.try_iter().take(MOST_A_TICK) {
            match self.understand(&ask.request) {
                Ok(None) => {
                    let answer = self.list(&ask.request);
                    ask.answer(Ok(answer));
                }
                Ok(Some((agent, command))) => {
                    self.input.commands.push(command);
                    self.asked = Some((ask, agent));
                    return;
                }
                Err(fault) => ask.answer(Err(fault)),
            }
        }
    }

    /// Tells who asked what the market decided.
    pub(super) fn answer(&mut self) {
        let Some((ask, agent)) = self.asked.take() else { return };
        let refused = self.out.events.iter().find_map(|event| match event {
            Event::Refused { agent: Some(refused), why } if *refused == agent => Some(*why),
            _ => None,
        });
        ask.answer(match refused {
            Some(why) => Err(Fault::refused(word(why), why.to_string())),
            None => self.row(agent).map(Answer::Agent).ok_or_else(|| Fault::unknown_agent(&Which::Id(agent))),
        });
    }

    /// The command that a request comes to, or none for a list.
    fn understand(&self, request: &Request) -> Result<Option<(AgentId, Command)>, Fault> {
        Ok(Some(match request {
            Request::List { .. } => return Ok(None),
            Request::Fund { agent, amount } => {
                let agent = self.which(agent)?;
                (agent, Command::Fund { agent, amount: *amount })
            }
            Request::Park { agent } => {
                let agent = self.which(agent)?;
                (agent, Command::Park { agent })
            }
            Request::Kill { agent } => {
                let agent = self.which(agent)?;
                (agent, Command::Kill { agent })
            }
            Request::Bid { agent, limit } => {
                let agent = self.which(agent)?;
                let now = self.market.agent(agent).map(|agent| agent.spec.order);
                let order = Order { limit: *limit, ..now.ok_or_else(|| Fault::unknown_agent(&Which::Id(agent)))? };
                (agent, Command::Order { agent, order })
            }
        }))
    }

    fn which(&self, which: &Which) -> Result<AgentId, Fault> {
        let known = match which {
            Which::Only if self.names.len() == 1 => Some(AgentId(0)),
            Which::Only => None,
            Which::Id(id) => Some(*id).filter(|id| self.market.agent(*id).is_some()),
            Which::Name(name) => self.names.iter().position(|(mine, _)| mine == name).map(|at| AgentId(at as u64)),
        };
        known.ok_or_else(|| Fault::unknown_agent(which))
    }

    fn list(&self, request: &Request) -> Answer {
        let Request::List { from, count } = request else {
            return Answer::Agents { agents: Vec::new(), next: None };
        };
        let until = from.0.saturating_add((*count).min(PAGE)).min(self.names.len() as u64);
        let agents = (from.0..until).filter_map(|id| self.row(AgentId(id))).collect();
        Answer::Agents { agents, next: (until < self.names.len() as u64).then_some(AgentId(until)) }
    }

    fn row(&self, id: AgentId) -> Option<AgentRow> {
        let agent = self.market.agent(id)?;
        let reason = self.market.reason(id)?;
        let tally = &agent.tally;
        let escrow = agent.lease().map_or(Joule::ZERO, |lease| lease.reserved);
        Some(AgentRow {
            id: id.0,
            name: self.names.get(usize::try_from(id.0).ok()?)?.0.clone(),
            state: agent.state().to_owned(),
            reason: reason.code().to_owned(),
            text: reason.to_string(),
            wallet: self.market.balance(id).saturating_add(escrow).0,
            spent: tally.paid.saturating_add(tally.rent).saturating_add(tally.tax).0,
            core_us: tally.core.0,
            bid: agent.spec.order.limit.0,
        })
    }
}

/// The stable word for a refusal.
fn word(why: Refusal) -> &'static str {
    match why {
        Refusal::NoSuchAgent => "no_such_agent",
        Refusal::Dead => "dead",
        Refusal::NoDeposit => "no_deposit",
        Refusal::TooMuchMoney => "too_much_money",
        Refusal::NoLease => "no_lease",
        Refusal::Full => "full",
    }
}
