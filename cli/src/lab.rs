//! `maxwell lab`.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use maxwell_lab::thermal::{Case, Comparison, Report};

use crate::outcome::Failure;
use crate::run::say;

pub(crate) fn thermal(wanted: &[String], list: bool, out: Option<&Path>, json: bool) -> Result<ExitCode, Failure> {
    let all = Case::all();
    if list {
        let lines: Vec<String> = all.iter().map(|case| format!("{:32} {}\n", case.name, case.title)).collect();
        say(&lines.concat());
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = wanted.iter().find(|name| !all.iter().any(|case| case.name.contains(name.as_str()))) {
        return Err(Failure::Usage(format!(
            "no case is called `{unknown}`: `maxwell lab thermal --list` shows them all"
        )));
    }
    if let Some(out) = out {
        std::fs::create_dir_all(out).map_err(|source| Failure::Write { path: out.to_owned(), source })?;
    }
    let cases: Vec<Case> = all
        .into_iter()
        .filter(|case| wanted.is_empty() || wanted.iter().any(|name| case.name.contains(name.as_str())))
        .collect();
    let show_progress = std::io::stderr().is_terminal();
    let mut report = Report { comparisons: Vec::new() };
    let count = cases.len();
    for (number, case) in (1..).zip(cases) {
        if show_progress {
            eprint!("\r\x1b[K{number}/{count} {}", case.name);
        }
        let comparison = Comparison::run(case);
        if let Some(out) = out {
            let path = out.join(format!("{}.svg", comparison.case.name));
            comparison.plot(&path).map_err(|error| write_error(&path, &error))?;
        }
        report.comparisons.push(comparison);
    }
    if show_progress {
        eprint!("\r\x1b[K");
    }
    let as_json = || serde_json::to_string_pretty(&report.json()).map(|text| text + "\n").map_err(std::io::Error::from);
    if let Some(out) = out {
        let write = |name: &str, text: &str| {
            let path = out.join(name);
            std::fs::write(&path, text).map_err(|source| Failure::Write { path, source })
        };
        write("thermal.md", &report.markdown())?;
        write("thermal.json", &as_json().map_err(|source| Failure::Write { path: out.join("thermal.json"), source })?)?;
    }
    if json {
        say(&as_json().map_err(|source| Failure::Write { path: "stdout".into(), source })?);
    } else {
        say(&table(&report));
        if let Some(out) = out {
            say(&format!("\nwritten to {}\n", out.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_error(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Write { path: path.to_owned(), source: std::io::Error::other(error.to_string()) }
}

/// The report for people at a terminal.
fn table(report: &Report) -> String {
    let markdown = report.markdown();
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    for (n, line) in markdown.lines().take_while(|line| line.starts_with('|')).enumerate() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        match n {
            0 => _ = table.set_header(cells),
            1 => {}
            _ => _ = table.add_row(cells),
        }
    }
    let goals: Vec<&str> = markdown.lines().skip_while(|line| line.starts_with('|')).collect();
    format!("{table}\n{}\n", goals.join("\n").replace("**", ""))
}
