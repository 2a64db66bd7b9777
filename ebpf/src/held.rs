//! What rent is paid on: memory that processes hold.
//!
//! `/proc/PID/status` gives the kernel's own counters, `RssAnon` and `RssShmem`, without walking a page table. Memory that
//! several processes share is counted for each of them: a tree of forks that never writes is charged more than it holds.
//! (Where the memory controller is at hand, `memory.stat` of the agent's cgroup has the sum without that error.)

use std::fs::File;
use std::io::Read;

/// Reads what processes hold. Keeps its buffer; opening a file of `/proc` allocates no more than its path.
#[derive(Debug)]
pub struct Held {
    buffer: Box<[u8]>,
}

/// A `status` is some 1,500 bytes; what is sought stands in the first half.
const LONGEST: usize = 4096;

impl Default for Held {
    fn default() -> Self {
        Self { buffer: vec![0; LONGEST].into() }
    }
}

impl Held {
    /// Bytes of resident memory that is anonymous or shared, over all of `pids`. A process that is gone holds nothing.
    pub fn bytes(&mut self, pids: &[u32]) -> u64 {
        pids.iter().fold(0, |sum, &pid| sum.saturating_add(self.of(pid).unwrap_or(0)))
    }

    fn of(&mut self, pid: u32) -> Option<u64> {
        let text = read(&format!("/proc/{pid}/status"), &mut self.buffer)?;
        Some(kilobytes(text, "RssAnon:").saturating_add(kilobytes(text, "RssShmem:")).saturating_mul(1024))
    }
}

/// The beginning of a file, as much of it as the buffer holds.
pub(crate) fn read<'a>(path: &str, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut file = File::open(path).ok()?;
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(&buffer[..length])
}

/// The number after `label` at the beginning of a line; zero if there is none. Bytes, not text: a process may give itself a
/// name that is none, and would pay no rent if that made the file unreadable.
pub(crate) fn kilobytes(file: &[u8], label: &str) -> u64 {
    let Some(rest) = file.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(label.as_bytes())) else {
        return 0;
    };
    let digits = rest.iter().skip_while(|byte| byte.is_ascii_whitespace()).take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_something_and_a_dead_one_nothing() {
        let mut held = Held::default();
        assert!(held.bytes(&[std::process::id()]) > 64 * 1024);
        assert_eq!(held.bytes(&[u32::MAX]), 0);
    }

    #[test]
    fn lines_are_found_by_their_whole_label() {
        let status = b"Name:\tRssAnon:\xff\nVmRSS:\t  9 kB\nRssAnon:\t     52 kB\nRssShmem:\t x kB\n";
        assert_eq!(kilobytes(status, "RssAnon:"), 52);
        assert_eq!(kilobytes(status, "RssShmem:"), 0);
        assert_eq!(kilobytes(status, "RssFile:"), 0);
    }
}
