//! The counters of one source, open and read in a row.
//!
//! A bank is made once, off the tick, and then only read: descriptors stay open, and a read allocates nothing. It shows
//! raw counts; wraps are the meter's business. What it adds is how long ago each count last moved, and whether the source
//! is still to be trusted.

use std::time::Duration;

use maxwell_core::sensor::{Counter, CounterReading, Domain, Source};

use super::file::HostEnergy;
use super::finding::Item;
use super::perf::Group;
use super::root::{Kept, ReadError, Register};

/// A counter that heats the die and stands still for this long beyond its refresh has failed: a machine that can run this
/// uses energy.
const STILL_US: u64 = 1_000_000;
/// So many reads in a row must agree before a source is given up.
const READS: u32 = 3;
/// How often, and how long apart, two counters are compared to tell whether they are one.
const WATCHES: u32 = 3;
const WATCH: Duration = Duration::from_millis(1);
/// A source that is renewed more seldom is not waited for.
pub(crate) const SLOWEST_MS: u32 = 1_000;

/// Where a count is read.
#[derive(Debug)]
pub(crate) enum Port {
    /// A file that holds a decimal number.
    Number(Kept),
    /// A register of which only some bits count.
    Register { register: Register, mask: u64 },
    /// One event of a group that is read at once.
    Perf { group: usize, at: usize },
    /// The host's file.
    Host,
}

impl Port {
    /// The count now, for ports that stand for themselves.
    pub(crate) fn read(&self) -> Result<u64, ReadError> {
        match self {
            Self::Number(kept) => kept.number(),
            Self::Register { register, mask } => register.read().map(|word| word & mask),
            Self::Perf { .. } | Self::Host => Err(ReadError::Missing),
        }
    }

    /// Whether two ports show one counter: at every look `other` lies between what this one shows before and after.
    /// Two counters of their own do so by chance once in some hundred thousand looks.
    pub(crate) fn mirrors(&self, other: &Self) -> bool {
        (0..WATCHES).all(|watch| {
            if watch > 0 {
                std::thread::sleep(WATCH);
            }
            let (Ok(before), Ok(there), Ok(after)) = (self.read(), other.read(), self.read()) else { return false };
            // It may have wrapped in between.
            let between =
                if before <= after { (before..=after).contains(&there) } else { there >= before || there <= after };
            between && there != 0
        })
    }

    /// Whether the count is zero and stays so: a register that a hypervisor answers, or a domain that is not wired up.
    pub(crate) fn is_dead(&self) -> bool {
        self.read() == Ok(0) && {
            std::thread::sleep(2 * WATCH);
            self.read() == Ok(0)
        }
    }
}

/// A counter of a bank.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) counter: Counter,
    port: Port,
    last: Option<u64>,
    /// When it last moved.
    moved_us: u64,
    /// Reads since then that showed the same, and reads in a row that showed nothing.
    still: u32,
    unreadable: u32,
    error: ReadError,
}

impl Channel {
    pub(crate) fn new(counter: Counter, port: Port) -> Self {
        Self { counter, port, last: None, moved_us: 0, still: 0, unreadable: 0, error: ReadError::Missing }
    }

    /// It shows `shown` now; `age_us` is what the source itself knows about its age.
    fn note(&mut self, shown: Result<u64, ReadError>, age_us: Option<u64>, now_us: u64) -> CounterReading {
        match shown {
            Ok(raw) => {
                self.unreadable = 0;
                if self.last == Some(raw) {
                    self.still = self.still.saturating_add(1);
                } else {
                    (self.last, self.moved_us, self.still) = (Some(raw), now_us, 0);
                }
            }
            Err(error) => {
                // The clock of a counter that never showed anything starts when it was first asked.
                if self.last.is_none() && self.unreadable == 0 {
                    self.moved_us = now_us;
                }
                self.unreadable = self.unreadable.saturating_add(1);
                self.error = error;
            }
        }
        let age_us = age_us.unwrap_or_else(|| now_us.saturating_sub(self.moved_us));
        CounterReading { raw: shown.ok(), age_ms: u32::try_from(age_us / 1_000).unwrap_or(u32::MAX) }
    }

    fn failure(&self, now_us: u64, age_us: Option<u64>) -> Option<Failure> {
        if self.unreadable >= READS {
            return Some(Failure::Unreadable(self.error));
        }
        let still_us = age_us.unwrap_or_else(|| now_us.saturating_sub(self.moved_us));
        let limit = STILL_US + u64::from(self.counter.refresh_ms) * 1_000;
        (self.still >= READS && still_us > limit).then_some(Failure::StandsStill)
    }
}

/// Why a source was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// It cannot be read any more.
    #[error("{0}")]
    Unreadable(ReadError),
    /// Its count does not move any more.
    #[error("stands still")]
    StandsStill,
}

/// The counters of one source.
#[derive(Debug)]
pub(crate) struct Bank {
    pub(crate) source: Source,
    channels: Vec<Channel>,
    groups: Vec<Group>,
    host: Option<HostEnergy>,
}

impl Bank {
    pub(crate) fn new(source: Source, channels: Vec<Channel>) -> Self {
        Self { source, channels, groups: Vec::new(), host: None }
    }

    pub(crate) fn with_groups(mut self, groups: Vec<Group>) -> Self {
        self.groups = groups;
        self
    }

    pub(crate) fn with_host(mut self, host: HostEnergy) -> Self {
        self.host = Some(host);
        self
    }

    pub(crate) fn counters(&self) -> impl Iterator<Item = Counter> {
        self.channels.iter().map(|channel| channel.counter)
    }

    /// Whether accelerators are not yet in the sum: the board's counter, and a host's file, have them.
    #[cfg(feature = "nvml")]
    pub(crate) fn leaves_out_accelerators(&self) -> bool {
        self.channels.iter().all(|channel| !matches!(channel.counter.domain, Domain::Platform | Domain::Machine))
    }

    /// Reads all counters and appends what they show. Allocates nothing if `out` has room.
    pub(crate) fn read(&mut self, now_us: u64, out: &mut Vec<CounterReading>) {
        for group in &mut self.groups {
            group.read();
        }
        for channel in &mut self.channels {
            let (shown, age_us) = match (&channel.port, &mut self.host) {
                (Port::Perf { group, at }, _) => {
                    (self.groups.get(*group).map_or(Err(ReadError::Missing), |group| group.count(*at)), None)
                }
                (Port::Host, Some(host)) => {
                    let shown = host.count(now_us);
                    (shown, Some(host.age_us(now_us)))
                }
                (port, _) => (port.read(), None),
            };
            out.push(channel.note(shown, age_us, now_us));
        }
    }

    /// The counter that makes the sum unknown, and why. A failed memory counter is unknown by itself and harms no other.
    pub(crate) fn failure(&self, now_us: u64) -> Option<(Domain, Failure)> {
        let age_us = self.host.as_ref().map(|host| host.age_us(now_us));
        self.channels
            .iter()
            .filter(|channel| channel.counter.domain.heats_die())
            .find_map(|channel| Some((channel.counter.domain, channel.failure(now_us, age_us)?)))
    }

    /// Whether every counter that heats the die moves within `patience`, or within three renewals of a slow one. Sleeps:
    /// not for the tick.
    pub(crate) fn moves(&mut self, patience: Duration) -> bool {
        let slowest = self.channels.iter().map(|channel| channel.counter.refresh_ms.min(SLOWEST_MS)).max().unwrap_or(0);
        let patience = patience.max(Duration::from_millis(3 * u64::from(slowest)));
        let mut before = Vec::new();
        self.read(0, &mut before);
        let mut now = Vec::new();
        for _ in 0..(patience.as_millis() / WATCH.as_millis()).max(1) {
            std::thread::sleep(WATCH);
            now.clear();
            self.read(0, &mut now);
            let moved = self.channels.iter().zip(before.iter().zip(&now)).all(|(channel, (before, now))| {
                !channel.counter.domain.heats_die() || (now.raw.is_some() && now.raw != before.raw)
            });
            if moved {
                return true;
            }
        }
        false
    }
}

/// Takes dead counters off candidates that were kept: memory is left out, a package is an obstacle, since the sum would
/// miss a socket.
pub(crate) fn dead<T>(
    kept: &mut Vec<(Domain, super::dedupe::Candidate<T>)>,
    items: &mut Vec<Item>,
    is_dead: impl Fn(&T) -> bool,
) -> Option<String> {
    let mut dead_package = None;
    kept.retain(|(domain, candidate)| {
        if !is_dead(&candidate.port) {
            return true;
        }
        if domain.heats_die() {
            dead_package = Some(candidate.path.clone());
            return true;
        }
        items.push(Item::left_out(&candidate.name, &candidate.path, "shows zero all the time"));
        false
    });
    dead_package
}
