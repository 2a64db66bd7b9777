//! The arms on a real host: the same native agents, the same tree of groups, the same yardstick.
//!
//! ```text
//!              roster: who runs, with which wallet          watch: core time of each group, joules, lines of work
//!                 │                                            ▲ every 100 ms, the same for all arms
//!   turn ─────────┼──► governor: linux, nice, weight, killer, killer-paid, karma, oracle ──┐
//!                 └──► market:   the real machine of the daemon ───────────────────────────┴──► outcome
//! ```
//!
//! * **Work** is read off the agents' lines, and sampled batches are computed again by the sponsors' verifier.
//! * **Energy** comes from the best sensor that there is. Where there is none it is modelled, from the core time of the agents'
//!   groups and of the scheduler itself, so that what else runs on the host is not in it; its cores are in the raw samples.
//! * **Groups**: outside the market each agent has a group in the cpu controller too, all with the same weight, as services of a
//!   usual host have. `nice` has none, because it would do nothing between groups.

mod figures;
mod fleet;
mod governor;
mod market;
mod meter;
mod output;
mod roster;
mod series;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use maxwell_core::Joule;
use maxwell_daemon::machine::MachineError;
use maxwell_daemon::scenario::Scenario;
use maxwell_hypervisor::process::cgroup::{CgroupError, Hierarchy};
use maxwell_hypervisor::process::freezer::FreezerError;
use maxwell_hypervisor::process::spawn::SpawnError;
use maxwell_physics::{Choice, SensorError, TaskClockError};

use super::arm::Arm;
use super::metrics::RunRecord;
use super::plan::{Machine, Plan, Turn};
use super::summary::{Host, SensorLabel};
pub use roster::{Role, SYBILS};
pub use series::{RawData, Second};
pub use watch::RawSample;

/// Why an experiment cannot be run on this host.
#[derive(Debug, thiserror::Error)]
pub enum RealError {
    /// The agents' programs are not there.
    #[error(
        "{path} is not there: build the native agents (`cargo build --release -p maxwell-agents`), or say where they are"
    )]
    Agents {
        /// What was looked for.
        path: PathBuf,
    },
    /// No groups, or not enough of them.
    #[error(transparent)]
    Group(#[from] CgroupError),
    /// A switch of a group.
    #[error(transparent)]
    Freezer(#[from] FreezerError),
    /// Core time cannot be read.
    #[error(transparent)]
    Clock(#[from] TaskClockError),
    /// A sensor that was asked for.
    #[error(transparent)]
    Sensor(#[from] SensorError),
    /// An agent cannot be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The market.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A group of the market's cannot be watched.
    #[error("agent {0} is held by signals, not by a group: the experiment needs a cgroup v2 that it may write to")]
    Ungrouped(String),
    /// Weights are not to be had here.
    #[error("no weights here: {0}")]
    NoWeights(String),
    /// A file.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The scientist did no work when it was alone.
    #[error("a scientist alone on this machine found nothing in {0:?}: is the machine overloaded?")]
    Idle(Duration),
    /// The scheduler's thread is gone.
    #[error("the market's thread panicked: {0}")]
    Panicked(String),
}

impl RealError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

/// What a scientist does that nobody disturbs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Yardstick {
    /// Primes in a core-second.
    pub primes: f64,
    /// Batches in a core-second: what it sells.
    pub batches: f64,
}

/// A host on which runs are made.
#[derive(Debug)]
pub struct Real {
    agents: PathBuf,
    lines: PathBuf,
    hierarchy: Hierarchy,
    scenario: Scenario,
    yardstick: Yardstick,
    sensor: String,
}

/// What came out of a turn.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its figures and its trace.
    pub record: RunRecord,
    /// Everything that was seen, ten times a second.
    pub samples: Vec<RawSample>,
    /// Primes found by all agents.
    pub primes: u64,
    /// Batches that were computed again.
    pub verified: u64,
    /// What is to be known about this run; empty if nothing went wrong.
    pub remarks: Vec<String>,
}

/// How long the yardstick is taken.
const CALIBRATION: Duration = Duration::from_secs(2);

impl Real {
    /// Looks at the host and takes the yardstick. `agents` is the folder of `scientist` and `miner`; `lines` one in which their
    /// output may be kept meanwhile.
    ///
    /// # Errors
    ///
    /// [`RealError`]: what is missing here.
    pub fn open(agents: &Path, lines: &Path, sensors: Option<Choice>) -> Result<Self, RealError> {
        for name in ["scientist", "miner"] {
            let path = agents.join(name);
            if !path.is_file() {
                return Err(RealError::Agents { path });
            }
        }
        let mut scenario = Scenario::of_this_machine();
        if let Some(choice) = sensors {
            scenario.sensors = choice;
        }
        let yardstick = Yardstick { primes: 0.0, batches: 0.0 };
        let (agents, lines) = (absolute(agents)?, absolute(lines)?);
        let hierarchy = Hierarchy::find(Path::new("/"))?;
        let mut real = Self { agents, lines, hierarchy, scenario, yardstick, sensor: String::new() };
        real.sensor = meter::Meter::new(&real.scenario)?.describe();
        real.yardstick = real.calibrate()?;
        Ok(real)
    }

    /// The machine, for the plan's arithmetic.
    #[must_use]
    pub fn machine(&self) -> Machine {
        let thermal = &self.scenario.policy.thermal;
        Machine { slots: thermal.slots, idle: thermal.idle, core: maxwell_core::units::Watts::from(thermal.par) }
    }

    /// This host, for reports.
    #[must_use]
    pub fn host(&self) -> Host {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        let mut numbers = kernel.split(['.', '-']).map_while(|word| word.parse::<u32>().ok());
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let cpus = read("/proc/cpuinfo");
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
        Host {
            simulated: false,
            scheduler: if version >= (6, 6) { "EEVDF".into() } else { "CFS".into() },
            kernel: format!("Linux {kernel}"),
            processor: format!("{} cores of {}", self.machine().slots, model.unwrap_or("an unknown processor")),
        }
    }

    /// Where joules come from, for reports.
    #[must_use]
    pub fn label(&self) -> SensorLabel {
        let quality = if self.sensor.contains("modelled") { "modelled" } else { "measured" };
        SensorLabel { source: self.sensor.clone(), quality: quality.into() }
    }

    /// Where energy and temperature come from, in words.
    #[must_use]
    pub fn sensor(&self) -> &str {
        &self.sensor
    }

    /// What a scientist does that nobody disturbs.
    #[must_use]
    pub const fn yardstick(&self) -> Yardstick {
        self.yardstick
    }

    /// One scientist alone.
    fn calibrate(&self) -> Result<Yardstick, RealError> {
        let plan = Plan { scientists: 1, leeches: 0, seconds: CALIBRATION.as_secs_f64(), ..Plan::default() };
        let turn = Turn { arm: Arm::Oracle, run: 0, seed: 0 };
        let watched = governor::run(self, &plan, turn, &AtomicBool::new(false))?;
        let cores: f64 = watched.seen.iter().map(|seen| seen.core_ns as f64 * 1e-9).sum();
        let batches: f64 = watched.seen.iter().map(|seen| seen.lines.batches().len() as f64).sum();
        let primes: u64 = watched.seen.iter().map(|seen| seen.lines.primes()).sum();
        if primes == 0 || cores <= 0.0 {
            return Err(RealError::Idle(CALIBRATION));
        }
        Ok(Yardstick { primes: primes as f64 / cores, batches: batches / cores })
    }

    /// Runs an arm once. `None` if it was stopped.
    ///
    /// # Errors
    ///
    /// [`RealError`]
    pub fn run(&self, plan: &Plan, turn: Turn, stop: &AtomicBool) -> Result<Option<Outcome>, RealError> {
        let watched = match turn.arm {
            Arm::Maxwell => market::run(self, plan, turn, stop)?,
            _ => governor::run(self, plan, turn, stop)?,
        };
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            return Ok(None);
        }
        Ok(Some(figures::outcome(self, plan, turn, watched)))
    }

    /// The reward of a batch, such that a core-second of a scientist earns `value` times what it burns.
    fn reward(&self, value: f64) -> Joule {
        let nanojoules = value * self.scenario.policy.thermal.par.0 as f64 * 1e6 / self.yardstick.batches.max(1e-9);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates; a sum is positive")]
        Joule((nanojoules as u64).max(1))
    }
}

fn absolute(path: &Path) -> Result<PathBuf, RealError> {
    std::fs::canonicalize(path).map_err(RealError::io("find", path))
}
