//! `maxwell experiment`.

pub(crate) mod compare;
mod real;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use maxwell_core::units::Watts;
use maxwell_lab::experiment::{
    Arm, Economy, Host, LeechKind, Machine, Plan, ReportError, SensorLabel, Summary, overview, register, run_virtual,
    suite, write_overview_to,
};
use maxwell_physics::Choice;

use crate::outcome::Failure;
use crate::run::say;

/// Headings of options that only one half of the experiment knows.
const HOST: &str = "Only on this host (without --virtual)";
const VIRTUAL: &str = "Only in virtual time (with --virtual)";

/// What to run.
#[derive(Args, Debug)]
pub(crate) struct ScientistVsLeech {
    /// In virtual time, on modelled agents and a modelled machine: the same market, deterministic by seed. Without it: on this host,
    /// with real agents, as root.
    #[arg(long = "virtual")]
    simulated: bool,
    /// The arms: linux, nice, weight, killer, killer-paid, karma, maxwell, oracle. All if none is given.
    #[arg(long, value_delimiter = ',', value_name = "ARM")]
    arms: Vec<Arm>,
    /// The kind of leech: spin, miner, hoarder, orphan-fleet, sleeper, mimic-1 to mimic-100, rich, sybil, overbidder, parker.
    /// Without it: on this host spin, in virtual time the whole standard set of experiments.
    #[arg(long, value_name = "KIND")]
    leech: Option<LeechKind>,
    /// Scientists.
    #[arg(long, default_value_t = 2)]
    scientists: u16,
    /// Leeches.
    #[arg(long, default_value_t = 2)]
    leeches: u16,
    /// Agents as useful as scientists with a tenth of the wallet.
    #[arg(long, default_value_t = 0)]
    poor: u16,
    /// Honest agents that work in bursts.
    #[arg(long, default_value_t = 0)]
    bursty: u16,
    /// What every agent has at birth, in core-seconds at par.
    #[arg(long, default_value_t = 1.0, value_name = "CORE-SECONDS")]
    wallet: f64,
    /// How long a run lasts: 60 seconds, and a baseline 300.
    #[arg(long)]
    seconds: Option<f64>,
    /// How often each arm runs.
    #[arg(long, default_value_t = 20)]
    runs: u32,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write plan, raw data, summary, report and pictures to this directory. Runs on this host need it.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the summaries as JSON.
    #[arg(long)]
    json: bool,
    /// Runs fair share alone, and shows temperature, power and work second by second.
    #[arg(long, conflicts_with_all = ["simulated", "arms", "runs"], help_heading = HOST)]
    baseline: bool,
    /// The folder of the programs `scientist` and `miner`; beside this program if not given.
    #[arg(long, value_name = "DIR", help_heading = HOST)]
    agents: Option<PathBuf>,
    /// Where energy and temperature are read, as for `maxwell run`.
    #[arg(long, value_name = "WORDS", help_heading = HOST)]
    sensor: Option<Choice>,
    /// Cores of the modelled machine: 2 if not given.
    #[arg(long, help_heading = VIRTUAL)]
    slots: Option<u16>,
    /// Power of the idle machine, in watts (modelled): 10 if not given.
    #[arg(long, value_name = "WATTS", help_heading = VIRTUAL)]
    idle: Option<f64>,
    /// Power that a busy core adds, in watts (modelled): par; 4.5 if not given.
    #[arg(long, value_name = "WATTS", help_heading = VIRTUAL)]
    core: Option<f64>,
    /// Threads that runs are spread over: as many as there are cores, if not given. Results do not depend on it.
    #[arg(long, help_heading = VIRTUAL)]
    threads: Option<usize>,
}

impl ScientistVsLeech {
    /// Options that the other half of the experiment knows: nobody is to believe that they did something.
    fn misplaced(&self) -> Result<(), Failure> {
        let host = [("--agents", self.agents.is_some()), ("--sensor", self.sensor.is_some())];
        let simulated = [
            ("--slots", self.slots.is_some()),
            ("--idle", self.idle.is_some()),
            ("--core", self.core.is_some()),
            ("--threads", self.threads.is_some()),
        ];
        let (there, why) = if self.simulated {
            (&host[..], "for runs on this host: leave it out, or leave out --virtual")
        } else {
            let why = "for virtual time: add --virtual, or leave it out. Runs on this host use all its cores and its own \
                       powers, one run after another (`maxwell doctor` shows them)";
            (&simulated[..], why)
        };
        let given: Vec<&str> = there.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        if given.is_empty() {
            return Ok(());
        }
        Err(Failure::Usage(format!("{} is {why}", given.join(", "))))
    }

    fn plans(&self) -> Vec<Plan> {
        let default = Plan::default();
        let base = Plan {
            arms: if self.arms.is_empty() { default.arms.clone() } else { self.arms.clone() },
            scientists: self.scientists,
            leeches: self.leeches,
            poor: self.poor,
            bursty: self.bursty,
            // A host's own is found when it is opened.
            machine: Machine {
                slots: self.slots.unwrap_or(default.machine.slots),
                idle: self.idle.map_or(default.machine.idle, Watts),
                core: self.core.map_or(default.machine.core, Watts),
            },
            economy: Economy { wallet: self.wallet, ..default.economy },
            seconds: self.seconds.unwrap_or(if self.baseline { real::BASELINE_SECONDS } else { default.seconds }),
            runs: self.runs,
            seed: self.seed,
            ..default
        };
        match self.leech {
            Some(leech) => vec![Plan { leech, ..base }],
            None if !self.simulated => vec![base],
            None => suite(&base),
        }
    }
}

pub(crate) fn scientist_vs_leech(args: &ScientistVsLeech) -> Result<ExitCode, Failure> {
    args.misplaced()?;
    let plans = args.plans();
    if !args.simulated {
        return real::run(args, plans);
    }
    let single = plans.len() == 1;
    let place = |plan: &Plan| args.out.as_ref().map(|out| if single { out.clone() } else { out.join(&plan.name) });
    for plan in &plans {
        plan.check().map_err(|error| Failure::Usage(error.to_string()))?;
        // Thresholds are on disk before anything runs.
        if let Some(dir) = place(plan) {
            register(plan, &dir).map_err(unwritten)?;
        }
    }
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut summaries = Vec::new();
    for plan in &plans {
        let summary = run(plan, threads, place(plan).as_deref())?;
        summaries.push(summary);
    }
    if let (Some(out), false) = (&args.out, single) {
        write_overview_to(&summaries, out).map_err(unwritten)?;
    }
    if args.json {
        let text = serde_json::to_string_pretty(&summaries).map_err(std::io::Error::from);
        say(&(text.map_err(|source| Failure::Write { path: "stdout".into(), source })? + "\n"));
    } else {
        say(&if single { summaries[0].markdown() } else { overview(&summaries) });
    }
    Ok(ExitCode::SUCCESS)
}

fn run(plan: &Plan, threads: usize, dir: Option<&Path>) -> Result<Summary, Failure> {
    let count = plan.turns().len();
    let show = std::io::stderr().is_terminal();
    let progress = |done: usize| {
        if show && (done.is_multiple_of(20) || done == count) {
            eprint!("\r\x1b[K{}: {done}/{count}", plan.name);
        }
    };
    let records = run_virtual(plan, threads, &progress).map_err(|error| Failure::Usage(error.to_string()))?;
    if show {
        eprint!("\r\x1b[K");
    }
    let summary = Summary::new(plan, &records, Host::simulated(), SensorLabel::modelled());
    if let Some(dir) = dir {
        summary.write(&records, dir).map_err(unwritten)?;
    }
    Ok(summary)
}

fn unwritten(error: ReportError) -> Failure {
    match error {
        ReportError::Write { path, source } => Failure::Write { path, source },
        ReportError::Plot(error) => {
            Failure::Write { path: "a picture".into(), source: std::io::Error::other(error.to_string()) }
        }
    }
}
