//! The eye on a run: ten times a second, the same for every arm.

use std::time::{Duration, Instant};

use maxwell_hypervisor::clock;
use maxwell_physics::TaskClock;

use super::RealError;
use super::meter::Meter;
use super::output::Lines;
use super::roster::{Member, Role};

/// How often.
pub(super) const EVERY: Duration = Duration::from_millis(100);

/// What was seen at one look. Powers and cores are means since the look before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RawSample {
    /// Since the start.
    pub seconds: f64,
    /// Energy of the machine since the look before.
    pub joules: f64,
    /// Cores that scientists and other honest agents used.
    pub honest_cores: f64,
    /// Cores that leeches used.
    pub leech_cores: f64,
    /// Cores that the scheduler used.
    pub own_cores: f64,
    /// Cores that everything else on this host used.
    pub other_cores: f64,
    /// Primes so far.
    pub primes: u64,
    /// Die temperature.
    pub celsius: Option<f64>,
    /// Spot price in watts.
    pub price: Option<f64>,
}

/// An agent that is watched.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) lines: Lines,
    clock: TaskClock,
    /// Core time so far.
    pub(super) core_ns: u64,
    /// In the last look.
    pub(super) newest_ns: u64,
    /// When it was ended by force, since the start.
    pub(super) killed: Option<Duration>,
    /// When it could not pay any more, since the start.
    pub(super) broke: Option<Duration>,
}

impl Seen {
    pub(super) fn new(member: &Member, lines: Lines, clock: TaskClock) -> Self {
        let (name, role) = (member.name.clone(), member.role);
        Self { name, role, lines, clock, core_ns: 0, newest_ns: 0, killed: None, broke: None }
    }
}

/// A run that is watched.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) seen: Vec<Seen>,
    pub(super) samples: Vec<RawSample>,
    meter: Meter,
    began: Instant,
    last: Instant,
    own_ns: u64,
    /// Until frozen, in nanoseconds, for each freeze.
    pub(super) freezes_ns: Vec<u64>,
    pub(super) money_error: i64,
    pub(super) energy_error: i64,
    pub(super) remarks: Vec<String>,
}

/// Core time of this process without the eye's own thread, and without what agents were billed for.
fn own_ns() -> u64 {
    clock::process_cpu_ns().saturating_sub(clock::thread_cpu_ns())
}

impl Watched {
    /// Everybody stands still; the clock starts now.
    pub(super) fn start(seen: Vec<Seen>, meter: Meter) -> Self {
        let now = Instant::now();
        Self {
            seen,
            samples: Vec::new(),
            meter,
            began: now,
            last: now,
            own_ns: own_ns(),
            freezes_ns: Vec::new(),
            money_error: 0,
            energy_error: 0,
            remarks: Vec::new(),
        }
    }

    /// Since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether there is to be another look. There is one at least: on a machine so busy that agents took longer to wake than the run
    /// was to last, what happened until then is the run.
    pub(super) fn goes_on(&self, seconds: f64) -> bool {
        self.samples.is_empty() || self.elapsed().as_secs_f64() < seconds
    }

    /// When the next look is due; the last is at the end.
    pub(super) fn wait(&self, seconds: f64) {
        let end = self.began + Duration::from_secs_f64(seconds);
        let looks = u32::try_from(self.began.elapsed().as_nanos() / EVERY.as_nanos()).unwrap_or(u32::MAX);
        let next = (self.began + EVERY.saturating_mul(looks.saturating_add(1))).min(end);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }

    /// Looks at everything. `governing_ns` is core time of this thread that was the scheduler's and not the eye's.
    pub(super) fn look(&mut self, price: Option<f64>, governing_ns: u64) -> Result<(), RealError> {
        let now = Instant::now();
        let (mut honest_ns, mut leech_ns) = (0u64, 0u64);
        for seen in &mut self.seen {
            // A group that is gone used no more than it had.
            let read = seen.clock.read_ns().unwrap_or(0).max(seen.core_ns);
            seen.newest_ns = read - seen.core_ns;
            seen.core_ns = read;
            seen.lines.read()?;
            *(if seen.role.is_honest() { &mut honest_ns } else { &mut leech_ns }) += seen.newest_ns;
        }
        let own = own_ns().max(self.own_ns);
        let own_new = own - self.own_ns + governing_ns;
        self.own_ns = own;
        let drawn = self.meter.advance(honest_ns + leech_ns, own_new);
        let elapsed_ns = (now - self.last).as_nanos().max(1) as f64;
        self.last = now;
        self.samples.push(RawSample {
            seconds: (now - self.began).as_secs_f64(),
            joules: drawn.joules,
            honest_cores: honest_ns as f64 / elapsed_ns,
            leech_cores: leech_ns as f64 / elapsed_ns,
            own_cores: own_new as f64 / elapsed_ns,
            other_cores: drawn.others,
            primes: self.seen.iter().map(|seen| seen.lines.primes()).sum(),
            celsius: drawn.celsius,
            price,
        });
        Ok(())
    }
}
