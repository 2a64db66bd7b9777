//! `maxwell doctor`: one screen about this machine.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use maxwell_daemon::doctor::{self, Check, Verdict};
use maxwell_physics::sensors::{Finding, State};
use maxwell_physics::{Root, Survey, cpu, survey};
use serde_json::json;

use crate::outcome::Failure;
use crate::run::say;

pub(crate) fn doctor(file: Option<&Path>, as_json: bool) -> Result<ExitCode, Failure> {
    let survey = survey(&Root::machine(), file);
    let host = doctor::host();
    if as_json {
        let whole = json!({
            "uses": { "energy": survey.best_energy(), "temperature": survey.best_temperature() },
            "sensors": survey,
            "host": host,
        });
        say(&format!("{whole:#}\n"));
    } else {
        say(&text(&survey, &host));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(survey: &Survey, host: &[Check]) -> String {
    let mut out = String::new();
    write(&mut out, survey, host).expect("writing to a string");
    out
}

fn write(out: &mut String, survey: &Survey, host: &[Check]) -> std::fmt::Result {
    let cpu = cpu::Cpu::parse(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
    let guest = if cpu.hypervisor { ", in a virtual machine" } else { "" };
    writeln!(out, "{} × {}{guest}", cpu.name, cpu.threads)?;
    writeln!(out)?;
    part(out, "energy", survey.best_energy().name(), &survey.energy)?;
    part(out, "temperature", survey.best_temperature().name(), &survey.temperature)?;
    if survey.accelerators.state != State::Absent {
        part(out, "accelerators", survey.accelerators.kind, std::slice::from_ref(&survey.accelerators))?;
    }
    for package in &survey.throttling {
        let bits = [
            (package.critical, "is about to switch itself off"),
            (package.hot, "is too hot, and slows down"),
            (package.prochot, "is told by its board to slow down (PROCHOT)"),
            (package.power_limited, "is slowed down by a power limit"),
            (package.was_hot && !package.hot, "has been too hot since its last reset"),
        ];
        for (_, what) in bits.iter().filter(|(set, _)| *set) {
            writeln!(out, "! package {} {what}", package.package)?;
        }
    }
    if survey.best_energy() == maxwell_core::sensor::Source::Model {
        let assumed = cpu.default_power();
        writeln!(
            out,
            "  Energy is modelled: {} idle and {} more for each busy core ({}). `maxwell physics fit` makes a better model.",
            assumed.power.idle,
            assumed.power.core(1.0),
            assumed.family
        )?;
        writeln!(out)?;
    }
    writeln!(out, "host")?;
    for check in host {
        let mark = match check.verdict {
            Verdict::Good => "✓",
            Verdict::Weaker => "~",
            Verdict::Missing => "✗",
        };
        writeln!(out, "  {mark} {:18} {}", check.name, check.found)?;
        if check.verdict != Verdict::Good {
            writeln!(out, "    {:18} for {}", "", check.purpose)?;
        }
        if let Some(fix) = &check.fix {
            writeln!(out, "    {:18} to have it: {fix}", "")?;
        }
    }
    Ok(())
}

fn part(out: &mut String, title: &str, used: &str, findings: &[Finding]) -> std::fmt::Result {
    writeln!(out, "{title}: {used} is used")?;
    for finding in findings {
        let mark = match finding.state {
            State::Usable => "✓",
            State::Unusable => "✗",
            State::Absent => "·",
        };
        let counted: Vec<&str> =
            finding.items.iter().filter(|item| item.counted).map(|item| item.name.as_str()).collect();
        let what = match &finding.obstacle {
            Some(obstacle) => obstacle.reason.clone(),
            None => counted.join(", "),
        };
        writeln!(out, "  {mark} {:18} {what}", finding.kind)?;
        for item in finding.items.iter().filter(|item| finding.state == State::Usable && item.note.is_some()) {
            let left_out = if item.counted { "" } else { " is left out" };
            writeln!(out, "    {:18} {}{left_out}: {}", "", item.name, item.note.as_deref().unwrap_or_default())?;
        }
        if let Some(remedy) = finding.obstacle.as_ref().and_then(|obstacle| obstacle.remedy.as_deref()) {
            writeln!(out, "    {:18} to have it: {remedy}", "")?;
        }
    }
    writeln!(out)
}
