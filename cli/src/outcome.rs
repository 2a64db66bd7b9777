//! How a command can end.

use std::path::PathBuf;

use maxwell_core::thermal::RelayError;
use maxwell_daemon::machine::MachineError;
use maxwell_daemon::recording::RecordingError;
use maxwell_daemon::scenario::ScenarioError;
use maxwell_physics::fit::{FitError, TraceError};
use maxwell_physics::profile::ProfileError;

/// Stopped by Ctrl-C: 128 + SIGINT, as shells count it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Machine(MachineError),
    Scenario(ScenarioError),
    Recording(RecordingError),
    Trace(TraceError),
    Fit(FitError),
    Profile(ProfileError),
    Exists {
        path: PathBuf,
    },
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    Signals(std::io::Error),
    Tune(RelayError),
    /// `exec` could not run its command.
    Exec(String),
    /// An instance could not be asked.
    Control(String),
    /// An instance refused.
    Refused(String),
    /// An experiment cannot be run on this host.
    Experiment(String),
    /// What was asked for does not exist; the text says what does.
    Usage(String),
}

impl Failure {
    /// 2 for what the user wrote, 1 for everything else.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Scenario(_)
            | Self::Usage(_)
            | Self::Trace(_)
            | Self::Fit(_)
            | Self::Exists { .. }
            | Self::Machine(MachineError::Scenario(_) | MachineError::Sensor(_))
            | Self::Recording(RecordingError::Read { .. } | RecordingError::Damaged { .. }) => 2,
            Self::Exec(_) => crate::exec::OWN_FAILURE,
            Self::Control(_) | Self::Refused(_) | Self::Experiment(_) => 1,
            Self::Profile(ProfileError::Unwritable { .. }) => 1,
            Self::Profile(_) => 2,
            Self::Machine(_) | Self::Recording(_) | Self::Write { .. } | Self::Signals(_) | Self::Tune(_) => 1,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Machine(error) => error.fmt(f),
            Self::Scenario(error) => error.fmt(f),
            Self::Recording(error) => error.fmt(f),
            Self::Trace(error) => error.fmt(f),
            Self::Fit(error) => error.fmt(f),
            Self::Profile(error) => error.fmt(f),
            Self::Exists { path } => {
                write!(f, "{} is there already: give another name, or --force to replace it", path.display())
            }
            Self::Write { path, source } => write!(f, "{} could not be written: {source}", path.display()),
            Self::Signals(error) => write!(f, "Ctrl-C cannot be handled: {error}"),
            Self::Tune(error) => error.fmt(f),
            Self::Usage(text)
            | Self::Exec(text)
            | Self::Control(text)
            | Self::Refused(text)
            | Self::Experiment(text) => f.write_str(text),
        }
    }
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Self {
        Self::Machine(error)
    }
}

impl From<ScenarioError> for Failure {
    fn from(error: ScenarioError) -> Self {
        Self::Scenario(error)
    }
}

impl From<RecordingError> for Failure {
    fn from(error: RecordingError) -> Self {
        Self::Recording(error)
    }
}

impl From<TraceError> for Failure {
    fn from(error: TraceError) -> Self {
        Self::Trace(error)
    }
}

impl From<FitError> for Failure {
    fn from(error: FitError) -> Self {
        Self::Fit(error)
    }
}

impl From<ProfileError> for Failure {
    fn from(error: ProfileError) -> Self {
        Self::Profile(error)
    }
}
