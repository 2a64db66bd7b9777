//! How busy the rest of the machine is.
//!
//! `/proc/stat` counts in steps of 10 ms, useless for one tick; over a fifth of a second it is good to a few percent.
//! What this process itself used is known exactly from its own CPU clock and taken off.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How often `/proc/stat` is read.
const WINDOW: Duration = Duration::from_millis(200);

/// The core time of everything that is not this process.
#[derive(Debug)]
pub struct OtherLoad {
    /// Nanoseconds in one unit of `/proc/stat`.
    unit_ns: u64,
    last: Option<(Instant, u64, u64)>,
    cores: f64,
}

impl Default for OtherLoad {
    fn default() -> Self {
        Self { unit_ns: 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1), last: None, cores: 0.0 }
    }
}

impl OtherLoad {
    /// Busy cores, on average over the last window, without this process and without other processes whose core time is
    /// known: `known_ns` in all so far. Reads `/proc/stat` at most five times a second; where that cannot be read, everything
    /// else counts as idle.
    pub fn busy_cores(&mut self, known_ns: u64) -> f64 {
        let now = Instant::now();
        if self.last.is_some_and(|(at, ..)| now - at < WINDOW) {
            return self.cores;
        }
        let Some(busy) = std::fs::read_to_string("/proc/stat").ok().and_then(|text| busy_units(&text)) else {
            return self.cores;
        };
        let own = own_ns().saturating_add(known_ns);
        if let Some((at, busy_before, own_before)) = self.last.replace((now, busy, own)) {
            let busy_ns = busy.saturating_sub(busy_before).saturating_mul(self.unit_ns);
            let others = busy_ns.saturating_sub(own.saturating_sub(own_before));
            self.cores = others as f64 / (now - at).as_nanos().max(1) as f64;
        }
        self.cores
    }
}

fn own_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Busy time of all cores: user, nice, system, irq and softirq. Time stolen by a hypervisor heats another's ledger.
fn busy_units(stat: &str) -> Option<u64> {
    let line = stat.lines().find(|line| line.starts_with("cpu "))?;
    let fields: Vec<u64> = line.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    [0, 1, 2, 5, 6].into_iter().map(|at| fields.get(at).copied()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_leaves_out_idle_iowait_and_steal() {
        let stat = "cpu  100 20 30 4000 500 6 7 80 9 10\ncpu0 1 2 3\n";
        assert_eq!(busy_units(stat), Some(100 + 20 + 30 + 6 + 7));
        assert_eq!(busy_units("intr 1 2 3"), None);
        assert_eq!(busy_units("cpu  1 2"), None, "too short to be true");
    }

    #[test]
    fn it_is_never_negative_and_never_beyond_the_machine() {
        let mut load = OtherLoad::default();
        load.busy_cores(0);
        std::thread::sleep(WINDOW + Duration::from_millis(10));
        let cores = load.busy_cores(0);
        let most = std::thread::available_parallelism().unwrap().get() as f64;
        assert!((0.0..=most * 1.2).contains(&cores), "{cores}");
    }
}
