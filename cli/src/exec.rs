//! `maxwell exec`: any command under a hard energy budget.

use std::ffi::OsString;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use clap::Args;
use maxwell_core::market::{Command, Event};
use maxwell_core::reason::Reason;
use maxwell_core::{Bytes, Joule, Micros, Price};
use maxwell_daemon::exec::{Exec, ExecError, Verdict};
use maxwell_daemon::machine::{MachineError, ProcessesNote};
use maxwell_daemon::notice::Notice;
use maxwell_daemon::report::{AgentReport, DomainReport, Lateness, SensorReport};
use maxwell_daemon::scenario::ProcessSpec;
use maxwell_daemon::signals::{Came, Signals};
use maxwell_hypervisor::process::sandbox::Sandbox;
use maxwell_hypervisor::process::{ProcessCell, ProcessError, Streams};
use maxwell_hypervisor::protocol::control::ControlError;
use maxwell_physics::Choice;
use rustix::process::Signal;
use serde::Serialize;

use crate::outcome::Failure;

/// Ended, or stopped, for lack of funds: `EX_TEMPFAIL` of sysexits.h, "try again later".
pub(crate) const OUT_OF_FUNDS: u8 = 75;
/// `exec` itself failed, as `env`, `timeout` and container engines count it.
pub(crate) const OWN_FAILURE: u8 = 125;
/// A second Ctrl-C within this time ends a command that ignored the first.
const TWICE: Duration = Duration::from_secs(3);
/// A command stands still if it was not seen running for this long: it is frozen for a moment in every tick in which it has
/// used up what it bought.
const STILL: Duration = Duration::from_millis(60);
/// The longest that Ctrl-Z waits until the command is frozen.
const SUSPEND: Duration = Duration::from_secs(2);
/// A command that waits longer than this is told of.
const WAITING: f64 = 1.0;

/// What `maxwell exec` is given.
#[derive(Args, Debug)]
pub(crate) struct ExecArgs {
    /// All that it may spend, for instance `500J` or `2kJ`: at par, this is what its cores may burn.
    #[arg(long)]
    budget: Joule,
    /// The most that it pays for a core-second, for instance `5W` [default: four times what a busy core burns].
    #[arg(long)]
    bid: Option<Price>,
    /// Freeze it instead of ending it when it cannot pay; `maxwell fund` thaws it.
    #[arg(long)]
    or_park: bool,
    /// The most cores that it buys at once [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    cores: Option<u16>,
    /// The most memory, for instance `1GiB`, where the host can limit it.
    #[arg(long, value_name = "BYTES")]
    memory: Option<Bytes>,
    /// The most processes and threads, where the host can limit it.
    #[arg(long, value_name = "N")]
    pids: Option<u32>,
    /// How long it has, when it must end, between SIGTERM and SIGKILL.
    #[arg(long, value_name = "TIME", default_value = "1s")]
    grace: Micros,
    /// Go on until its last descendant has ended, not only the command itself (for programs that daemonise).
    #[arg(long)]
    wait_all: bool,
    /// What it may not do: `on`, `off`, or words such as `write=/srv/data,no-landlock` (see docs/processes.md).
    #[arg(long, value_name = "WORDS", default_value = "on")]
    sandbox: String,
    /// Do not tax erased memory.
    #[arg(long)]
    no_tax: bool,
    /// Run it as this user.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Run it in this directory.
    #[arg(long, short = 'C', value_name = "DIR")]
    chdir: Option<PathBuf>,
    /// Its name in `maxwell ps` [default: exec-PID].
    #[arg(long)]
    name: Option<String>,
    /// Where energy and temperature are read, as for `maxwell run`.
    #[arg(long, value_name = "WORDS")]
    sensor: Option<Choice>,
    /// Write the summary as JSON to a file instead of a line on stderr; `-` is stderr.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Say nothing but errors.
    #[arg(long, short)]
    quiet: bool,
    /// The command and its arguments.
    #[arg(trailing_var_arg = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// The summary for machines.
#[derive(Serialize)]
struct Summary<'a> {
    name: &'a str,
    command: Vec<String>,
    budget_nj: u64,
    bid_mw: Option<u64>,
    exit_code: u8,
    ended: &'static str,
    reason: &'static str,
    text: String,
    seconds: f64,
    agent: &'a AgentReport,
    sensor: SensorReport,
    processes: &'a Option<ProcessesNote>,
    domains: &'a [DomainReport],
    par_mw: u64,
    peak_price_mw: u64,
    /// How late the market woke: what is used beyond what was bought is used then.
    tick_lateness_us: Lateness,
    late_ticks: u64,
}

pub(crate) fn exec(args: &ExecArgs) -> Result<ExitCode, Failure> {
    let signals = Signals::queue(&[
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGWINCH,
        libc::SIGTSTP,
    ])
    .map_err(|error| Failure::Exec(format!("signals cannot be handled: {error}")))?;
    let name = args.name.clone().unwrap_or_else(|| format!("exec-{}", std::process::id()));
    let mut sandbox: Sandbox = args.sandbox.parse().map_err(|error| Failure::Exec(format!("--sandbox: {error}")))?;
    // A command at a terminal keeps it: job control and Ctrl-C work as without us.
    sandbox.session &= !std::io::stdin().is_terminal();
    let apart = sandbox.session;
    // A report that cannot be written is better known now than after the run.
    let json = match args.json.as_deref() {
        Some(path) if path != Path::new("-") => Some(File::create(path).map_err(|error| unwritten(path, &error))?),
        _ => None,
    };
    let ready = Exec {
        name: name.clone(),
        budget: args.budget,
        bid: args.bid,
        slots: args.cores,
        process: ProcessSpec {
            command: args.command.clone(),
            cwd: args.chdir.clone(),
            user: args.user.clone(),
            sandbox,
            streams: Streams::Inherited,
            memory: args.memory,
            pids: args.pids,
            grace: Duration::from_micros(args.grace.0),
            wait_all: args.wait_all,
            ..ProcessSpec::default()
        },
        or_park: args.or_park,
        tax: !args.no_tax,
        sensors: args.sensor.clone(),
    };
    let ready = match ready.prepare() {
        Ok(ready) => ready,
        Err(ExecError::Machine(MachineError::Processes(ProcessError::Spawn(error)))) => {
            eprintln!("maxwell: {error}");
            return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(OWN_FAILURE)));
        }
        Err(error) => return Err(Failure::Exec(error.to_string())),
    };
    match ready.unreachable() {
        // A name that was asked for is one to be called by.
        Some(why @ (ControlError::BadName { .. } | ControlError::Running { .. })) if args.name.is_some() => {
            return Err(Failure::Exec(format!("--name: {why}")));
        }
        Some(why) if args.or_park => {
            return Err(Failure::Exec(format!("--or-park: nobody could top it up: {why}")));
        }
        _ => {}
    }
    let (watcher, notices) = channel();
    let (cell, commands) = (ready.cell(), ready.commands());
    let switchboard = Switchboard { cell, commands, grace: Duration::from_micros(args.grace.0), apart };
    // Both threads end with the process.
    std::thread::Builder::new()
        .name("maxwell-signals".into())
        .spawn(move || switchboard.pass_on(&signals))
        .map_err(|error| Failure::Exec(format!("no thread for signals: {error}")))?;
    let (quiet, hint) = (args.quiet, name.clone());
    let told = std::thread::spawn(move || tell(&notices, &hint, quiet));
    let began = Instant::now();
    let verdict =
        ready.run(Some(watcher), &AtomicBool::new(false)).map_err(|error| Failure::Exec(error.to_string()))?;
    let parked = told.join().unwrap_or(false);
    finish(args, &name, &verdict, parked, began.elapsed().as_secs_f64(), json)
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Exec(format!("{} could not be written: {error}", path.display()))
}

/// The exit code, and how it ended in a word.
fn ending(verdict: &Verdict, parked: bool) -> (u8, &'static str) {
    let code = |otherwise: u8| verdict.exit.map_or(otherwise, |exit| u8::try_from(exit.code()).unwrap_or(otherwise));
    match verdict.reason {
        _ if verdict.is_out_of_funds() => (OUT_OF_FUNDS, "out_of_funds"),
        Reason::Killed if parked => (OUT_OF_FUNDS, "out_of_funds"),
        _ if verdict.never_started() => (code(OWN_FAILURE), "not_started"),
        Reason::Finished => (code(OWN_FAILURE), "finished"),
        Reason::Killed => (code(128 + 15), "ended_by_signal"),
        _ => (OWN_FAILURE, "failed"),
    }
}

fn finish(
    args: &ExecArgs,
    name: &str,
    verdict: &Verdict,
    parked: bool,
    seconds: f64,
    json: Option<File>,
) -> Result<ExitCode, Failure> {
    let report = &verdict.result.report;
    let agent = &report.agents[0];
    let (exit_code, ended) = ending(verdict, parked);
    let text = line(name, verdict, agent, exit_code, args.budget);
    // `env` says no more either.
    let quiet = args.quiet || verdict.never_started();
    if args.json.is_some() {
        let summary = Summary {
            name,
            command: args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            budget_nj: args.budget.0,
            bid_mw: args.bid.map(|bid| bid.0),
            exit_code,
            ended,
            reason: verdict.reason.code(),
            text,
            seconds,
            agent,
            sensor: report.sensor,
            processes: &verdict.result.processes,
            domains: &report.energy.domains,
            par_mw: report.price_mw.par,
            peak_price_mw: report.price_mw.peak,
            tick_lateness_us: report.tick_lateness_us,
            late_ticks: report.late_ticks,
        };
        let written = serde_json::to_string_pretty(&summary).expect("plain data");
        match (json, &args.json) {
            (Some(mut file), Some(path)) => {
                writeln!(file, "{written}").and_then(|()| file.flush()).map_err(|error| unwritten(path, &error))?
            }
            _ => eprintln!("{written}"),
        }
    } else if !quiet {
        eprintln!("{text}");
    }
    Ok(ExitCode::from(exit_code))
}

/// The summary for people.
fn line(name: &str, verdict: &Verdict, agent: &AgentReport, code: u8, budget: Joule) -> String {
    let report = &verdict.result.report;
    let why = match verdict.reason {
        Reason::Finished => format!("ended by itself, exit code {code}"),
        Reason::Killed => "was ended".to_owned(),
        Reason::Insolvent => "ran out of funds".to_owned(),
        reason if verdict.is_out_of_funds() => format!("ran out of funds: it {reason}"),
        reason => format!("failed: {reason}"),
    };
    let core = Duration::from_micros(agent.core_us).as_secs_f64();
    let (paid, tax, rent) = (Joule(agent.paid_nj), Joule(agent.tax_nj), Joule(agent.rent_nj));
    let spent = paid.saturating_add(tax).saturating_add(rent);
    let erased = Bytes(agent.erased_bytes);
    let quality = report.sensor.quality;
    let estimated = verdict.result.processes.as_ref().is_some_and(|note| note.erased_by.starts_with("estimated"));
    let mut text = format!(
        "maxwell: {name} {why}; {} of energy ({}, {quality}), {core:.2} s of core time; spent {spent} of {budget}: {paid} for \
         cores, {tax} tax on {erased} erased{}, {rent} rent",
        Joule(agent.energy_nj),
        report.sensor.source,
        if estimated { " (estimated from smaps)" } else { "" },
    );
    if agent.arrears_nj > 0 {
        text += &format!("; {} could not be paid any more", Joule(agent.arrears_nj));
    }
    if verdict.is_out_of_funds() {
        text += &format!("; {} left, which does not cover another slot", Joule(agent.balance_nj));
    }
    text
}

/// Says what the user should know while it runs. Whether it is parked for lack of funds at the end.
fn tell(notices: &Receiver<Notice>, name: &str, quiet: bool) -> bool {
    let say = |text: &str| {
        if !quiet {
            eprintln!("maxwell: {text}");
        }
    };
    let mut parked = false;
    let mut waiting: Option<(f64, bool)> = None;
    for notice in notices {
        match notice {
            Notice::Said { utterance, .. } => say(&format!("{name} says: {}", utterance.text)),
            // That it never started, it says itself: as `env` does.
            Notice::Failed { why, .. } => eprintln!("maxwell: {why}"),
            Notice::Happened { event: Event::Parked { reason, .. }, .. } if reason != Reason::ParkedByOwner => {
                parked = true;
                say(&format!(
                    "{name} is parked, frozen: it ran out of funds. Top it up with `maxwell fund {name} 100J` in another terminal, or \
                     end it with Ctrl-C"
                ));
            }
            Notice::Happened { event: Event::Revived { .. }, .. } if std::mem::take(&mut parked) => {
                say(&format!("{name} goes on"));
            }
            Notice::Snapshot(snapshot) => {
                let row = snapshot.rows.first();
                let Some(row) = row.filter(|row| row.waiting > 0) else {
                    waiting = None;
                    continue;
                };
                let (since, told) = *waiting.get_or_insert((snapshot.seconds, false));
                if !told && snapshot.seconds - since > WAITING {
                    say(&format!("{name} waits, frozen: it {}", row.reason));
                    waiting = Some((since, true));
                }
            }
            _ => {}
        }
    }
    parked
}

/// Passes signals on to the command, and turns those that ask for an end into one.
struct Switchboard {
    cell: Arc<ProcessCell>,
    commands: Sender<Command>,
    grace: Duration,
    /// It has a session of its own: what a terminal sends to our group does not reach it.
    apart: bool,
}

impl Switchboard {
    fn pass_on(&self, signals: &Signals) {
        let mut interrupted: Option<Instant> = None;
        while let Ok(Came { number, from_terminal }) = signals.next() {
            let reached = from_terminal && !self.apart;
            match number {
                libc::SIGTSTP => self.suspend(reached),
                libc::SIGINT | libc::SIGQUIT => {
                    let twice = interrupted.replace(Instant::now()).is_some_and(|last| last.elapsed() < TWICE);
                    if twice || self.is_frozen() {
                        self.end();
                    } else if !reached {
                        self.send(number);
                    }
                }
                libc::SIGTERM | libc::SIGHUP => {
                    self.send(number);
                    // As `timeout` does: who stopped itself hears it too.
                    self.send(libc::SIGCONT);
                    // Whoever asks us to end is not kept waiting by a command that does not listen.
                    let (commands, grace) = (self.commands.clone(), self.grace);
                    std::thread::spawn(move || {
                        std::thread::sleep(grace);
                        let _ = commands.send(Command::Kill { agent: Exec::AGENT });
                    });
                    if self.is_frozen() {
                        self.end();
                    }
                }
                other if !reached => self.send(other),
                _ => {}
            }
        }
    }

    fn send(&self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number) {
            self.cell.signal(signal);
        }
    }

    /// It hears nothing until it runs again, which may be never.
    fn is_frozen(&self) -> bool {
        let since = Instant::now();
        while self.cell.is_frozen() {
            if since.elapsed() >= STILL {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    fn end(&self) {
        // The market is gone when the command is.
        let _ = self.commands.send(Command::Kill { agent: Exec::AGENT });
    }

    /// Ctrl-Z: the command is frozen, then we stop; when we are continued, it goes on.
    fn suspend(&self, reached: bool) {
        if !reached {
            self.send(libc::SIGTSTP);
        }
        let _ = self.commands.send(Command::Park { agent: Exec::AGENT });
        let until = Instant::now() + SUSPEND;
        while !self.is_frozen() {
            // Nobody stops the command while we stand still.
            if Instant::now() >= until {
                let _ = self.commands.send(Command::Fund { agent: Exec::AGENT, amount: Joule::ZERO });
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP);
        // Here we are again: a top-up of nothing ends its parking.
        let _ = self.commands.send(Command::Fund { agent: Exec::AGENT, amount: Joule::ZERO });
        if !reached {
            self.send(libc::SIGCONT);
        }
    }
}
