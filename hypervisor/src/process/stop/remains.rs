//! Processes whose Maxwell was killed, where no group held them: found by the token in their environment, and killed.
//!
//! `MAXWELL_CELL=4711-123456-0-0`: the Maxwell's pid and the moment it began (`starttime` of `/proc/PID/stat`, so that a reused
//! pid is told apart), the agent, and its life. A process that cleaned its environment is not found.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, RawDir, SeekFrom, openat, seek};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use super::{TOKEN, proc};
use crate::process::keeper::Remains;

/// The keeper gives up after this many rounds of 10 ms: what is not dead by then hangs in the kernel.
const MOST_ROUNDS: u32 = 1_000;
/// No more of an environment is read.
const MOST_BYTES: usize = 256 * 1024;
/// Read at once.
const BLOCK: usize = 4096;

/// What begins every token of this Maxwell.
pub(in crate::process) fn prefix() -> String {
    let us = getpid();
    format!("{}-{}-", us.as_raw_nonzero(), proc::began(us).unwrap_or(0))
}

/// The processes with a token of this Maxwell.
pub(in crate::process) struct Marked {
    proc: OwnedFd,
    /// With the zero byte that ends the variable before.
    pair: Vec<u8>,
}

impl Marked {
    pub(in crate::process) fn with(prefix: &str) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = openat(CWD, "/proc", flags, Mode::empty())?;
        Ok(Self { proc, pair: format!("\0{TOKEN}={prefix}").into_bytes() })
    }

    /// Kills whoever has the token now; returns how many.
    fn kill(&self) -> u32 {
        let mut killed = 0;
        let _ = seek(&self.proc, SeekFrom::Start(0));
        let mut space = [MaybeUninit::uninit(); BLOCK];
        let mut entries = RawDir::new(&self.proc, &mut space);
        while let Some(Ok(entry)) = entries.next() {
            let Some(pid) = number(entry.file_name()) else { continue };
            // Open before the look, so that no reused number is signalled.
            let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if self.has_token(entry.file_name()) && pidfd_send_signal(&pidfd, Signal::KILL).is_ok() {
                killed += 1;
            }
        }
        killed
    }

    fn has_token(&self, pid: &CStr) -> bool {
        let mut path = [0u8; 32];
        for (to, from) in path.iter_mut().zip(pid.to_bytes().iter().chain(b"/environ")) {
            *to = *from;
        }
        let Ok(path) = CStr::from_bytes_until_nul(&path) else { return false };
        let Ok(file) = openat(&self.proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else { return false };
        contains(&self.pair, |block| rustix::io::read(&file, block).unwrap_or(0))
    }
}

impl Remains for Marked {
    fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        [self.proc.as_raw_fd()].into_iter()
    }

    fn clean_up(&self) {
        for _ in 0..MOST_ROUNDS {
            // Again each round: what was being forked then has it too.
            if self.kill() == 0 {
                return;
            }
            let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 }));
        }
    }
}

/// Whether what is read contains `wanted`; what comes first is as if a zero byte came before it. Allocates nothing.
fn contains(wanted: &[u8], mut read: impl FnMut(&mut [u8]) -> usize) -> bool {
    let mut block = [0u8; BLOCK];
    let (mut kept, mut total) = (1, 0);
    while total < MOST_BYTES {
        let length = block.get_mut(kept..).map_or(0, &mut read);
        if length == 0 {
            return false;
        }
        let filled = kept + length;
        if block.get(..filled).is_some_and(|text| text.windows(wanted.len()).any(|here| here == wanted)) {
            return true;
        }
        // It may begin at the end of this block.
        kept = (wanted.len() - 1).min(filled);
        block.copy_within(filled - kept..filled, 0);
        total += length;
    }
    false
}

/// The pid that a name in `/proc` is.
fn number(name: &CStr) -> Option<Pid> {
    Pid::from_raw(name.to_str().ok()?.parse().ok()?)
}

/// A process of a Maxwell that is dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Its number.
    pub pid: Pid,
    /// The number that its Maxwell had.
    pub maxwell: u32,
}

/// Processes of Maxwells that are dead, which no group holds; those whose environment we may read. Changes nothing.
#[must_use]
pub fn strays() -> Vec<Stray> {
    strays_held().into_iter().map(|(stray, _)| stray).collect()
}

fn strays_held() -> Vec<(Stray, OwnedFd)> {
    // Elsewhere the numbers in a token mean other processes.
    let namespace = |pid: Pid| fs::read_link(format!("/proc/{}/ns/pid", pid.as_raw_nonzero())).ok();
    let Some(ours) = namespace(getpid()) else { return Vec::new() };
    let stray = |pid: Pid| {
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let maxwell = dead_owner(&environment(pid))?;
        (namespace(pid)? == ours).then_some((Stray { pid, maxwell }, pidfd))
    };
    proc::everybody().filter_map(|(pid, _)| stray(pid)).collect()
}

/// Kills them; returns those that it killed, when they are dead or the deadline has come.
pub fn sweep(deadline: Duration) -> Vec<Stray> {
    let (since, mut swept) = (Instant::now(), Vec::new());
    loop {
        let killed = strays_held().into_iter().filter(|(_, pidfd)| pidfd_send_signal(pidfd, Signal::KILL).is_ok());
        let new: Vec<Stray> = killed.map(|(stray, _)| stray).filter(|stray| !swept.contains(stray)).collect();
        let none = new.is_empty();
        swept.extend(new);
        if none || since.elapsed() >= deadline {
            return swept;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn environment(pid: Pid) -> Vec<u8> {
    let mut text = Vec::new();
    if let Ok(file) = File::open(format!("/proc/{}/environ", pid.as_raw_nonzero())) {
        let _ = file.take(MOST_BYTES as u64).read_to_end(&mut text);
    }
    text
}

/// The Maxwell that an environment has a token of, if that is dead. One may run under another.
fn dead_owner(environment: &[u8]) -> Option<u32> {
    let pairs = environment.split(|byte| *byte == 0);
    let tokens = pairs.filter_map(|pair| pair.strip_prefix(TOKEN.as_bytes())?.strip_prefix(b"="));
    let owners = tokens.filter_map(|token| {
        let mut numbers = std::str::from_utf8(token).ok()?.split('-');
        let (pid, began) = (numbers.next()?.parse().ok()?, numbers.next()?.parse::<u64>().ok()?);
        (numbers.count() == 2).then_some((pid, began))
    });
    let dead = |(pid, began): &(i32, u64)| Pid::from_raw(*pid).is_some_and(|pid| proc::began(pid) != Some(*began));
    owners.filter(dead).find_map(|(pid, _)| u32::try_from(pid).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In pieces of `step` bytes.
    fn found(text: &[u8], wanted: &[u8], step: usize) -> bool {
        let mut rest = text;
        contains(wanted, |block| {
            let length = step.min(rest.len()).min(block.len());
            block[..length].copy_from_slice(&rest[..length]);
            rest = &rest[length..];
            length
        })
    }

    #[test]
    fn a_variable_is_found_wherever_it_is_read_apart() {
        let wanted = b"\0MAXWELL_CELL=12-34-";
        for padding in [0, 1, 4_070, 4_075, 4_080, 4_094, 4_095, 4_096, 9_000] {
            let text = [&vec![b'x'; padding][..], b"\0MAXWELL_CELL=12-34-0-0\0A=b\0"].concat();
            for step in [1, 7, 4_096, 100_000] {
                assert!(found(&text, wanted, step), "{padding} {step}");
            }
        }
        assert!(found(b"MAXWELL_CELL=12-34-5-6", wanted, 9));
        for other in [
            &b""[..],
            b"XMAXWELL_CELL=12-34-0-0",
            b"A=MAXWELL_CELL=12-34-0-0",
            b"MAXWELL_CELL=12-3",
            b"MAXWELL_CELL=12-35-0-0",
        ] {
            assert!(!found(other, wanted, 9), "{other:?}");
        }
        assert!(!found(&vec![b'x'; 2 * MOST_BYTES], wanted, 4_096));
    }

    #[test]
    fn only_the_dead_leave_strays() {
        let us = getpid().as_raw_nonzero();
        let began = proc::began(getpid()).unwrap();
        let of = |text: String| dead_owner(text.as_bytes());
        assert_eq!(of(format!("A=b\0{TOKEN}={us}-{began}-0-0\0")), None);
        assert_eq!(of(format!("{TOKEN}={us}-{}-0-0", began + 1)), Some(us.get().unsigned_abs()));
        assert_eq!(
            of(format!("{TOKEN}={us}-{began}-0-0\0{TOKEN}={us}-7-1-2")),
            Some(us.get().unsigned_abs()),
            "one under the other"
        );
        for rubbish in
            ["", "x", "1", "1-2", "1-2-3", "1-2-3-4-5", "-1-2-3-4", "0-1-2-3", "a-b-c-d", "99999999999-1-2-3"]
        {
            assert_eq!(of(format!("{TOKEN}={rubbish}")), None, "{rubbish}");
        }
    }

    #[test]
    fn our_prefix_names_us() {
        assert!(prefix().starts_with(&format!("{}-", getpid().as_raw_nonzero())));
    }
}
