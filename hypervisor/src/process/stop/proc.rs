//! What `/proc` says about a process: parent, session, children, core time. Bounded, and trusted only to name candidates.

use std::fs::{self, File};
use std::io::Read;
use std::time::Duration;

use rustix::process::Pid;

/// Threads of a process that are asked for their children.
const MOST_THREADS: usize = 4_096;
/// Bytes of a file of `/proc` that are read.
const MOST_BYTES: u64 = 256 * 1024;

/// A line of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) state: u8,
    pub(super) parent: i32,
    pub(super) session: i32,
    /// Of descendants that it waited for, in ticks of 10 ms as a rule.
    waited_ticks: u64,
    /// When it began, in the same ticks since the machine did.
    began: u64,
}

impl Stat {
    pub(super) fn of(pid: Pid) -> Option<Self> {
        Self::parse(&read(&format!("/proc/{}/stat", pid.as_raw_nonzero()))?)
    }

    /// `4711 (any) name) S 1 4711 4711 …`: the name ends with the last parenthesis.
    fn parse(text: &[u8]) -> Option<Self> {
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            state: *fields.first()?.as_bytes().first()?,
            parent: fields.get(1)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            waited_ticks: number(13)?.saturating_add(number(14)?),
            began: number(19)?,
        })
    }

    pub(super) const fn is_stopped(self) -> bool {
        matches!(self.state, b'T' | b't')
    }

    pub(super) const fn is_uninterruptible(self) -> bool {
        self.state == b'D'
    }

    /// Neither stopped nor dead.
    pub(super) const fn runs(self) -> bool {
        !matches!(self.state, b'T' | b't' | b'Z' | b'X')
    }
}

/// When a process began: with its number, who it is.
pub(super) fn began(pid: Pid) -> Option<u64> {
    Stat::of(pid).map(|stat| stat.began)
}

/// Whether the kernel lists children.
pub(super) fn lists_children() -> bool {
    let tid = rustix::thread::gettid().as_raw_nonzero();
    fs::exists(format!("/proc/self/task/{tid}/children")).unwrap_or(false)
}

/// Every process, with what it says. Unlike the list of children, which may leave some out while others end
/// (`proc_pid_children(5)`), this one has every process that lives all the while.
pub(super) fn everybody() -> impl Iterator<Item = (Pid, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    pids.filter_map(|pid| Some((pid, Stat::of(pid)?)))
}

/// Children of all threads of a process.
pub(super) fn children(pid: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())) else { return Vec::new() };
    let mut found = Vec::new();
    for thread in threads.flatten().take(MOST_THREADS) {
        let text = thread.path().join("children").to_str().and_then(read).unwrap_or_default();
        let words = text.split(|byte| *byte == b' ').filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok());
        found.extend(words.filter_map(Pid::from_raw));
    }
    found
}

/// Whether `NAME=value` is in the environment that a process was started with.
pub(super) fn has_variable(pid: Pid, pair: &[u8]) -> bool {
    let text = read(&format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
    text.split(|byte| *byte == 0).any(|said| said == pair)
}

/// Core time of a process with all its threads, dead ones too, and of descendants that it waited for.
pub(super) fn core_time(pid: Pid) -> Option<Duration> {
    let waited = Stat::of(pid)?.waited_ticks;
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let waited = Duration::from_millis(waited.saturating_mul(1_000) / ticks);
    // The clock of another process (`clock_getcpuclockid(3)`): nanoseconds, unlike the steps of `/proc/PID/stat`, and with
    // the threads that have ended, unlike `/proc/PID/schedstat`.
    let clock = (!pid.as_raw_nonzero().get() << 3) | 2;
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure lives during the call; a clock that is none is refused.
    let answer = unsafe { libc::clock_gettime(clock, &raw mut now) };
    let own = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).ok()?);
    (answer == 0).then_some(own + waited)
}

fn read(path: &str) -> Option<Vec<u8>> {
    // Read at once as far as may be: a list that is read in pieces is not one list.
    let mut text = Vec::with_capacity(4096);
    File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_pretend_to_be_fields() {
        let line = b"42 (x) Z 1 1 (y)) T 7 8 9 0 -1 1 2 3 4 5 10 20 30 40 20 0 1 0 77";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat, Stat { state: b'T', parent: 7, session: 9, waited_ticks: 70, began: 77 });
        assert!(!stat.runs());
        for rubbish in [&b""[..], b"42", b"42 (x", b"42 (x)", b"42 (x) S a b c", b"\xff)\xff"] {
            assert_eq!(Stat::parse(rubbish), None);
        }
    }

    #[test]
    fn our_own_clock_is_read_like_anybodys() {
        let one = core_time(rustix::process::getpid()).unwrap();
        let mut rounds = 0u64;
        while core_time(rustix::process::getpid()).unwrap() == one {
            rounds += 1;
            assert!(rounds < 1_000_000_000);
        }
    }
}
