//! Developer commands: `cargo xtask test`, `lint`, `bench`, `bpf`.

mod bench;
mod bpf;
mod packages;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use clap::{Parser, Subcommand};

/// Developer commands.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Every check: formatting, clippy, unit, doc, property and integration tests, and the same hash in debug and release.
    Test,
    /// Formatting and clippy only.
    Lint,
    /// Measure, and write the tables of docs/benchmarks.md.
    Bench {
        /// What to measure.
        #[arg(default_value = "market")]
        suite: bench::Suite,
    },
    /// Rebuild the BPF programs with clang, and compare them with the committed objects.
    Bpf {
        /// Renew the committed objects.
        #[arg(long)]
        write: bool,
    },
}

fn main() -> ExitCode {
    let started = Instant::now();
    let done = match Cli::parse().command {
        Task::Test => test(),
        Task::Lint => lint(),
        Task::Bench { suite } => bench::bench(suite),
        Task::Bpf { write } => bpf::bpf(write),
    };
    match done {
        Ok(()) => {
            eprintln!("xtask: done in {:.0} s", started.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// Runs a command in the workspace's root; its output goes where ours goes.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let shown = format!("{program} {}", arguments.join(" "));
    eprintln!("xtask: {shown}");
    let status = Command::new(program)
        .args(arguments)
        // What a failed test said is not to be pushed out of sight by where it said it.
        .env("RUST_BACKTRACE", "0")
        .current_dir(root())
        .status()
        .map_err(|error| format!("`{shown}` could not be started: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}` failed ({status})")) }
}

fn lint() -> Result<(), String> {
    run("cargo", &["fmt", "--all", "--check"])?;
    run("cargo", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    run(
        "cargo",
        &["clippy", "--package", "maxwell-physics", "--all-targets", "--all-features", "--", "-D", "warnings"],
    )?;
    // Links between items must lead somewhere.
    [
        "maxwell-core",
        "maxwell-physics",
        "maxwell-hypervisor",
        "maxwell-agents",
        "maxwell-daemon",
        "maxwell-lab",
        "maxwell-ebpf",
    ]
    .into_iter()
    .try_for_each(|room| run("cargo", &["rustdoc", "--quiet", "--package", room, "--lib", "--", "-D", "warnings"]))
}

fn test() -> Result<(), String> {
    packages::install();
    lint()?;
    bpf::bpf(false)?;
    // Tests that run whole machines share this machine's cores: one test program at a time, as cargo does.
    run("cargo", &["test", "--workspace"])?;
    // Graphics cards need no card and no driver to be tested: a library of ours stands for NVIDIA's.
    run("cargo", &["test", "--package", "maxwell-physics", "--features", "nvml"])?;
    same_hash_in_debug_and_release()
}

/// What one profile recorded, the other replays.
fn same_hash_in_debug_and_release() -> Result<(), String> {
    run("cargo", &["build", "--package", "maxwell"])?;
    run("cargo", &["build", "--package", "maxwell", "--release"])?;
    let root = root();
    let binary = |profile: &str| root.join("target").join(profile).join("maxwell").display().to_string();
    for (records, replays) in [("debug", "release"), ("release", "debug")] {
        let file = root.join("target").join(format!("recorded-by-{records}.maxwell"));
        let file = file.display().to_string();
        let run_it = ["run", "scenarios/demo.toml", "--seconds", "5", "--quiet", "--record", &file];
        run(&binary(records), &run_it)?;
        run(&binary(replays), &["replay", &file])?;
    }
    Ok(())
}
