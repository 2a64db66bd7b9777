//! `maxwell`: sells compute to agents by energy auction.

mod control;
mod demo;
mod doctor;
mod exec;
mod experiment;
mod lab;
mod outcome;
mod physics;
mod run;
mod summary;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use maxwell_core::{Joule, Price};
use maxwell_physics::Choice;

/// Sells compute to agents by energy auction.
///
/// Every 10 ms Maxwell reads the machine's temperature and energy, sets a price, clears a second-price auction for the
/// cores, debits the winners' wallets, and freezes everybody else. Useful work earns; parasites heat the die, raise the
/// price, and starve.
#[derive(Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 it ran; 1 it failed (a replay that differs, a disk that is full); 2 the command \
line or a file is wrong; 130 stopped by Ctrl-C, cleanly. `maxwell exec` passes on the exit code of its command, and has 75 for \
out of funds, 125 for its own failures, 126 and 127 as `env`.";

const EXEC_EXAMPLES: &str = "Examples:
  maxwell exec --budget 500J -- python3 train.py
  maxwell exec --budget 2kJ --bid 5W -- make -j
  maxwell exec --budget 50J --or-park --name web -- python3 -m http.server
  maxwell exec --budget 100J -- sh -c 'sort big.txt | uniq -c | sort -rn | head'";

#[derive(Subcommand)]
enum Command {
    /// Natural selection: a scientist and a miner start with equal wallets, and nothing is scripted.
    ///
    /// The scientist finds primes, and a sponsor pays for every verified one; the miner hashes and churns memory, and
    /// nobody pays. Heat raises the price past what the scientist's work is worth: it waits, frozen. The miner goes on,
    /// burns its capital and dies. The machine cools, the price falls, the scientist goes on.
    Demo {
        /// How long to run.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86_400))]
        seconds: u32,
        #[command(flatten)]
        output: Output,
    },
    /// Runs a scenario from a TOML file (see docs/scenarios.md, and scenarios/ for examples).
    Run {
        /// The scenario.
        scenario: PathBuf,
        /// How long to run.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86_400))]
        seconds: u32,
        /// Record every fact that the market is told, for `maxwell replay`.
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Runs any command under a hard energy budget.
    ///
    /// The command and all its descendants run in a cell of a private market on this machine: they pay for cores, for memory
    /// that they hold and for memory that they erase, and run only while they can pay. The budget is never exceeded. Standard
    /// streams, signals and the exit code pass through; one line on stderr says what it came to. Exit code 75 says that it ran
    /// out of funds.
    #[command(after_help = EXEC_EXAMPLES)]
    Exec(exec::ExecArgs),
    /// Shows what runs under your Maxwells.
    Ps {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Gives money to an agent: who is parked goes on.
    Fund {
        /// An instance or an agent of `maxwell ps`, or INSTANCE/AGENT.
        target: String,
        /// How much, for instance `100J`.
        amount: Joule,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Changes the most that an agent pays for a core-second.
    Bid {
        /// An instance or an agent of `maxwell ps`, or INSTANCE/AGENT.
        target: String,
        /// How much, for instance `5W`.
        limit: Price,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Freezes an agent until somebody gives it money (`maxwell fund TARGET 0J` is enough).
    Park {
        /// An instance or an agent of `maxwell ps`, or INSTANCE/AGENT.
        target: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ends an agent, after its last words.
    Kill {
        /// An instance or an agent of `maxwell ps`, or INSTANCE/AGENT.
        target: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Runs a recording through the market again: every decision must be the same.
    Replay {
        /// A file made by `maxwell run --record`.
        recording: PathBuf,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// What this machine offers: sensors, real-time priority, cgroups, eBPF, KVM. Shows the one line that would fix what is
    /// missing.
    ///
    /// Changes nothing and leaves nothing behind. Maxwell runs without any of it; what it cannot measure, it models, and says so.
    Doctor {
        /// A file in which this machine's host writes its energy and temperature (see docs/sensors.md).
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// What this machine burns and how it warms: the numbers behind modelled power and heat.
    Physics {
        #[command(subcommand)]
        command: physics::Command,
    },
    /// Experiments on whole markets.
    #[command(subcommand)]
    Experiment(Experiment),
    /// Experiments in virtual time.
    #[command(subcommand)]
    Lab(Lab),
}

/// Experiments on whole markets.
#[derive(Subcommand)]
enum Experiment {
    /// Useful agents and useless ones under fair share, budgets, credits, the market and an oracle (see docs/experiment.md).
    ///
    /// The plan with its thresholds is written before the first run. The report prints what arithmetic alone demands beside
    /// what came out, and says where the auction is worth nothing.
    ///
    /// Runs on this host, with real agents and as root, or with --virtual in virtual time on modelled ones. Options that only one
    /// of the two knows are listed apart, and refused by the other.
    #[command(name = "scientist-vs-leech")]
    ScientistVsLeech(experiment::ScientistVsLeech),
    /// Puts a run in virtual time beside one of the same plan on a host, with intervals, and says where they differ.
    ///
    /// What own cost and other programs explain was measured on the host, and is allowed for. Exits with 1 where they differ.
    Compare(experiment::compare::Compare),
}

/// Experiments in virtual time.
#[derive(Subcommand)]
enum Lab {
    /// Maxwell's thermal control beside Linux's `power_allocator`, on the same plants.
    ///
    /// Every case runs three times in virtual time: under Maxwell's market, under the kernel's governor as it is usually
    /// polled (100 ms), and under the same governor polled every 10 ms. Plants differ up to threefold from what the governors were
    /// told; the thermometer shows whole degrees. The trials are deterministic: the same build gives the same figures.
    Thermal {
        /// Run only the cases whose name contains this; can be given more than once.
        #[arg(long = "case", value_name = "NAME")]
        cases: Vec<String>,
        /// List the cases and run nothing.
        #[arg(long)]
        list: bool,
        /// Write thermal.md, thermal.json and a picture of every case to this directory.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
}

/// What a run shows and writes.
#[derive(Args, Clone, Debug)]
struct Output {
    /// Seed of the agents' randomness.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where energy and temperature are read, instead of what the scenario says: `auto`, `perf`, `powercap`, `msr`,
    /// `hwmon`, `thermal-zone`, `file:/path`, `model`, or one of each kind, as in `powercap+thermal-zone`.
    #[arg(long, value_name = "WORDS")]
    sensor: Option<Choice>,
    /// Write the report as JSON to a file; `-` is stdout.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print nothing but errors (and the JSON, if that goes to stdout).
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo { seconds, output } => demo::demo(seconds, &output),
        Command::Run { scenario, seconds, record, output } => run::file(&scenario, seconds, record.as_deref(), &output),
        Command::Exec(args) => exec::exec(&args),
        Command::Ps { json } => control::ps(json),
        Command::Fund { target, amount, json } => {
            control::ask("fund", &target, serde_json::json!({ "amount": amount.0 }), json)
        }
        Command::Bid { target, limit, json } => {
            control::ask("bid", &target, serde_json::json!({ "limit": limit.0 }), json)
        }
        Command::Park { target, json } => control::ask("park", &target, serde_json::json!({}), json),
        Command::Kill { target, json } => control::ask("kill", &target, serde_json::json!({}), json),
        Command::Replay { recording, json } => run::replay(&recording, json),
        Command::Experiment(Experiment::ScientistVsLeech(args)) => experiment::scientist_vs_leech(&args),
        Command::Experiment(Experiment::Compare(args)) => experiment::compare::run(&args),
        Command::Lab(Lab::Thermal { cases, list, out, json }) => lab::thermal(&cases, list, out.as_deref(), json),
        Command::Doctor { file, json } => doctor::doctor(file.as_deref(), json),
        Command::Physics { command } => physics::run(&command),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            // It may quote a file, and files may hold escape sequences.
            let text: String = failure.to_string().chars().map(|c| if c.is_control() { '·' } else { c }).collect();
            eprintln!("maxwell: {text}");
            ExitCode::from(failure.exit_code())
        }
    }
}
