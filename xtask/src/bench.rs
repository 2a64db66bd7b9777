//! Benchmarks: run the programs that measure, and keep their tables in docs/benchmarks.md.

use std::process::{Command, Stdio};

use clap::ValueEnum;

/// What can be measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Suite {
    /// The order book against the usual alternatives, clearing, cells, metering, and ticks on time.
    Market,
    /// Process cells: freezing, thawing, starting.
    Cells,
    /// A look at the machine's sensors.
    Physics,
    /// Thermal control beside the kernel's, on the same plants: the table and the pictures of docs/thermal.md.
    Thermal,
    /// The erasure meter: what it costs calls, pages and real programs.
    Ebpf,
}

/// The programs of a suite: package and benchmark.
const MARKET: [(&str, &str); 3] =
    [("maxwell-core", "market"), ("maxwell-hypervisor", "cells"), ("maxwell-daemon", "ticks")];

const CELLS: [(&str, &str); 1] = [("maxwell-hypervisor", "freezer")];

const PHYSICS: [(&str, &str); 1] = [("maxwell-physics", "sensors")];

const EBPF: [(&str, &str); 1] = [("maxwell-ebpf", "erasure")];

const END: &str = "<!-- end -->";

/// Runs a suite and rewrites its part of docs/benchmarks.md.
pub(crate) fn bench(suite: Suite) -> Result<(), String> {
    let (programs, word) = match suite {
        Suite::Market => (&MARKET[..], "market"),
        Suite::Cells => (&CELLS[..], "cells"),
        Suite::Physics => (&PHYSICS[..], "physics"),
        Suite::Ebpf => (&EBPF[..], "ebpf"),
        Suite::Thermal => return thermal(),
    };
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
    insert("docs/benchmarks.md", word, &format!("Measured on: {}.\n\n{}", machine(), tables.trim_end()))
}

/// The pictures that docs/thermal.md shows.
const PICTURES: [&str; 6] = ["step", "burst", "inelastic", "fan", "stale", "sawtooth"];

/// Runs the thermal lab. It computes in virtual time, so its figures do not depend on the machine.
fn thermal() -> Result<(), String> {
    let root = crate::root();
    let out = root.join("target/thermal");
    let folder = out.display().to_string();
    let lab = ["run", "--quiet", "--release", "--package", "maxwell", "--", "lab", "thermal", "--out", &folder];
    crate::run("cargo", &lab)?;
    let table = std::fs::read_to_string(out.join("thermal.md")).map_err(|error| format!("{folder}: {error}"))?;
    let pictures = root.join("docs/thermal");
    std::fs::create_dir_all(&pictures).map_err(|error| format!("{}: {error}", pictures.display()))?;
    for name in PICTURES.map(|case| format!("{case}.svg")) {
        std::fs::copy(out.join(&name), pictures.join(&name)).map_err(|error| format!("{name}: {error}"))?;
    }
    insert("docs/thermal.md", "thermal", table.trim_end())
}

/// Replaces what a suite once wrote into a page.
fn insert(page: &str, word: &str, text: &str) -> Result<(), String> {
    let begin = format!("<!-- begin: written by `cargo xtask bench {word}` -->");
    let path = crate::root().join(page);
    let old = std::fs::read_to_string(&path).map_err(|error| format!("{page}: {error}"))?;
    let (before, rest) = old.split_once(&begin).ok_or_else(|| format!("{page} has no `{begin}`"))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("{page} has no `{END}`"))?;
    std::fs::write(&path, format!("{before}{begin}\n\n{text}\n{END}{after}"))
        .map_err(|error| format!("{page}: {error}"))
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
