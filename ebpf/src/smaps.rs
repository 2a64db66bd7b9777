//! The estimate for machines where BPF is forbidden.
//!
//! From time to time the memory of an agent's processes is looked at, each process's share of what it shares with others
//! (`Pss_Anon`, `Pss_Shmem` and `SwapPss` of `/proc/PID/smaps_rollup`). Where the sum fell, the difference was erased. What
//! was released and taken anew between two looks is missed, so an agent that works in a loop over fresh memory pays for
//! the last round only; and the kernel walks the page tables for each look, which costs the more the more is held. An
//! estimate, and labelled so. Takes Linux 5.9, and the right to look into the processes (the same user).

use crate::held::{kilobytes, read};

/// Estimates what an agent erases.
#[derive(Debug)]
pub struct Smaps {
    buffer: Box<[u8]>,
    last: u64,
    erased: u64,
}

/// A rollup is some 800 bytes.
const LONGEST: usize = 4096;

impl Default for Smaps {
    fn default() -> Self {
        Self { buffer: vec![0; LONGEST].into(), last: 0, erased: 0 }
    }
}

impl Smaps {
    /// What it is called where people read it.
    pub const NAME: &str = "estimated from smaps (misses what is released and taken anew between two looks)";

    /// Looks at an agent's processes: the bytes that it erased since the first look, at least. A process that is gone holds
    /// nothing, so its memory was erased; leave no process out that is still there.
    pub fn look(&mut self, pids: &[u32]) -> u64 {
        let held = pids.iter().fold(0u64, |sum, &pid| sum.saturating_add(self.of(pid).unwrap_or(0)));
        self.observe(held)
    }

    fn observe(&mut self, held: u64) -> u64 {
        self.erased = self.erased.saturating_add(self.last.saturating_sub(held));
        self.last = held;
        self.erased
    }

    fn of(&mut self, pid: u32) -> Option<u64> {
        let text = read(&format!("/proc/{pid}/smaps_rollup"), &mut self.buffer)?;
        let labels = ["Pss_Anon:", "Pss_Shmem:", "SwapPss:"];
        Some(
            labels.into_iter().fold(0u64, |sum, label| sum.saturating_add(kilobytes(text, label))).saturating_mul(1024),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_falls_is_erased() {
        let mut smaps = Smaps::default();
        let seen = [100, 80, 80, 200, 0].map(|held| smaps.observe(held));
        assert_eq!(seen, [0, 20, 20, 20, 220]);
    }

    #[test]
    fn memory_of_this_process_is_seen_to_go() {
        const SIZE: usize = 64 << 20;
        let mut smaps = Smaps::default();
        let me = [std::process::id()];
        let memory = vec![1u8; SIZE];
        std::hint::black_box(&memory);
        let before = smaps.look(&me);
        drop(memory);
        let erased = smaps.look(&me) - before;
        // Other tests of this process come and go beside it.
        assert!(erased > 48 << 20, "erased {erased}");
    }
}
