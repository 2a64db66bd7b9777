//! `maxwell run` and `maxwell replay`.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use maxwell_daemon::machine::{Machine, RunOptions, Until, Wishes};
use maxwell_daemon::recording;
use maxwell_daemon::report::RunReport;
use maxwell_daemon::scenario::Scenario;

use crate::outcome::{Failure, INTERRUPTED};
use crate::view::View;
use crate::{Output, summary};

pub(crate) fn file(path: &Path, seconds: u32, record: Option<&Path>, output: &Output) -> Result<ExitCode, Failure> {
    scenario(path, Scenario::load(path)?, seconds, record, output)
}

/// Runs a scenario with everything that is shown and written about it.
pub(crate) fn scenario(
    path: &Path,
    mut scenario: Scenario,
    seconds: u32,
    record: Option<&Path>,
    output: &Output,
) -> Result<ExitCode, Failure> {
    // A report that cannot be written is better known now than after the run.
    let json_to_stdout = output.json.as_deref() == Some(Path::new("-"));
    let json = match &output.json {
        Some(path) if !json_to_stdout => {
            Some((path, File::create(path).map_err(|source| Failure::Write { path: path.clone(), source })?))
        }
        _ => None,
    };
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signals(&stop)?;

    if let Some(choice) = &output.sensor {
        scenario.sensors = choice.clone();
    }
    let machine = Machine::new(path, &scenario, output.seed)?;
    // Where JSON goes to stdout, people are told on stderr.
    let quiet = output.quiet || json_to_stdout;
    let (watcher, view) = if quiet {
        (None, None)
    } else {
        let (sender, notices) = mpsc::channel();
        let view = View::new(scenario.title.clone(), machine.names(), std::io::stdout().is_terminal());
        let thread = std::thread::spawn(move || view.watch(&notices));
        (Some(sender), Some(thread))
    };
    let options = RunOptions {
        until: Until::Time(Duration::from_secs(u64::from(seconds))),
        wishes: Wishes::default(),
        record,
        watcher,
    };
    let result = machine.run(&options, &stop);
    // The view ends when nobody can send to it any more.
    drop(options);
    if let Some(view) = view {
        // A view that panicked has said so on stderr; the run is still reported.
        let _ = view.join();
    }
    let result = result?;
    if json_to_stdout {
        write_json(&mut std::io::stdout().lock(), &result.report)
            .map_err(|source| Failure::Write { path: "stdout".into(), source })?;
    }
    if let Some((path, mut file)) = json {
        write_json(&mut file, &result.report).map_err(|source| Failure::Write { path: path.clone(), source })?;
    }
    if !quiet {
        say(&summary::text(&scenario, &result));
    }
    Ok(if stop.load(Ordering::Relaxed) { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// Ctrl-C and SIGTERM set `stop`; a second one ends the process at once.
pub(crate) fn stop_on_signals(stop: &Arc<AtomicBool>) -> Result<(), Failure> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(stop)).map_err(Failure::Signals)?;
        signal_hook::flag::register(signal, Arc::clone(stop)).map_err(Failure::Signals)?;
    }
    Ok(())
}

/// Prints to stdout. A reader that has gone away (`| head`) is no failure of the run.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn write_json(to: &mut impl Write, report: &RunReport) -> std::io::Result<()> {
    let mut to = BufWriter::new(to);
    serde_json::to_writer_pretty(&mut to, report)?;
    writeln!(to)?;
    to.flush()
}

pub(crate) fn replay(path: &Path, json: bool) -> Result<ExitCode, Failure> {
    let replayed = recording::replay(path)?;
    if json {
        say(&format!("{}\n", serde_json::json!({ "ticks": replayed.ticks, "state_hash": replayed.state_hash })));
    } else {
        let (ticks, hash) = (replayed.ticks, replayed.state_hash);
        say(&format!("{ticks} ticks replayed, every decision as recorded\nstate hash {hash}\n"));
    }
    Ok(ExitCode::SUCCESS)
}
