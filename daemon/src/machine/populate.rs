//! From a scenario to agents: their cells, and what the market must know of them.

use std::path::Path;
use std::sync::Arc;

use maxwell_core::agent::{AgentSpec, CellKind, Order};
use maxwell_core::bounty::SponsorId;
use maxwell_core::market::Command;
use maxwell_core::pacing::Pacing;
use maxwell_core::{AgentId, Bytes, Micros, PrincipalId, Tick};
use maxwell_hypervisor::process::{ERASABLE, ProcessError, Processes};
use maxwell_hypervisor::{Cell, Offer};

use super::{Machine, MachineError, launch};
use crate::scenario::{AgentGroup, Module, ProcessSpec, Program, Scenario};

/// Core time that a process may take for its last words: it saves its state, which takes longer than a tick.
const PROCESS_LAST_WORDS: Micros = Micros(100_000);
/// Core time that a WebAssembly agent may take for its last words: at most a tick.
const LAST_WORDS: Micros = Micros(10_000);

impl Machine {
    /// Makes the scenario's sponsors and agents, and plans its grants.
    pub(super) fn populate(&mut self, path: &Path, scenario: &Scenario) -> Result<(), MachineError> {
        let tick = scenario.policy.tick;
        let tick_us = tick.0;
        for (index, sponsor) in (0..).zip(&scenario.sponsors) {
            self.offers.add(Offer {
                sponsor: SponsorId(index),
                verifier: sponsor.verifier,
                reward: sponsor.reward,
                funded: true,
            });
            let (verifier, reward, budget) = (sponsor.verifier, sponsor.reward, sponsor.budget);
            self.input.commands.push(Command::Sponsor { verifier, reward, budget });
        }
        for (number, group) in (0..).zip(&scenario.agents) {
            match &group.program {
                Program::Wasm(module) => self.wasm_agents(path, number, group, module, tick)?,
                Program::Process(spec) => self.process_agents(path, number, group, spec, tick)?,
            }
        }
        for grant in &scenario.grants {
            let found = self.names.iter().position(|(name, _)| *name == grant.agent);
            let agent = AgentId(found.expect("grants were checked against the agents' names") as u64);
            let at = Tick(grant.at.0.div_ceil(tick_us).max(1));
            self.later.push((at, Command::Fund { agent, amount: grant.amount }));
        }
        self.later.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Ok(())
    }

    fn wasm_agents(
        &mut self,
        path: &Path,
        number: u32,
        group: &AgentGroup,
        module: &Module,
        tick: Micros,
    ) -> Result<(), MachineError> {
        let program = self.wasm.register(&module.bytes).map_err(|error| group.bad_program(path, &error))?;
        let last_words = if program.has_last_words { tick.min(LAST_WORDS) } else { Micros::ZERO };
        let spec = spec(group, tick, CellKind::Wasm, last_words, program.initial_memory);
        for name in group.names() {
            let cell = self.wasm.spawn(self.slots.next_id(), &program)?;
            self.slots.add(cell);
            self.process_cells.push(None);
            self.admit(number, name, group, spec);
        }
        Ok(())
    }

    fn process_agents(
        &mut self,
        path: &Path,
        number: u32,
        group: &AgentGroup,
        process: &ProcessSpec,
        tick: Micros,
    ) -> Result<(), MachineError> {
        let processes = match self.processes.take() {
            Some(processes) => processes,
            None => Processes::open(Arc::clone(&self.board))?,
        };
        let processes = self.processes.insert(processes);
        // What was not written in a file has no place in one.
        let bad = |error: ProcessError| {
            if path.as_os_str().is_empty() { error.into() } else { MachineError::from(group.bad_program(path, &error)) }
        };
        let command = launch::command(process, group.slots).map_err(|error| bad(ProcessError::User(error)))?;
        // What is put aside for last words is a tenth of the wallet at most.
        let affordable = Micros(group.wallet.0 / 10 / self.market.policy().thermal.par.0.max(1));
        let last_words = if process.grace.is_zero() { Micros::ZERO } else { PROCESS_LAST_WORDS.min(affordable) };
        let spec = spec(group, tick, CellKind::Process, last_words, Bytes::ZERO);
        let mut made = Vec::new();
        for name in group.names() {
            let cell = processes.spawn(self.slots.next_id(), command.clone()).map_err(bad)?;
            self.slots.add(Arc::clone(&cell) as Arc<dyn Cell>);
            made.push((name, cell));
        }
        for (name, cell) in made {
            self.process_cells.push(Some(cell));
            self.admit(number, name, group, spec);
        }
        Ok(())
    }

    /// The market hears of an agent whose cell is made.
    fn admit(&mut self, number: u32, name: String, group: &AgentGroup, spec: AgentSpec) {
        self.names.push((name, group.principal.clone()));
        self.group_of.push(number);
        self.input.commands.push(Command::Spawn { spec, wallet: group.wallet });
    }
}

/// What the market must know of each agent of a group.
fn spec(group: &AgentGroup, tick: Micros, cell: CellKind, last_words: Micros, held: Bytes) -> AgentSpec {
    AgentSpec {
        principal: PrincipalId::named(&group.principal),
        order: Order {
            limit: group.limit,
            slots: group.slots,
            hold: u32::try_from(group.hold.0.div_ceil(tick.0)).unwrap_or(u32::MAX),
        },
        pacing: match group.lifetime {
            None => Pacing::Fixed,
            Some(lifetime) => Pacing::until(Tick(lifetime.0.div_ceil(tick.0))),
        },
        on_insolvency: group.insolvency,
        cell,
        last_words,
        held,
        erasable: if cell == CellKind::Process { ERASABLE } else { Bytes::ZERO },
        power_class: group.power_class,
    }
}
