//! How much one peer may ask of the thread that serves all.

use std::time::{Duration, Instant};

/// Bounds for one agent. One that exceeds them is not read from until it is within them again: it waits, nothing is lost,
/// and nobody else notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Messages in a second, in the long run. A batch counts as many as it holds.
    pub messages_per_s: u32,
    /// Messages at once, after a silence.
    pub message_burst: u32,
    /// Bytes in a second, in the long run.
    pub bytes_per_s: u32,
    /// Bytes at once, after a silence.
    pub byte_burst: u32,
}

impl Default for Rate {
    /// Ten messages in a tick of 10 ms, and twenty ticks' worth at once; each of some 250 bytes.
    fn default() -> Self {
        Self { messages_per_s: 1_000, message_burst: 200, bytes_per_s: 256 * 1024, byte_burst: 128 * 1024 }
    }
}

/// A token bucket. It may go into debt by what was taken last: a read is not known in advance.
#[derive(Debug)]
pub(super) struct Bucket {
    /// In millionths of a token, so that a microsecond's share is whole.
    level: i64,
    full: i64,
    per_s: i64,
    filled: Instant,
}

const TOKEN: i64 = 1_000_000;

impl Bucket {
    pub(super) fn new(per_s: u32, burst: u32, now: Instant) -> Self {
        let full = i64::from(burst.max(1)) * TOKEN;
        Self { level: full, full, per_s: i64::from(per_s.max(1)), filled: now }
    }

    pub(super) fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled);
        let micros = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        // The part of a microsecond that is lost here is at most a ten-thousandth of a round.
        self.filled = now;
        self.level = self.level.saturating_add(micros.saturating_mul(self.per_s)).min(self.full);
    }

    pub(super) fn take(&mut self, tokens: usize) {
        self.level = self.level.saturating_sub(i64::try_from(tokens).unwrap_or(i64::MAX).saturating_mul(TOKEN));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.level < TOKEN
    }

    /// When there will be as much as a tenth of the burst, so that who exceeds it is served in handfuls, not one by one.
    pub(super) fn refilled(&self) -> Instant {
        let missing = (self.full / 10).max(TOKEN) - self.level;
        let micros = u64::try_from(missing / self.per_s + 1).unwrap_or(0);
        self.filled + Duration::from_micros(micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_long_run_no_more_passes_than_the_rate_and_one_burst() {
        let start = Instant::now();
        let (mut now, mut bucket, mut passed) = (start, Bucket::new(1_000, 200, start), 0u32);
        while now < start + Duration::from_secs(3) {
            bucket.refill(now);
            while !bucket.is_empty() {
                bucket.take(1);
                passed += 1;
            }
            assert!(bucket.refilled() > now);
            now = bucket.refilled();
        }
        assert!((3_150..=3_200).contains(&passed), "{passed}");
    }

    #[test]
    fn a_debt_is_worked_off_before_more_is_taken() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1_000, 10, start);
        bucket.take(1_010);
        bucket.refill(start + Duration::from_millis(999));
        assert!(bucket.is_empty());
        bucket.refill(start + Duration::from_millis(1_002));
        assert!(!bucket.is_empty());
        bucket.refill(start + Duration::from_secs(1_000_000));
        bucket.take(10);
        assert!(bucket.is_empty(), "no more than a burst is saved up");
    }
}
