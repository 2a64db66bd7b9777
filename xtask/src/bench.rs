//! Benchmarks: run the programs that measure, and keep their tables in docs/benchmarks.md.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use clap::ValueEnum;

/// What can be measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Suite {
    /// The order book against the usual alternatives, clearing, cells, metering, and ticks on time.
    Market,
    /// A look at the machine's sensors.
    Physics,
}

/// The programs of a suite: package and benchmark.
const MARKET: [(&str, &str); 3] =
    [("maxwell-core", "market"), ("maxwell-hypervisor", "cells"), ("maxwell-daemon", "ticks")];

const PHYSICS: [(&str, &str); 1] = [("maxwell-physics", "sensors")];

const END: &str = "<!-- end -->";

/// Runs a suite and rewrites its part of docs/benchmarks.md.
pub(crate) fn bench(suite: Suite) -> Result<(), String> {
    let (programs, word) = match suite {
        Suite::Market => (&MARKET[..], "market"),
        Suite::Physics => (&PHYSICS[..], "physics"),
    };
    let begin = format!("<!-- begin: written by `cargo xtask bench {word}` -->");
    let mut tables = String::new();
    for (package, name) in programs {
        eprintln!("xtask: measuring {package}/{name}");
        let output = Command::new("cargo")
            .args(["bench", "--quiet", "--package", package, "--bench", name])
            .current_dir(crate::root())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("cargo bench could not be started: {error}"))?;
        if !output.status.success() {
            return Err(format!("the benchmark {package}/{name} failed ({})", output.status));
        }
        let table = String::from_utf8_lossy(&output.stdout);
        print!("{table}");
        tables.push_str(&table);
    }
    let page = crate::root().join("docs/benchmarks.md");
    let old = std::fs::read_to_string(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    let (before, rest) = old.split_once(&begin).ok_or_else(|| format!("{} has no `{begin}`", page.display()))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("{} has no `{END}`", page.display()))?;
    let mut new = String::new();
    write!(new, "{before}{begin}\n\nMeasured on: {}.\n\n{}\n{END}{after}", machine(), tables.trim_end())
        .expect("writing to a string");
    std::fs::write(&page, new).map_err(|error| format!("{}: {error}", page.display()))
}

/// What this machine is, in a line.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    let virtual_machine = if cpuinfo.contains("hypervisor") { ", virtual machine" } else { "" };
    let release = kernel.trim().split('-').next().unwrap_or_default().to_owned();
    format!("{} × {cores}, Linux {release}{virtual_machine}", model.trim_start_matches([' ', '\t', ':']).trim())
}
