//! What agents say they did, and whether it is true.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use maxwell_agents::native::search::Batch;
use maxwell_agents::native::wake;

use super::RealError;
use crate::experiment::stats::Dice;

/// A line of an agent is shorter than this; what is longer is not read.
const MOST_LINE: usize = 16 << 10;
/// What is read at once. What is left is read at the next look.
const MOST_READ: u64 = 1 << 20;
/// Batches of an agent that are computed again.
const SAMPLES: u64 = 2;

/// The lines of one agent, as far as they were read.
#[derive(Debug)]
pub(super) struct Lines {
    file: File,
    path: PathBuf,
    rest: Vec<u8>,
    batches: Vec<Batch>,
    primes: u64,
    wakes: Vec<u64>,
}

impl Lines {
    /// An empty file for its output.
    pub(super) fn create(path: PathBuf) -> Result<Self, RealError> {
        File::create(&path).map_err(RealError::io("make", &path))?;
        let file = File::open(&path).map_err(RealError::io("open", &path))?;
        Ok(Self { file, path, rest: Vec::new(), batches: Vec::new(), primes: 0, wakes: Vec::new() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what is new. Whatever is no line of ours is passed over.
    pub(super) fn read(&mut self) -> Result<(), RealError> {
        (&self.file).take(MOST_READ).read_to_end(&mut self.rest).map_err(RealError::io("read", &self.path))?;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            if self.rest.len() > MOST_LINE {
                self.rest.clear();
            }
            return Ok(());
        };
        let rest = self.rest.split_off(end + 1);
        let text = String::from_utf8_lossy(&std::mem::replace(&mut self.rest, rest)).into_owned();
        for line in text.lines() {
            if let Ok(batch) = line.parse::<Batch>() {
                self.primes = self.primes.saturating_add(batch.count);
                self.batches.push(batch);
            } else {
                self.wakes.extend(wake::read(line));
            }
        }
        Ok(())
    }

    pub(super) fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// Primes claimed so far.
    pub(super) fn primes(&self) -> u64 {
        self.primes
    }

    /// How late its sleeper woke, in microseconds.
    pub(super) fn wakes(&self) -> &[u64] {
        &self.wakes
    }

    /// Checks that batches follow one another, so that no prime counts twice, and computes some again: with the sponsors'
    /// notion of primes, not with the agent's. Returns how many were computed.
    pub(super) fn verify(&self, dice: &mut Dice) -> Result<u64, String> {
        if let Some(pair) = self.batches.windows(2).find(|pair| pair[1].from != pair[0].to.saturating_add(1)) {
            return Err(format!("a batch that begins at {} follows one that ends at {}", pair[1].from, pair[0].to));
        }
        let samples = SAMPLES.min(self.batches.len() as u64);
        for _ in 0..samples {
            let at = usize::try_from(dice.below(self.batches.len() as u64)).unwrap_or(0);
            if !self.batches[at].holds(maxwell_core::bounty::is_prime) {
                return Err(format!("not true: {}", self.batches[at]));
            }
        }
        Ok(samples)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // It is in our folder, and of no use to anybody.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test without files fails")]
mod tests {
    use std::io::Write;

    use maxwell_agents::native::search;

    use super::*;

    #[test]
    fn lines_are_read_in_pieces_and_lies_are_found() {
        let path = std::env::temp_dir().join(format!("maxwell-lines-{}", std::process::id()));
        let mut lines = Lines::create(path.clone()).unwrap();
        let mut write = File::options().append(true).open(&path).unwrap();
        let first = search::batch(1 << 40, 3, |_| {});
        let second = search::batch(first.to + 1, 3, |_| {});
        write!(write, "{first}\nrubbish\nwake 5 7\nbatch 1 2").unwrap();
        lines.read().unwrap();
        assert_eq!((lines.primes(), lines.wakes()), (3, [5, 7].as_slice()));
        write!(write, " 3\n{second}\n").unwrap();
        lines.read().unwrap();
        assert_eq!(lines.primes(), 6);
        assert_eq!(lines.verify(&mut Dice::new(1)), Ok(2));
        // The same work twice.
        writeln!(write, "{second}").unwrap();
        lines.read().unwrap();
        assert!(lines.verify(&mut Dice::new(1)).unwrap_err().contains("follows"));
        drop(lines);
        assert!(!path.exists());
    }
}
