//! A subtree to test in, and hostile programs to start in it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use maxwell_hypervisor::process::cgroup::{Cgroup, Hierarchy, Limits, Subtree};
use maxwell_hypervisor::process::child::{Child, Ended};
use maxwell_hypervisor::process::sandbox::{Sandbox, Surroundings};
use maxwell_hypervisor::process::spawn::{Program, SpawnError, spawn};

/// Tests that count descriptors write; all others read.
pub(crate) static ALONE: RwLock<()> = RwLock::new(());

/// Enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Arena {
    pub(crate) hierarchy: Hierarchy,
    pub(crate) subtree: Subtree,
    _together: Option<RwLockReadGuard<'static, ()>>,
}

impl Arena {
    /// None, with a word of explanation, where groups cannot be made.
    pub(crate) fn new() -> Option<Self> {
        let together = ALONE.read().unwrap_or_else(PoisonError::into_inner);
        Some(Self { _together: Some(together), ..Self::alone()? })
    }

    /// For tests that hold the lock themselves.
    pub(crate) fn alone() -> Option<Self> {
        match Hierarchy::find(Path::new("/")) {
            Ok(hierarchy) => {
                let subtree = Subtree::new(&hierarchy).unwrap();
                Some(Self { hierarchy, subtree, _together: None })
            }
            Err(error) => {
                println!("skipped: {error}");
                None
            }
        }
    }

    pub(crate) fn group(&self, name: &str) -> Cgroup {
        self.subtree.group(name, &Limits::default()).unwrap()
    }
}

/// The program that misbehaves.
pub(crate) fn hostile() -> PathBuf {
    let path = std::env::current_exe().unwrap().parent().unwrap().with_file_name("examples").join("hostile");
    assert!(path.exists(), "{} is missing: `cargo build -p maxwell-hypervisor --example hostile`", path.display());
    path
}

pub(crate) fn run_hostile(words: &[&str]) -> Program {
    let mut argv = vec![OsString::from(hostile())];
    argv.extend(words.iter().map(OsString::from));
    command(argv)
}

pub(crate) fn run(words: &[&str]) -> Program {
    command(words.iter().map(OsString::from).collect())
}

fn command(argv: Vec<OsString>) -> Program {
    let environment = std::env::vars_os().chain([("TMPDIR".into(), "/var/tmp".into())]).collect();
    Program { argv, environment, directory: Some("/tmp".into()), ..Program::default() }
}

/// A child with its output.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) output: BufReader<std::fs::File>,
}

/// Starts it with its output and its errors in a pipe.
pub(crate) fn start(program: &Program, sandbox: &Sandbox, group: Option<&Cgroup>) -> Result<Running, SpawnError> {
    let (reader, writer) = std::io::pipe().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let streams = [null.as_fd(), writer.as_fd(), writer.as_fd()];
    let forbidden = [PathBuf::from("/sys/fs/cgroup")];
    let around = Surroundings {
        directory: program.directory.as_deref().unwrap(),
        temporary: Path::new("/var/tmp"),
        forbidden: &forbidden,
        streams: &streams,
    };
    let sandbox = sandbox.prepare(&around).unwrap();
    let child = spawn(program, &[(0, streams[0]), (1, streams[1]), (2, streams[2])], &sandbox, group)?;
    Ok(Running { child, output: BufReader::new(OwnedFd::from(reader).into()) })
}

impl Running {
    /// Its next line; empty at the end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// All it says, and how it ends.
    pub(crate) fn finish(mut self) -> (String, Ended) {
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        let ended = self.child.wait_timeout(PATIENCE).unwrap().expect("it ends");
        (text.trim_end().to_owned(), ended)
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, holds: impl Fn() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Core time of a group's tasks so far, in microseconds, as the kernel accounts it.
pub(crate) fn usage_us(group: &Cgroup) -> u64 {
    let text = std::fs::read_to_string(group.path().join("cpu.stat")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap().parse().unwrap()
}
