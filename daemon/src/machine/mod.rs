//! The real-time loop.
//!
//! ```text
//!  deadline n ──► collect usage ─► read sensor ─► Market::tick ─► end, respawn ─► dispatch ──► sleep ──► deadline n+1
//!                     ▲                               │                            │
//!                     └───────── workers stop a little before the deadline ◄───────┘
//! ```
//!
//! Deadlines are absolute, so lateness does not accumulate. A tick that begins after the next deadline has passed is
//! lost: its number is skipped, and the market is told how much time went by. Slots stop a little (`GUARD`) before the deadline, so
//! that usage is complete when the market wakes.

mod inform;
mod launch;
mod populate;
mod requests;
mod watch;

pub use requests::Wishes;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use maxwell_core::agent::{Agent, SlotId};
use maxwell_core::bounty::SponsorId;
use maxwell_core::market::{CellAction, Command, Market, Outcome, TickInput};
use maxwell_core::reason::Reason;
use maxwell_core::sensor::{Activity, Quality, Sensor, Source};
use maxwell_core::{AgentId, Bytes, Tick};
use maxwell_hypervisor::process::{ProcessCell, ProcessError, Processes};
use maxwell_hypervisor::protocol::account::Board;
use maxwell_hypervisor::protocol::control::Ask;
use maxwell_hypervisor::slots::{Reaction, Slots};
use maxwell_hypervisor::wasm::{Method, Wasm, WasmConfig, WasmError};
use maxwell_hypervisor::{Assignment, Cells, Offers, Quote, Report, clock};
use maxwell_physics::{Instruments, OtherLoad, Root, SensorError};

use crate::notice::Notice;
use crate::realtime;
use crate::recording::{Recorder, RecordingError};
use crate::report::{self, Lateness, PriceReport, RunReport, TemperatureReport};
use crate::scenario::{Scenario, ScenarioError, Utilisation};

/// Slots stop this long before the tick's deadline: about the p99 of one fuel yield and a wake-up.
const GUARD: Duration = Duration::from_micros(100);
/// How long a tick waits for a slot that has not stopped yet. Whoever is later is settled in the next tick.
const PATIENCE: Duration = Duration::from_micros(300);
/// A tick that begins later than this is counted as late.
const LATE: Duration = Duration::from_millis(1);

/// Why a machine could not be set up or run.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The scenario is wrong.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The WebAssembly cells could not be set up.
    #[error(transparent)]
    Cells(#[from] WasmError),
    /// The process cells could not be set up.
    #[error(transparent)]
    Processes(#[from] ProcessError),
    /// The recording failed.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// A sensor that was asked for does not work.
    #[error(transparent)]
    Sensor(#[from] SensorError),
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After this time.
    Time(Duration),
    /// When no agent is alive.
    AllDead,
}

impl Default for Until {
    fn default() -> Self {
        Self::Time(Duration::ZERO)
    }
}

/// How a run is to be done.
#[derive(Debug, Default)]
pub struct RunOptions<'a> {
    /// When it ends.
    pub until: Until,
    /// Who may ask for something meanwhile.
    pub wishes: Wishes,
    /// Where to keep a recording.
    pub record: Option<&'a Path>,
    /// Who watches.
    pub watcher: Option<Sender<Notice>>,
}

/// What a run came to, beyond the report.
#[derive(Debug)]
pub struct RunResult {
    /// The report.
    pub report: RunReport,
    /// Core time of the market thread as a share of one core.
    pub market_share: f64,
    /// How quickly slots started and stopped.
    pub reaction: Reaction,
    /// How bytes that WebAssembly agents erased were counted.
    pub method: Method,
    /// Why each agent is where it is, by number.
    pub reasons: Vec<Reason>,
    /// Whether the market thread had real-time priority.
    pub realtime: bool,
    /// Ticks that were lost altogether.
    pub lost_ticks: u64,
    /// Leases that were used, standbys included.
    pub slots_run: u64,
}

/// A scenario brought to life.
#[derive(Debug)]
pub struct Machine {
    market: Market,
    slots: Slots,
    offers: Arc<Offers>,
    wasm: Wasm,
    /// What makes process cells, if there are any.
    processes: Option<Processes>,
    /// The process agents among all agents, by number.
    process_cells: Vec<Option<Arc<ProcessCell>>>,
    board: Arc<Board>,
    /// Whose claims were verified between their slots.
    claimants: Vec<AgentId>,
    /// A request that the market decides on in this tick, and about whom it is.
    asked: Option<(Ask, AgentId)>,
    sensor: Instruments,
    /// What the thermometer was at the last look.
    thermometer: Option<(Source, Quality)>,
    /// The sources of energy and temperature that watchers know of.
    told_sources: Option<(Source, Source)>,
    others: OtherLoad,
    utilisation: Utilisation,
    /// Name and principal of each agent, by number.
    names: Vec<(String, String)>,
    /// The group of each agent, and the groups' names.
    group_of: Vec<u32>,
    groups: Vec<String>,
    /// Commands still to come, the earliest last.
    later: Vec<(Tick, Command)>,
    input: TickInput,
    out: Outcome,
    report: Report,
    assignments: Vec<Assignment>,
    daemon_ns: u64,
    /// Core time of process agents so far: the computer's load, but not others'.
    processes_ns: u64,
    lateness: Histogram<u64>,
    late_ticks: u64,
    lost_ticks: u64,
    price: PriceReport,
    temperature: TemperatureReport,
}

impl Machine {
    /// Sets up everything a scenario needs: compiles its modules, makes its agents, starts the workers. `path` is for
    /// errors about its modules.
    ///
    /// # Errors
    ///
    /// [`MachineError::Scenario`] for a bad module, [`MachineError::Cells`] if the machine cannot run cells.
    pub fn new(path: &Path, scenario: &Scenario, seed: u64) -> Result<Self, MachineError> {
        let thermal = scenario.policy.thermal;
        let sensor = Instruments::open(Root::machine(), scenario.sensors.clone(), scenario.model.clone())?;
        #[cfg(feature = "nvml")]
        let sensor = sensor.with_cards(maxwell_physics::sensors::nvml::Cards::find(None));
        let agents: u32 = scenario.agents.iter().map(|group| group.count).sum();
        let offers = Arc::new(Offers::default());
        let (max_memory, max_module) = (scenario.max_memory, scenario.max_module);
        let config = WasmConfig { agents, max_memory, max_module, seed, ..WasmConfig::default() };
        let wasm = Wasm::new(config, Arc::clone(&offers))?;
        let mut machine = Self {
            market: Market::new(scenario.policy.clone()),
            slots: Slots::new(thermal.slots, true).map_err(WasmError::Thread)?,
            board: Arc::new(Board::new(Arc::clone(&offers))),
            offers,
            wasm,
            processes: None,
            process_cells: Vec::new(),
            claimants: Vec::new(),
            asked: None,
            sensor,
            thermometer: None,
            told_sources: None,
            others: OtherLoad::default(),
            utilisation: scenario.utilisation,
            names: Vec::new(),
            group_of: Vec::new(),
            groups: scenario.agents.iter().map(|group| group.name.clone()).collect(),
            later: Vec::new(),
            input: TickInput::default(),
            out: Outcome::default(),
            report: Report::default(),
            assignments: Vec::new(),
            daemon_ns: 0,
            processes_ns: 0,
            lateness: Histogram::new_with_bounds(1, 10_000_000, 3).expect("these bounds are in order"),
            late_ticks: 0,
            lost_ticks: 0,
            price: PriceReport { par: thermal.par.0, ..PriceReport::default() },
            temperature: TemperatureReport::default(),
        };
        machine.populate(path, scenario)?;
        Ok(machine)
    }

    /// The names of the agents, by number.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.names.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Runs until the time is over or `stop` is set.
    ///
    /// # Errors
    ///
    /// [`MachineError::Recording`] if a recording was asked for and could not be made.
    pub fn run(mut self, options: &RunOptions<'_>, stop: &AtomicBool) -> Result<RunResult, MachineError> {
        let mut recorder = options.record.map(|path| Recorder::create(path, self.market.policy())).transpose()?;
        let realtime = realtime::ask_for_priority();
        let tick = Duration::from_micros(self.market.policy().tick.0);
        self.daemon_ns = self.own_ns();
        // The first tick admits everybody, however many, before the clock starts.
        self.observe(Tick(1), Duration::ZERO);
        self.decide(recorder.as_mut());
        self.act(Instant::now() + tick.saturating_sub(GUARD));
        let start = Instant::now().checked_sub(tick).unwrap_or_else(Instant::now);
        let market_cpu = clock::thread_cpu_ns();
        let (mut number, mut last) = (1, start + tick);
        while !self.is_over(options.until, start) && !stop.load(Ordering::Relaxed) {
            number += 1;
            let late = realtime::sleep_until(start + tick * number);
            // Deadlines that have passed meanwhile are lost ticks.
            let behind = u32::try_from(late.as_nanos() / tick.as_nanos()).unwrap_or(u32::MAX);
            self.lost_ticks += u64::from(behind);
            number += behind;
            self.note_lateness(late, behind);
            let now = Instant::now();
            self.observe(Tick(u64::from(number)), now - last);
            last = now;
            self.hear(&options.wishes);
            self.decide(recorder.as_mut());
            self.answer();
            let ends = (start + tick * (number + 1)).checked_sub(GUARD).unwrap_or(now);
            self.act(ends);
            if let Some(watcher) = &options.watcher {
                self.tell(watcher, start.elapsed());
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let reaction = self.slots.take_reaction();
        self.close(Tick(u64::from(number) + 1), last, recorder.as_mut());
        let market_share = (clock::thread_cpu_ns() - market_cpu) as f64 * 1e-9 / seconds.max(1e-9);
        if let Some(recorder) = recorder {
            recorder.finish(&self.market.state_hash())?;
        }
        Ok(RunResult {
            report: self.make_report(seconds, u64::from(number)),
            market_share,
            reaction,
            method: self.wasm.method(),
            reasons: self.market.agents().filter_map(|(id, _)| self.market.reason(id)).collect(),
            realtime,
            lost_ticks: self.lost_ticks,
            slots_run: self.market.agents().map(|(_, agent)| agent.tally.slots).sum(),
        })
    }

    fn is_over(&self, until: Until, start: Instant) -> bool {
        match until {
            Until::Time(time) => start.elapsed() >= time,
            Until::AllDead => self.market.alive() == 0,
        }
    }

    fn processes_note(&self) -> Option<report::ProcessesNote> {
        let processes = self.processes.as_ref()?;
        Some(report::ProcessesNote { held_by: processes.held_by(), erased_by: processes.erased_by() })
    }

    /// A process agent's cell.
    #[must_use]
    pub fn process(&self, agent: AgentId) -> Option<&Arc<ProcessCell>> {
        self.process_cells.get(usize::try_from(agent.0).ok()?)?.as_ref()
    }

    /// Core time of the daemon itself: all that this process used and no agent was billed for.
    fn own_ns(&self) -> u64 {
        clock::process_cpu_ns().saturating_sub(self.slots.billed_ns())
    }

    fn note_lateness(&mut self, late: Duration, behind: u32) {
        self.lateness.saturating_record(u64::try_from(late.as_micros()).unwrap_or(u64::MAX).max(1));
        if late > LATE {
            self.late_ticks += 1;
        }
        self.late_ticks += u64::from(behind);
    }

    /// Collects what happened since the last tick into the market's input.
    fn observe(&mut self, tick: Tick, elapsed: Duration) {
        self.report.clear();
        self.slots.collect(PATIENCE, &mut self.report);
        self.collect_claims();
        // A slot that overruns counts as the daemon's until it is billed; then the sum falls back, and nothing is counted
        // until it has caught up.
        let own = self.own_ns().max(self.daemon_ns);
        let daemon_us = (own - self.daemon_ns) / 1_000;
        self.daemon_ns += daemon_us * 1_000;
        let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let (mut agents_us, mut agents_weighted_us) = (0, 0);
        for usage in &self.report.usages {
            let class = self.market.agent(usage.agent).map_or(1_000, |agent| u64::from(agent.spec.power_class));
            agents_us += usage.core.0;
            agents_weighted_us += usage.core.0 * class / 1_000;
            if self.process(usage.agent).is_some() {
                self.processes_ns += usage.core.0 * 1_000;
            }
        }
        let others = match self.utilisation {
            Utilisation::Machine => self.others.busy_cores(self.processes_ns),
            Utilisation::Maxwell => 0.0,
        };
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates; load is never negative"
        )]
        let others_us = (others * elapsed_us as f64) as u64;
        let activity = Activity { elapsed_us, agents_weighted_us, agents_us, daemon_us, others_us };

        // The first input already holds the commands that make sponsors and agents.
        let commands = std::mem::take(&mut self.input.commands);
        self.input.reset(tick);
        self.input.commands = commands;
        while let Some((at, command)) = self.later.last().copied()
            && at <= tick
        {
            self.input.commands.push(command);
            self.later.pop();
        }
        let changed = self.sensor.read(&activity, &mut self.input.reading);
        self.input.counters = (changed || tick == Tick(1)).then(|| self.sensor.counters().to_vec());
        self.thermometer =
            self.input.reading.temperature.map(|shown| (shown.source, shown.quality)).or(self.thermometer);
        self.input.activity = activity;
        self.input.usages.append(&mut self.report.usages);
        self.input.claims.append(&mut self.report.claims);
        self.input.busy.append(&mut self.report.busy);
    }

    fn decide(&mut self, recorder: Option<&mut Recorder>) {
        self.market.tick(&self.input, &mut self.out).expect("ticks are numbered upwards");
        if let Some(recorder) = recorder {
            recorder.tick(&self.input, &self.out.chain);
        }
        self.input.commands.clear();
        let temperature = self.out.control.estimate.0;
        if self.temperature.start == 0.0 {
            self.temperature.start = temperature;
        }
        self.temperature.peak = self.temperature.peak.max(temperature);
        self.temperature.r#final = temperature;
        self.price.peak = self.price.peak.max(self.out.spot.0);
        self.price.r#final = self.out.spot.0;
    }

    /// Carries out the market's decisions.
    fn act(&mut self, ends: Instant) {
        for action in &self.out.actions {
            match action {
                CellAction::End(agent) => self.slots.end(*agent),
                CellAction::Respawn(agent) => self.slots.respawn(*agent),
            }
        }
        for sponsor in 0..self.market.bounties().len() {
            let id = SponsorId(u16::try_from(sponsor).expect("sponsors are counted in u16"));
            let reward = self.market.bounties()[sponsor].reward;
            self.offers.set_funded(id, self.market.sponsor_balance(id) >= reward);
        }
        let market = &self.market;
        self.assignments.clear();
        self.assignments.extend(self.out.grants.iter().map(|grant| {
            let lease = market.agent(grant.agent).and_then(Agent::lease);
            let balance = market.balance(grant.agent);
            let spare = lease.map_or(0, |lease| lease.tax.affordable(balance));
            Assignment { grant: *grant, slots: lease.map_or(1, |lease| lease.slots), balance, spare: Bytes(spare) }
        }));
        let now_us = self.out.tick.0.saturating_mul(market.policy().tick.0);
        let quote = Quote { tick: self.out.tick, spot: self.out.spot, now_us };
        self.inform(quote);
        self.slots.dispatch(quote, ends, &self.assignments);
    }

    /// The last tick: everything stops, what ran is settled, nothing new is sold.
    fn close(&mut self, tick: Tick, last: Instant, recorder: Option<&mut Recorder>) {
        self.slots.revoke();
        // A bulk instruction over the largest memory takes a fraction of a second.
        let mut whole = Report::default();
        self.slots.collect(Duration::from_secs(2), &mut whole);
        self.observe(tick, last.elapsed());
        self.input.usages.splice(0..0, whole.usages);
        self.input.claims.splice(0..0, whole.claims);
        let slots = self.market.policy().thermal.slots;
        self.input.busy = (0..slots).map(SlotId).collect();
        self.decide(recorder);
    }

    fn make_report(&self, seconds: f64, ticks: u64) -> RunReport {
        let quantile = |q| self.lateness.value_at_quantile(q);
        RunReport {
            seconds,
            ticks: ticks - self.lost_ticks,
            late_ticks: self.late_ticks,
            tick_lateness_us: Lateness { p50: quantile(0.5), p99: quantile(0.99), max: self.lateness.max() },
            sensor: report::sensor(self.sensor.counters(), self.thermometer),
            price_mw: self.price,
            temp_c: self.temperature,
            plant: report::plant(&self.market),
            agents: report::agents(&self.market, &self.names),
            money: report::money(&self.market),
            energy: report::energy(&self.market),
            processes: self.processes_note(),
            state_hash: report::hex(&self.market.state_hash()),
        }
    }
}
