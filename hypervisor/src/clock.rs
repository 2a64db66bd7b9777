//! Clocks that are exact at the scale of a tick.

use rustix::time::{ClockId, clock_gettime};

/// Core time that the calling thread has used, in nanoseconds. Exact: the kernel reads the running clock, not the last
/// scheduler tick.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

/// Core time that all threads of this process have used, in nanoseconds.
#[must_use]
pub fn process_cpu_ns() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let whole = u64::try_from(time.tv_sec).unwrap_or(0);
    whole * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_thread_is_charged_and_a_sleeping_one_is_not() {
        let start = thread_cpu_ns();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let slept = thread_cpu_ns() - start;
        assert!(slept < 10_000_000, "sleeping cost {slept} ns");
        let wall = std::time::Instant::now();
        while thread_cpu_ns() - start < 5_000_000 {
            assert!(wall.elapsed().as_secs() < 10, "the clock stands still");
        }
    }
}
