//! One command under a budget, in a market of its own on this machine.
//!
//! ```text
//!  Exec ── prepare ──► Ready: the command born frozen in its cell ── run ──► Verdict
//!                        │ cell(): signals                ▲
//!                        └ commands(): park, end ─────────┘  control socket: maxwell fund, park, bid, kill
//! ```

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};

use maxwell_core::agent::OnInsolvency;
use maxwell_core::market::Command;
use maxwell_core::reason::{Reason, Trap};
use maxwell_core::{AgentId, Joule, Micros, Price};
use maxwell_ebpf::Calls;
use maxwell_hypervisor::process::child::Exit;
use maxwell_hypervisor::process::{ProcessCell, identity};
use maxwell_hypervisor::protocol::control::{Ask, ControlError, Directory, Server};
use maxwell_physics::Choice;

use crate::machine::{Machine, MachineError, RunOptions, RunResult, Until, Wishes};
use crate::notice::Notice;
use crate::scenario::{AgentGroup, ProcessSpec, Program, Scenario};

/// The bid of who names none, in multiples of par: what a core costs on a machine that is far too hot.
const DEFAULT_BID: u64 = 4;

/// A command, and what it may cost.
#[derive(Clone, Debug)]
pub struct Exec {
    /// Its name: `maxwell ps` shows it, `maxwell fund` takes it.
    pub name: String,
    /// All that it may spend.
    pub budget: Joule,
    /// The most that it pays for a core-second; four times par if `None`.
    pub bid: Option<Price>,
    /// The most cores at once; all if `None`.
    pub slots: Option<u16>,
    /// What runs, and what it may not do.
    pub process: ProcessSpec,
    /// It is frozen, not ended, when it cannot pay.
    pub or_park: bool,
    /// Whether erased memory is taxed.
    pub tax: bool,
    /// Which sensors are used; the best that there are if `None`.
    pub sensors: Option<Choice>,
}

/// Why a command cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It could never win a slot.
    #[error(
        "at {bid} nothing ever runs here: a busy core of this machine burns {par}, and its electricity is the lowest price. \
         Bid {par} or more, or leave --bid away"
    )]
    BelowPar {
        /// What was bid.
        bid: Price,
        /// What a core burns.
        par: Price,
    },
    /// It could never pay for a slot.
    #[error("{budget} does not cover one slot of this machine: at {par} a core it takes {least} at least")]
    TooLittle {
        /// What was given.
        budget: Joule,
        /// What a core burns.
        par: Price,
        /// What would do.
        least: Joule,
    },
    /// There is no such user.
    #[error(transparent)]
    User(std::io::Error),
    /// The machine, or the command.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The control socket.
    #[error("no control socket: {0}")]
    Control(#[from] ControlError),
}

/// Everything is set up; the command is frozen in its cell.
#[derive(Debug)]
pub struct Ready {
    machine: Machine,
    cell: Arc<ProcessCell>,
    commands: (Sender<Command>, Receiver<Command>),
    control: Result<(Server, Receiver<Ask>), ControlError>,
}

/// How it went.
#[derive(Debug)]
pub struct Verdict {
    /// The run.
    pub result: RunResult,
    /// Why it ended.
    pub reason: Reason,
    /// How its command ended, if it got so far.
    pub exit: Option<Exit>,
    /// Which of its programs erased how many bytes, most first, by samples.
    pub erasers: Vec<(String, u64)>,
    /// Its system calls by class, if they were counted.
    pub calls: Option<Calls>,
}

impl Verdict {
    /// Whether it was ended for lack of funds.
    #[must_use]
    pub fn is_out_of_funds(&self) -> bool {
        matches!(self.reason, Reason::Insolvent | Reason::RentUnpaid | Reason::NoDeposit)
    }

    /// Whether its program never started.
    #[must_use]
    pub fn never_started(&self) -> bool {
        matches!(self.reason, Reason::Trapped(Trap::Start))
    }
}

impl Exec {
    /// The only agent of such a market.
    pub const AGENT: AgentId = AgentId(0);

    /// Sets up a market and the command's cell.
    ///
    /// # Errors
    ///
    /// [`ExecError`]: what is wrong with the order, the command or the machine.
    pub fn prepare(self) -> Result<Ready, ExecError> {
        let mut scenario = Scenario::of_this_machine();
        let policy = &mut scenario.policy;
        let par = policy.thermal.par;
        let bid = self.bid.unwrap_or_else(|| Price(par.0.saturating_mul(DEFAULT_BID)));
        if bid < par {
            return Err(ExecError::BelowPar { bid, par });
        }
        // A slot and its freezing, and a tenth for last words.
        let least = Joule(par.cost(policy.tick.saturating_add(policy.freeze)).0.saturating_mul(2));
        if self.budget < least {
            return Err(ExecError::TooLittle { budget: self.budget, par, least });
        }
        if let Some(user) = &self.process.user {
            identity(user).map_err(ExecError::User)?;
        }
        // Nobody else could top it up in the meantime.
        policy.grace = Micros::ZERO;
        if !self.tax {
            policy.landauer.inefficiency = 0.0;
        }
        let slots = policy.thermal.slots;
        if let Some(choice) = self.sensors {
            scenario.sensors = choice;
        }
        scenario.agents = vec![AgentGroup {
            name: self.name.clone(),
            count: 1,
            program: Program::Process(Box::new(self.process)),
            wallet: self.budget,
            limit: bid,
            slots: self.slots.unwrap_or(slots).min(slots),
            hold: Micros::ZERO,
            lifetime: None,
            insolvency: if self.or_park { OnInsolvency::Park } else { OnInsolvency::Apoptosis },
            principal: self.name.clone(),
            power_class: 1_000,
        }];
        let machine = Machine::new(Path::new(""), &scenario, 0)?;
        let cell = Arc::clone(machine.process(Self::AGENT).expect("the only agent is a process"));
        let control = Directory::usual().and_then(Directory::open).and_then(|place| {
            // Looking removes what killed Maxwells left.
            let _ = place.instances();
            Server::start(place, &self.name)
        });
        Ok(Ready { machine, cell, commands: channel(), control })
    }
}

impl Ready {
    /// The command's cell, for signals.
    #[must_use]
    pub fn cell(&self) -> Arc<ProcessCell> {
        Arc::clone(&self.cell)
    }

    /// Where the market is told to park or end it.
    #[must_use]
    pub fn commands(&self) -> Sender<Command> {
        self.commands.0.clone()
    }

    /// Why people cannot reach it from other terminals, if they cannot.
    #[must_use]
    pub fn unreachable(&self) -> Option<&ControlError> {
        self.control.as_ref().err()
    }

    /// Runs until it is dead and gone, or until `stop` is set.
    ///
    /// # Errors
    ///
    /// [`ExecError::Machine`]
    pub fn run(self, watcher: Option<Sender<Notice>>, stop: &AtomicBool) -> Result<Verdict, ExecError> {
        let (_server, asks) = self.control.map_or((None, None), |(server, asks)| (Some(server), Some(asks)));
        let wishes = Wishes { asks, commands: Some(self.commands.1) };
        let options = RunOptions { until: Until::AllDead, wishes, watcher, ..RunOptions::default() };
        let result = self.machine.run(&options, stop)?;
        let reason = result.reasons.first().copied().unwrap_or(Reason::Killed);
        Ok(Verdict { reason, exit: self.cell.exit(), erasers: self.cell.erasers(), calls: self.cell.calls(), result })
    }
}
