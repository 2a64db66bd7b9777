//! `maxwell experiment`.

mod real;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use maxwell_lab::experiment::{Arm, LeechKind, Plan};
use maxwell_physics::Choice;

use crate::outcome::{Failure, INTERRUPTED};

/// What to run.
#[derive(Args, Debug)]
pub(crate) struct ScientistVsLeech {
    /// The arms, separated by commas; all if not given.
    #[arg(long, value_delimiter = ',')]
    arms: Vec<Arm>,
    /// Agents that find primes.
    #[arg(long, default_value_t = 2)]
    scientists: u16,
    /// Agents that take and do not give.
    #[arg(long, default_value_t = 2)]
    leeches: u16,
    /// What kind of leech.
    #[arg(long, default_value = "spin")]
    leech: LeechKind,
    /// Agents as useful as a scientist with a tenth of its wallet.
    #[arg(long, default_value_t = 0)]
    poor: u16,
    /// Honest agents that work in bursts.
    #[arg(long, default_value_t = 0)]
    bursty: u16,
    /// How long each run lasts.
    #[arg(long)]
    seconds: Option<f64>,
    /// How often each arm runs.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs fair share alone, with metrics every second, five minutes unless told otherwise.
    #[arg(long)]
    baseline: bool,
    /// The folder of the programs `scientist` and `miner`; beside this program if not given.
    #[arg(long, value_name = "DIR")]
    agents: Option<PathBuf>,
    /// Where energy and temperature are read, as for `maxwell run`.
    #[arg(long, value_name = "WORDS")]
    sensor: Option<Choice>,
    /// Where everything is written.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn scientist_vs_leech(args: &ScientistVsLeech) -> Result<ExitCode, Failure> {
    let mut plan = Plan {
        arms: if args.arms.is_empty() { Arm::ALL.to_vec() } else { args.arms.clone() },
        scientists: args.scientists,
        leeches: args.leeches,
        leech: args.leech,
        poor: args.poor,
        bursty: args.bursty,
        runs: args.runs,
        seed: args.seed,
        ..Plan::default()
    };
    plan.seconds = args.seconds.unwrap_or(if args.baseline { real::baseline_seconds() } else { plan.seconds });
    plan.check().map_err(|error| Failure::Usage(error.to_string()))?;
    let host = real::open(&mut plan, args.agents.as_deref(), &args.out, args.sensor.clone())?;
    let stopped = if args.baseline {
        real::baseline(&host, &plan, &args.out)?
    } else {
        let series = real::series(&host, &plan, &args.out)?;
        let path = args.out.join("runs.json");
        let text = serde_json::to_string_pretty(&series.records).unwrap_or_default();
        std::fs::write(&path, text).map_err(|source| Failure::Write { path, source })?;
        series.stopped
    };
    Ok(if stopped { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}
