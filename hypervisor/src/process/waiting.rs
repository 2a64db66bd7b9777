//! Whether an agent that uses nothing wants nothing, or waits for its core behind another program of the host.
//!
//! Core time alone cannot tell: neither uses any. A thread that waits for a core is runnable, one that sleeps is not
//! (`proc(5)`, the state in `/proc/PID/task/TID/stat`).

use std::fs;

use rustix::process::Pid;

/// The most threads that are asked. Of so many some will be runnable if the agent is.
pub(super) const MOST_ASKED: usize = 64;

/// Whether a thread of these processes is runnable. Some microseconds a thread.
pub(super) fn is_any_runnable(pids: &[Pid]) -> bool {
    let tasks = pids.iter().filter_map(|pid| fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).ok());
    tasks.flatten().flatten().take(MOST_ASKED).any(|task| {
        let text = fs::read(task.path().join("stat")).unwrap_or_default();
        state(&text) == Some(b'R')
    })
}

/// `4711 (any) name) S 1 …`: the name ends with the last parenthesis.
fn state(stat: &[u8]) -> Option<u8> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end + 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_reads_this_is_runnable() {
        assert!(is_any_runnable(&[rustix::process::getpid()]));
        assert!(!is_any_runnable(&[]));
    }

    #[test]
    fn a_name_may_hold_anything() {
        assert_eq!(state(b"12 (a) R 1) S 1 12"), Some(b'S'));
        assert_eq!(state(b"12 (x) R"), Some(b'R'));
        assert_eq!(state(b"12 (x)"), None);
        assert_eq!(state(b""), None);
    }
}
