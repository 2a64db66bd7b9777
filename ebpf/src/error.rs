//! What can go wrong, and what to do about it.

use std::error::Error;
use std::fmt::Write;
use std::io;

/// Why erasure, or system calls, cannot be counted.
#[derive(Debug, thiserror::Error)]
pub enum EbpfError {
    /// The process may not load BPF programs.
    #[error(
        "the kernel lets this process load no BPF programs: {0}. Run as root, or \
         `sudo setcap cap_bpf,cap_perfmon+ep \"$(command -v maxwell)\"`; in a container, grant both capabilities and allow bpf(2)"
    )]
    Forbidden(io::Error),
    /// No way of attaching works.
    #[error(
        "the kernel takes none of the programs ({0}). It takes Linux 5.8 with CONFIG_BPF_SYSCALL and CONFIG_BPF_EVENTS"
    )]
    Unsupported(String),
    /// A cgroup is watched twice.
    #[error("cgroup {0} is watched already. Drop the other watch first")]
    AlreadyWatched(u64),
    /// More agents than there is room for.
    #[error("no room to watch cgroup {cgroup}: {source}. At most 65,536 can be watched at once")]
    NoRoom {
        /// Whose.
        cgroup: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The counters of an agent cannot be reached.
    #[error("the counters of cgroup {cgroup} cannot be {what}: {source}")]
    Counters {
        /// Whose.
        cgroup: u64,
        /// What was attempted.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The processors cannot be counted.
    #[error("/sys/devices/system/cpu/possible: {0}. Mount sysfs")]
    Processors(io::Error),
    /// Not a cgroup that tasks can be recognised by.
    #[error("{path}: {why}")]
    NotACgroup {
        /// Which folder.
        path: std::path::PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// The object in this program is not what the loader expects.
    #[error("the BPF object lacks {0}. This build is broken: `cargo xtask bpf` compares objects and sources")]
    Object(&'static str),
}

/// An error and all its causes in a line, without the verifier's pages.
pub(crate) fn in_a_line(error: &dyn Error) -> String {
    const LONGEST: usize = 300;
    let mut line = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let short: String = text.chars().take_while(|&c| c != '\n').take(LONGEST).collect();
        let separator = if line.is_empty() { "" } else { ": " };
        if !line.contains(&short) {
            write!(line, "{separator}{short}").expect("writing to a string");
        }
        next = error.source();
    }
    line
}

/// Whether it is permission that lacks, not a feature: `EPERM` somewhere among the causes. (The verifier says `EACCES`.)
pub(crate) fn forbidden(error: &(dyn Error + 'static)) -> Option<io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error)
            && code == libc::EPERM
        {
            return Some(io::Error::from_raw_os_error(code));
        }
        next = error.source();
    }
    None
}
