//! `maxwell physics`: what this machine burns and how it warms.

mod export;
mod fit;
mod plot;
mod tune;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use maxwell_core::Price;

use crate::outcome::Failure;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Learns a machine's power and heat from traces of a meter, and says how far to trust the result.
    ///
    /// A trace is a CSV file with the columns `seconds`, `watts`, and `utilisation` (0 to 1) or `core0`, `core1`, … (one for
    /// each hardware thread); optional are `active_cores`, `celsius` and `mhz`. CodeCarbon's load profiles are understood as they
    /// are. Several traces are fitted together as one machine: record it idle, at full load, and in between, with all cores
    /// partly busy and with some fully busy. For its heat, log the die's temperature and power once a second through some
    /// minutes of steps.
    ///
    /// Errors are reported on rows that the fit has not seen, beside what a straight line and CodeCarbon's formula score on the
    /// same rows. See docs/model.md.
    Fit(Fit),
    /// Swings this machine's temperature to learn how fast it warms and how late that is seen (at most a minute).
    ///
    /// A relay experiment (Åström and Hägglund 1984): full load on all cores, and none, in turns, around a temperature between
    /// rest and full load. Prints the ultimate gain and period, Tyreus and Luyben's gains, the slope of the die and the delay of the
    /// loop; with --out they go into a profile, from which thermal control starts. It learns the same while it works, only
    /// later. Run it on an otherwise idle machine; Ctrl-C ends it at once.
    Tune(tune::Tune),
    /// Writes this machine's energy and temperature to a file for its guests, until Ctrl-C.
    ///
    /// A virtual machine has no sensors; its host has. Run this on the host, with a file that the guest sees (virtio-fs, or a bind
    /// mount of a tmpfs), and `--sensor file:/path` in the guest. The guest is told the whole host's energy and hottest die, and
    /// how far they are measured. See docs/sensors.md.
    Export(export::Export),
}

/// What `maxwell physics fit` is told.
#[derive(Args)]
#[command(after_help = "Example: maxwell physics fit idle.csv steps.csv --threads 16 --out host.toml --plot host.svg")]
pub(crate) struct Fit {
    /// The traces, all of one machine.
    #[arg(required = true, value_name = "TRACE.csv")]
    traces: Vec<PathBuf>,
    /// Write the machine's profile to a file.
    #[arg(long, value_name = "PROFILE.toml")]
    out: Option<PathBuf>,
    /// Draw the rows and the model as an SVG picture.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Replace files that are there already.
    #[arg(long)]
    force: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// What to call the machine.
    #[arg(long, value_name = "NAME")]
    title: Option<String>,
    /// The machine's hardware threads, where the traces do not say.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    threads: Option<u16>,
    /// The socket's TDP, for CodeCarbon's formula; without it that formula gets the TDP that suits it best.
    #[arg(long, value_name = "POWER")]
    tdp: Option<Price>,
    /// Let power follow the clock (column `mhz`), where that pays. Only for those who will know the clock later.
    #[arg(long)]
    clock: bool,
}

pub(crate) fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Fit(arguments) => fit::fit(arguments),
        Command::Tune(arguments) => tune::run(arguments),
        Command::Export(arguments) => export::run(arguments),
    }
}
