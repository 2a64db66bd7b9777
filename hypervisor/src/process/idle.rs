//! When an agent is idle, and for how long it is left alone then.
//!
//! ```text
//!   turn ──► sleeps through the window? ──► a thread is runnable? ──yes──► it waits for its core behind another program: goes on
//!                                                    │ no
//!                                                    └──► idle: the slot is sold on, and it rests 10, 20, 40 ms before the next look
//! ```
//!
//! Only where others stand by. Core time alone cannot tell who sleeps from who waits: neither uses any. A thread that waits for a
//! core is runnable, one that sleeps is not (`proc(5)`, the state in `/proc/PID/task/TID/stat`).

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// The first window, and the longest: who used more than nothing is looked at after twice as long.
const WINDOWS: (Duration, Duration) = (Duration::from_micros(300), Duration::from_millis(4));
/// What the kernel does in an agent's name to thaw it, at most.
const THAWED: Duration = Duration::from_micros(50);
/// The first rest, and the longest. It takes that long until an agent is seen to have woken.
const RESTS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(40));
/// After this many turns in which it was busy an agent is not thought to fall asleep in the next.
const BUSY: u8 = 5;

/// What an agent did in its last turns.
#[derive(Debug, Default)]
pub(super) struct Habits {
    /// In how many of them in a row it used half of what it bought.
    busy_turns: u8,
    /// It slept in the last: for how long it is left alone now, and until when.
    rests: Option<(Duration, Instant)>,
}

impl Habits {
    /// Whether it is left alone yet.
    pub(super) fn rests(&self) -> bool {
        self.rests.is_some_and(|(_, until)| Instant::now() < until)
    }

    /// A turn is over in which so many cores were busy.
    pub(super) fn observe(&mut self, busy: f64, idle: bool) {
        self.busy_turns = if busy > 0.5 { self.busy_turns.saturating_add(1) } else { 0 };
        self.rests = idle.then(|| {
            let rest = self.rests.map_or(RESTS.0, |(rest, _)| (rest * 2).min(RESTS.1));
            (rest, Instant::now() + rest)
        });
    }

    /// How a turn that begins now is watched. Who was busy is given the benefit of the doubt, and may sleep through one.
    pub(super) fn watch(&self) -> Watch {
        let window = match self.busy_turns {
            0 => WINDOWS.0,
            1..BUSY => WINDOWS.1,
            BUSY.. => Duration::MAX,
        };
        Watch { since: Instant::now(), used_ns: 0, window }
    }
}

/// Whether an agent does next to nothing in its turn: less than a fiftieth of a core, or no more than being thawed costs, over a
/// window that grows while it does something.
pub(super) struct Watch {
    since: Instant,
    used_ns: u64,
    window: Duration,
}

impl Watch {
    /// After how long a look can tell.
    pub(super) const fn window(&self) -> Duration {
        self.window
    }

    /// It has used this much since its turn began.
    pub(super) fn is_idle(&mut self, used_ns: u64) -> bool {
        let passed = self.since.elapsed();
        if passed < self.window {
            return false;
        }
        let used = Duration::from_nanos(used_ns.saturating_sub(self.used_ns));
        (self.since, self.used_ns) = (self.since + passed, used_ns);
        self.window = (self.window * 2).min(WINDOWS.1);
        used < (passed / 50).max(THAWED)
    }
}

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
    fn a_sleeper_rests_for_longer_each_time_and_work_ends_that() {
        let mut habits = Habits::default();
        assert!(!habits.rests());
        let mut rests = Vec::new();
        for _ in 0..4 {
            habits.observe(0.0, true);
            rests.push(habits.rests.unwrap().0.as_millis());
        }
        assert_eq!(rests, [10, 20, 40, 40]);
        habits.observe(0.9, false);
        assert!(!habits.rests());
    }

    #[test]
    fn whoever_was_busy_is_not_looked_at_for_a_while() {
        let mut habits = Habits::default();
        let windows: Vec<Duration> = (0..7)
            .map(|_| {
                let window = habits.watch().window();
                habits.observe(0.9, false);
                window
            })
            .collect();
        assert_eq!((windows[0], windows[1], windows[4]), (WINDOWS.0, WINDOWS.1, WINDOWS.1));
        assert_eq!(windows[5..], [Duration::MAX; 2]);
        habits.observe(0.1, false);
        assert_eq!(habits.watch().window(), WINDOWS.0);
    }

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
