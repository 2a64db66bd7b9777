//! A cgroup for a test, and how to run something in it.

#![allow(dead_code, clippy::unwrap_used, reason = "each test program uses a part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A group of version 2 that is emptied and removed when this is dropped, also when a test panics.
pub(crate) struct Group {
    folder: PathBuf,
}

static MADE: AtomicU32 = AtomicU32::new(0);

impl Group {
    /// A new group, or nothing where none can be made.
    pub(crate) fn new(what: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let mount = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ');
            let (_, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| place.to_owned())
        })?;
        // In a container the mount may show only a part of the tree; what lies above is unknown then.
        maxwell_ebpf::cgroup::level(Path::new(&mount)).ok()?;
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(&mount).join(format!("maxwell-test-{what}-{}-{made}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        Some(Self { folder })
    }

    /// A group inside this one; goes with it.
    pub(crate) fn child(&self, name: &str) -> Self {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).unwrap();
        Self { folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn id(&self) -> u64 {
        maxwell_ebpf::cgroup::id(&self.folder).unwrap()
    }

    pub(crate) fn level(&self) -> u32 {
        maxwell_ebpf::cgroup::level(&self.folder).unwrap()
    }

    /// A command that runs in the group from its first instruction. A shell joins it and becomes the command: a fork of this
    /// process would be charged for what this process drops before the fork has become another program.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo 0 > \"$0/cgroup.procs\" && exec \"$@\""]).arg(&self.folder).arg(program);
        command
    }

    /// Ends everything in the group at once.
    pub(crate) fn kill(&self) {
        let _ = fs::write(self.folder.join("cgroup.kill"), "1");
        let deadline = Instant::now() + Duration::from_secs(10);
        let populated =
            || fs::read_to_string(self.folder.join("cgroup.events")).is_ok_and(|events| events.contains("populated 1"));
        while populated() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        let deadline = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.folder).is_err() && self.folder.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
