//! `maxwell experiment scientist-vs-leech` on this host.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use maxwell_lab::experiment::real::{Outcome, RawData, Real, RealError};
use maxwell_lab::experiment::{Arm, Plan, RunRecord, Summary, register};
use maxwell_physics::Choice;

use super::{ScientistVsLeech, unwritten};
use crate::outcome::{Failure, INTERRUPTED};
use crate::run::{say, stop_on_signals};

/// How long the baseline runs.
pub(super) const BASELINE_SECONDS: f64 = 300.0;

/// Runs plans on this host, or the baseline of the first.
pub(super) fn run(args: &ScientistVsLeech, plans: Vec<Plan>) -> Result<ExitCode, Failure> {
    let Some(out) = &args.out else {
        return Err(Failure::Usage("give --out DIR: runs on a host write what they see; or give --virtual".into()));
    };
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(&stop)?;
    for mut plan in plans {
        plan.check().map_err(|error| Failure::Usage(error.to_string()))?;
        let real = open(&mut plan, args.agents.as_deref(), out, args.sensor.clone())?;
        if args.baseline {
            baseline(&real, &plan, out, &stop)?;
            continue;
        }
        // Thresholds are on disk before anything runs.
        register(&plan, out).map_err(unwritten)?;
        let records = series(&real, &plan, out, &stop)?;
        if records.is_empty() {
            continue;
        }
        let summary = Summary::new(&plan, &records, real.host(), real.label());
        summary.write(&records, out).map_err(unwritten)?;
        if args.json {
            let text = serde_json::to_string_pretty(&summary).map_err(std::io::Error::from);
            say(&(text.map_err(|source| Failure::Write { path: "stdout".into(), source })? + "\n"));
        } else {
            say(&summary.markdown());
        }
    }
    Ok(if stop.load(Ordering::Relaxed) { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// Where the agents' programs are: where somebody says, or beside this program.
fn agents(given: Option<&Path>) -> PathBuf {
    let beside = || std::env::current_exe().ok()?.parent().map(Path::to_owned);
    given.map(Path::to_owned).or_else(beside).unwrap_or_default()
}

/// The host; its powers go into the plan.
fn open(plan: &mut Plan, given: Option<&Path>, out: &Path, sensors: Option<Choice>) -> Result<Real, Failure> {
    std::fs::create_dir_all(out).map_err(|source| Failure::Write { path: out.to_owned(), source })?;
    let real = Real::open(&agents(given), out, sensors).map_err(failure)?;
    plan.machine = real.machine();
    let yardstick = real.yardstick();
    eprintln!(
        "energy and temperature: {}; a scientist alone: {:.0} primes and {:.1} batches in a core-second",
        real.sensor(),
        yardstick.primes,
        yardstick.batches
    );
    Ok(real)
}

/// Runs a plan on this host. Raw data goes to `out` as it comes.
fn series(real: &Real, plan: &Plan, out: &Path, stop: &AtomicBool) -> Result<Vec<RunRecord>, Failure> {
    let mut raw = RawData::create(out).map_err(failure)?;
    let count = plan.turns().len();
    let show = std::io::stderr().is_terminal();
    let begins = |number: usize, turn: &maxwell_lab::experiment::Turn| {
        if show {
            eprint!("\r\x1b[K{}/{count} {} run {} ({} s)", number + 1, turn.arm, turn.run + 1, plan.seconds);
        }
    };
    let ended = |outcome: &Outcome| {
        let (turn, metrics) = (outcome.record.turn, &outcome.record.metrics);
        let clear = if show { "\r\x1b[K" } else { "" };
        eprintln!(
            "{clear}{:11} run {}: {:8.2} core-seconds of work, {:8.1} J, {:.4} a joule, leeches {:.2} core-seconds",
            turn.arm,
            turn.run + 1,
            metrics.work,
            metrics.joules,
            metrics.work_per_joule(),
            metrics.leech_core_seconds
        );
        raw.add(outcome)
    };
    let outcomes = real.series(plan, stop, begins, ended).map_err(failure)?;
    Ok(outcomes.into_iter().map(|outcome| outcome.record).collect())
}

/// Fair share alone, with metrics every second: temperature, power, work. The summary is primes for each joule.
fn baseline(real: &Real, plan: &Plan, out: &Path, stop: &AtomicBool) -> Result<(), Failure> {
    let plan = Plan { arms: vec![Arm::Linux], runs: 1, seconds: plan.seconds.max(1.0), ..plan.clone() };
    let Some(turn) = plan.turns().first().copied() else { return Ok(()) };
    let Some(outcome) = real.run(&plan, turn, stop).map_err(failure)? else { return Ok(()) };
    let mut raw = RawData::create(out).map_err(failure)?;
    raw.add(&outcome).map_err(failure)?;
    let metrics = &outcome.record.metrics;
    let kernel = real.host().kernel;
    let summary = serde_json::json!({
        "arm": "linux",
        "kernel": kernel,
        "scientists": plan.scientists,
        "leeches": plan.leeches,
        "leech": plan.leech.to_string(),
        "seconds": metrics.seconds,
        "sensor": real.sensor(),
        "primes": outcome.primes,
        "joules": metrics.joules,
        "primes_per_joule": outcome.primes as f64 / metrics.joules,
        "primes_per_joule_active": outcome.primes as f64 / metrics.joules_active,
        "peak_celsius": metrics.peak_celsius,
        "batches_verified": outcome.verified,
        "by_second": outcome.seconds(),
    });
    let path = out.join("baseline.json");
    let text = serde_json::to_string_pretty(&summary)
        .map_err(|error| Failure::Write { path: path.clone(), source: std::io::Error::other(error) })?;
    std::fs::write(&path, text + "\n").map_err(|source| Failure::Write { path: path.clone(), source })?;
    say(&format!(
        "linux {}: {} primes in {:.0} s, {:.0} J: {:.1} primes per joule, {:.1} without idle power ({})\n",
        kernel,
        outcome.primes,
        metrics.seconds,
        metrics.joules,
        outcome.primes as f64 / metrics.joules,
        outcome.primes as f64 / metrics.joules_active,
        real.sensor()
    ));
    Ok(())
}

fn failure(error: RealError) -> Failure {
    match error {
        RealError::Machine(error) => Failure::Machine(error),
        RealError::Io { path, source, .. } => Failure::Write { path, source },
        error => Failure::Experiment(error.to_string()),
    }
}
