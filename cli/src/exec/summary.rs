//! What a command under a budget came to: for people in a line, for machines as JSON, for shells as a code.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use maxwell_core::reason::Reason;
use maxwell_core::{Bytes, Joule};
use maxwell_daemon::exec::Verdict;
use maxwell_daemon::report::{AgentReport, DomainReport, Lateness, ProcessesNote, SensorReport};
use maxwell_ebpf::Class;
use maxwell_hypervisor::process::sandbox::Enforced;
use serde::Serialize;

use super::{ExecArgs, OUT_OF_FUNDS, OWN_FAILURE};
use crate::outcome::Failure;

/// A program of the command, and what samples say that it erased.
#[derive(Serialize)]
struct Eraser<'a> {
    program: &'a str,
    bytes: u64,
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
    sandbox: &'a Enforced,
    erasers: Vec<Eraser<'a>>,
    /// By class, if they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    system_calls: Option<BTreeMap<&'static str, u64>>,
    domains: &'a [DomainReport],
    par_mw: u64,
    peak_price_mw: u64,
    /// How late the market woke: what is used beyond what was bought is used then.
    tick_lateness_us: Lateness,
    late_ticks: u64,
}

pub(super) fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
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

/// What a run came to.
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    /// It was parked for lack of funds when it ended.
    pub(super) parked: bool,
    pub(super) seconds: f64,
    pub(super) enforced: Enforced,
}

pub(super) fn finish(args: &ExecArgs, name: &str, outcome: &Outcome, json: Option<File>) -> Result<ExitCode, Failure> {
    let Outcome { verdict, parked, seconds, enforced } = outcome;
    let report = &verdict.result.report;
    let agent = &report.agents[0];
    let (exit_code, ended) = ending(verdict, *parked);
    let text = line(name, verdict, agent, exit_code);
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
            seconds: *seconds,
            agent,
            sensor: report.sensor,
            processes: &verdict.result.report.processes,
            sandbox: enforced,
            system_calls: verdict
                .calls
                .map(|calls| Class::ALL.into_iter().map(|class| (class.name(), calls.of(class))).collect()),
            erasers: verdict.erasers.iter().map(|(program, bytes)| Eraser { program, bytes: *bytes }).collect(),
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
fn line(name: &str, verdict: &Verdict, agent: &AgentReport, code: u8) -> String {
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
    // The budget and what it was topped up with.
    let given = spent.saturating_add(Joule(agent.balance_nj));
    let erased = Bytes(agent.erased_bytes);
    let quality = report.sensor.quality;
    let estimated =
        verdict.result.report.processes.as_ref().is_some_and(|note| note.erased_by.starts_with("estimated"));
    let mut text = format!(
        "maxwell: {name} {why}; {} of energy ({}, {quality}), {core:.2} s of core time; spent {spent} of {given}: {paid} for \
         cores, {tax} tax on {erased} erased{}, {rent} rent",
        Joule(agent.energy_nj),
        report.sensor.source,
        whose(verdict, erased, estimated),
    );
    if agent.arrears_nj > 0 {
        text += &format!("; {} could not be paid any more", Joule(agent.arrears_nj));
    }
    if verdict.is_out_of_funds() {
        text += &format!("; {} left, which does not cover another slot", Joule(agent.balance_nj));
    }
    text
}

/// How erased bytes are known, or which program erased most of them, where that is worth a word.
fn whose(verdict: &Verdict, erased: Bytes, estimated: bool) -> String {
    match verdict.erasers.first() {
        _ if estimated => " (estimated from smaps)".to_owned(),
        Some((program, bytes)) if erased.0 > 16 << 20 && *bytes > erased.0 / 2 => format!(" (most by {program})"),
        _ => String::new(),
    }
}
