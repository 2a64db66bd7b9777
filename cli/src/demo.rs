//! `maxwell demo`.

use std::path::Path;
use std::process::ExitCode;

use maxwell_daemon::scenario::Scenario;

use crate::Output;
use crate::outcome::Failure;

/// The scenario, embedded, so that the binary alone is enough.
const DEMO: &str = include_str!("../../scenarios/demo.toml");

pub(crate) fn demo(seconds: u32, output: &Output) -> Result<ExitCode, Failure> {
    let path = Path::new("scenarios/demo.toml");
    let scenario = Scenario::parse(path, DEMO)?;
    crate::run::scenario(path, scenario, seconds, None, output)
}
