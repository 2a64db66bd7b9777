//! `maxwell experiment compare`: what virtual time said beside what a host did.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use maxwell_lab::experiment::{CompareError, Told, compare, comparison_table};

use crate::outcome::Failure;
use crate::run::say;

/// Which two.
#[derive(Args, Debug)]
pub(crate) struct Compare {
    /// The folder that `scientist-vs-leech --virtual --out` wrote.
    #[arg(value_name = "VIRTUAL_DIR")]
    simulated: PathBuf,
    /// The folder that `scientist-vs-leech --out` wrote on a host: the same plan, on as many cores of the same powers (see its
    /// plan.json, and --slots, --idle and --core).
    #[arg(value_name = "HOST_DIR")]
    host: PathBuf,
}

fn read(dir: &Path) -> Result<Told, Failure> {
    let path = dir.join("summary.json");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::Usage(format!("{} cannot be read: {error}", path.display())))?;
    Told::read(&text).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

/// Prints the table; exits with 1 if something differs.
pub(crate) fn run(args: &Compare) -> Result<ExitCode, Failure> {
    let (simulated, host) = (read(&args.simulated)?, read(&args.host)?);
    let all = compare(&simulated, &host).map_err(|error: CompareError| Failure::Usage(error.to_string()))?;
    if all.is_empty() {
        return Err(Failure::Usage(
            "nothing to compare: both need the arm oracle, and another one in common".to_owned(),
        ));
    }
    say(&comparison_table(&all, &host));
    Ok(if all.iter().all(|one| one.agrees()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
