//! Running the binary, one machine at a time: two machines on the same cores would starve each other.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod exec;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Holds every other test of this program back until it is dropped.
pub fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A scenario in a file of its own.
pub fn scenario(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    /// Runs the binary with these arguments, in the workspace's root.
    pub fn maxwell(arguments: &[&str]) -> Self {
        command(arguments).output().unwrap().into()
    }

    /// Runs a scenario for some seconds, with the report on stdout.
    pub fn scenario(file: &tempfile::NamedTempFile, seconds: u32, more: &[&str]) -> Self {
        let _alone = alone();
        let path = file.path().display().to_string();
        let seconds = seconds.to_string();
        let mut arguments = vec!["run", &path, "--seconds", &seconds, "--json", "-"];
        arguments.extend(more);
        Self::maxwell(&arguments)
    }

    /// Runs a scenario as somebody would who reads the output.
    pub fn shown(file: &tempfile::NamedTempFile, seconds: u32) -> Self {
        let _alone = alone();
        Self::maxwell(&["run", &file.path().display().to_string(), "--seconds", &seconds.to_string()])
    }

    pub fn report(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maxwell"));
    command.args(arguments).current_dir(root());
    command
}

/// An agent's part of a report.
pub fn agent<'a>(report: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    report["agents"].as_array().unwrap().iter().find(|agent| agent["name"] == name).expect("the agent is reported")
}
