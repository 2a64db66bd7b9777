//! The search: primes in batches, in order, with nothing left out.
//!
//! A batch says from where to where it looked, how many primes are there, and a digest of them. Whoever doubts it looks
//! there too: the same range gives the same digest, and no other way to it is known than to find the primes.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::primes::is_prime;

/// Each worker has this many numbers for itself: more than it can look through in a day, at some ten million a second.
pub const RANGE: u64 = 1 << 40;
/// Workers with numbers of their own, and seeds.
const WORKERS: u64 = 1 << 12;
const SEEDS: u64 = 1 << 9;
/// Below this no worker starts: 62-bit numbers, of which one in 43 is prime.
pub const FLOOR: u64 = 1 << 61;

/// The first number of worker `worker` of a run with this seed.
#[must_use]
pub const fn start(seed: u64, worker: u64) -> u64 {
    // All of them side by side fill the 62-bit numbers, from 2⁶¹ to 2⁶². Whoever shares a range with somebody does no work of its own.
    FLOOR + (seed % SEEDS * WORKERS + worker % WORKERS) * RANGE
}

/// Some primes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The first number that was looked at.
    pub from: u64,
    /// The last: a prime.
    pub to: u64,
    /// Primes from the first to the last.
    pub count: u64,
    /// The first eight bytes of SHA-256 over them, each as eight little-endian bytes.
    pub digest: u64,
}

/// Adds primes up to a digest.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    count: u64,
    hash: Sha256,
}

impl Tally {
    /// One more prime.
    pub fn add(&mut self, prime: u64) {
        self.count += 1;
        self.hash.update(prime.to_le_bytes());
    }

    /// The batch of them.
    #[must_use]
    pub fn batch(self, from: u64, to: u64) -> Batch {
        let hash = self.hash.finalize();
        let (first, _) = hash.split_first_chunk().expect("32 bytes");
        Batch { from, to, count: self.count, digest: u64::from_le_bytes(*first) }
    }
}

/// Looks from `from` on until it has `count` primes, and shows each to `seen`.
pub fn batch(from: u64, count: u64, mut seen: impl FnMut(u64)) -> Batch {
    let (mut tally, mut at) = (Tally::default(), from);
    loop {
        if is_prime(at) {
            tally.add(at);
            seen(at);
            if tally.count >= count {
                return tally.batch(from, at);
            }
        }
        at += 1;
    }
}

impl Batch {
    /// Whether it is true, by somebody else's notion of primes.
    #[must_use]
    pub fn holds(&self, is_prime: impl Fn(u64) -> bool) -> bool {
        // A line from outside must not keep us for ever: a batch covers some hundred thousand numbers.
        if self.to < self.from || self.to - self.from > 1 << 24 || !is_prime(self.to) {
            return false;
        }
        let mut tally = Tally::default();
        (self.from..=self.to).filter(|n| is_prime(*n)).for_each(|prime| tally.add(prime));
        tally.batch(self.from, self.to) == *self
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch {} {} {} {:016x}", self.from, self.to, self.count, self.digest)
    }
}

/// A line that is no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoBatch;

impl FromStr for Batch {
    type Err = NoBatch;

    fn from_str(line: &str) -> Result<Self, NoBatch> {
        let mut words = line.split(' ');
        let mut next = || words.next().ok_or(NoBatch);
        if next()? != "batch" {
            return Err(NoBatch);
        }
        let mut number = || next()?.parse().map_err(|_| NoBatch);
        let (from, to, count) = (number()?, number()?, number()?);
        let digest = u64::from_str_radix(next()?, 16).map_err(|_| NoBatch)?;
        if next().is_ok() { Err(NoBatch) } else { Ok(Self { from, to, count, digest }) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot read its own line fails")]
mod tests {
    use super::*;

    #[test]
    fn a_batch_holds_and_a_changed_one_does_not() {
        let mut primes = Vec::new();
        let batch = batch(start(7, 3), 50, |prime| primes.push(prime));
        assert_eq!((batch.count, primes.len(), primes.last().copied()), (50, 50, Some(batch.to)));
        assert!(batch.holds(maxwell_core::bounty::is_prime));
        let wrong = [
            Batch { from: batch.from - 1_000, ..batch },
            Batch { to: batch.to + 1, ..batch },
            Batch { count: 51, ..batch },
            Batch { digest: batch.digest ^ 1, ..batch },
            Batch { to: u64::MAX, ..batch },
        ];
        assert!(wrong.iter().all(|batch| !batch.holds(maxwell_core::bounty::is_prime)));
    }

    #[test]
    fn a_batch_survives_its_line() {
        let batch = batch(1, 10, |_| {});
        assert_eq!(batch.to_string().parse::<Batch>().unwrap(), batch);
        for line in ["", "batch", "batch 1 2 3", "batch 1 2 3 zz", "batch 1 2 3 4 5", "wake 1 2"] {
            assert!(line.parse::<Batch>().is_err(), "{line}");
        }
    }

    #[test]
    fn workers_do_not_meet() {
        let starts: std::collections::BTreeSet<u64> =
            (0..8).flat_map(|seed| (0..WORKERS).map(move |worker| start(seed, worker))).collect();
        assert_eq!(starts.len() as u64, 8 * WORKERS, "an experiment has up to 3,000 agents");
        assert_eq!(start(SEEDS - 1, WORKERS - 1) + RANGE, 1 << 62);
        assert!(start(u64::MAX, u64::MAX) < 1 << 62);
    }
}
