//! `maxwell exec`: any command under a hard energy budget.

mod summary;
mod switchboard;

use std::ffi::OsString;
use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use clap::Args;
use maxwell_core::market::Event;
use maxwell_core::reason::Reason;
use maxwell_core::{Bytes, Joule, Micros, Price};
use maxwell_daemon::exec::{Exec, ExecError};
use maxwell_daemon::machine::MachineError;
use maxwell_daemon::notice::Notice;
use maxwell_daemon::scenario::ProcessSpec;
use maxwell_daemon::signals::Signals;
use maxwell_hypervisor::process::sandbox::Sandbox;
use maxwell_hypervisor::process::{ProcessError, Streams};
use maxwell_hypervisor::protocol::control::ControlError;
use maxwell_physics::Choice;

use self::summary::{Outcome, finish, unwritten};
use self::switchboard::Switchboard;
use crate::outcome::Failure;

/// Ended, or stopped, for lack of funds: `EX_TEMPFAIL` of sysexits.h, "try again later".
pub(crate) const OUT_OF_FUNDS: u8 = 75;
/// `exec` itself failed, as `env`, `timeout` and container engines count it.
pub(crate) const OWN_FAILURE: u8 = 125;
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
    /// Count its system calls by class, for the JSON. Slows down every system call of this machine meanwhile.
    #[arg(long)]
    audit: bool,
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
            audit: args.audit,
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
    let cell = ready.cell();
    if !args.quiet {
        let unavailable = cell.unavailable().iter().chain(&cell.enforced().notes);
        unavailable.for_each(|why| eprintln!("maxwell: {why}"));
    }
    let enforced = cell.enforced().clone();
    let (watcher, notices) = channel();
    let (cell, commands) = (ready.cell(), ready.commands());
    let switchboard = Switchboard { cell, commands, grace: Duration::from_micros(args.grace.0), apart };
    // Both threads end with the process.
    let no_thread = |what: &str| {
        let what = what.to_owned();
        move |error| Failure::Exec(format!("no thread for {what}: {error}"))
    };
    std::thread::Builder::new()
        .name("maxwell-signals".into())
        .spawn(move || switchboard.pass_on(&signals))
        .map_err(no_thread("signals"))?;
    let (quiet, hint) = (args.quiet, name.clone());
    let told = std::thread::Builder::new()
        .name("maxwell-notices".into())
        .spawn(move || tell(&notices, &hint, quiet))
        .map_err(no_thread("notices"))?;
    let began = Instant::now();
    let verdict =
        ready.run(Some(watcher), &AtomicBool::new(false)).map_err(|error| Failure::Exec(error.to_string()))?;
    let parked = told.join().unwrap_or(false);
    let outcome = Outcome { verdict, parked, seconds: began.elapsed().as_secs_f64(), enforced };
    finish(args, &name, &outcome, json)
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
            Notice::Happened { event: Event::Revived { .. }, .. } if parked => {
                parked = false;
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
