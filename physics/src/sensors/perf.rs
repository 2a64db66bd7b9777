//! The `power` PMU of perf_event: the best door to the energy counters.
//!
//! ```text
//!  /sys/bus/event_source/devices/power/
//!    type        9                          which PMU
//!    cpumask     0,32                       one core to ask for each package
//!    events/energy-pkg         event=0x02   what to ask for          ─► perf_event_open(type, config, core)
//!    events/energy-pkg.scale   2.3283064365386962890625e-10            one group a core: one read, one interrupt
//!    events/energy-pkg.unit    Joules
//! ```
//!
//! The kernel reads the 32-bit register often enough and shows 64 bits, so nothing wraps and a suspended reader loses
//! nothing below 400 W. The unit is what `.scale` says, kept as an exact fraction; a scale that has none is refused. The
//! `power_core` PMU of newer kernels counts cores, which are part of the package, and is never looked at.

use std::os::fd::{AsFd, OwnedFd};

use maxwell_core::sensor::{CounterSpec, Source};

use super::bank::{Bank, Port};
use super::dedupe::{Candidate, Kind, dedupe};
use super::finding::{Attempt, Item, Obstacle};
use super::perf_event::{self, Who};
use super::processor::Processor;
use super::rapl::Limits;
use super::root::{Kept, ReadError, Root, cpu_list};

const FOLDER: &str = "sys/bus/event_source/devices/power";
const REMEDY: &str =
    "sudo setcap cap_perfmon+ep \"$(command -v maxwell)\"   # or: sudo sysctl kernel.perf_event_paranoid=0";
/// Package, memory, board; and one to spare.
const MOST_EVENTS: usize = 4;
/// No machine has more dies.
const MOST_LEADS: usize = 256;

/// The events of one core, read at once.
#[derive(Debug)]
pub(crate) struct Group {
    events: Events,
    shown: [Result<u64, ReadError>; MOST_EVENTS],
}

#[derive(Debug)]
enum Events {
    /// The first is the leader.
    Kernel(Vec<OwnedFd>),
    /// Files that stand for them.
    Files(Vec<Kept>),
}

impl Group {
    /// Opens the first event of a group.
    pub(crate) fn open(root: &Root, kind: u32, config: u64, cpu: u32) -> Result<Self, ReadError> {
        let events = if root.is_machine() {
            Events::Kernel(vec![perf_event::open(Who::Everybody, kind, config, cpu, None)?])
        } else {
            Events::Files(vec![root.keep(&format!("perf/{kind}:{config}:{cpu}"))?])
        };
        let mut group = Self { events, shown: [Err(ReadError::Missing); MOST_EVENTS] };
        group.read();
        group.count(0).map(|_| group)
    }

    /// Adds an event and answers its place.
    fn join(&mut self, root: &Root, kind: u32, config: u64, cpu: u32) -> Result<usize, ReadError> {
        let at = match &mut self.events {
            Events::Kernel(events) => {
                let leader = events.first().map(AsFd::as_fd);
                let event = perf_event::open(Who::Everybody, kind, config, cpu, leader)?;
                events.push(event);
                events.len() - 1
            }
            Events::Files(files) => {
                files.push(root.keep(&format!("perf/{kind}:{config}:{cpu}"))?);
                files.len() - 1
            }
        };
        self.read();
        self.count(at).map(|_| at)
    }

    /// Reads all of them: how many there are, then a count for each (perf_event_open(2), `PERF_FORMAT_GROUP`).
    pub(crate) fn read(&mut self) {
        match &self.events {
            Events::Kernel(events) => {
                let Some(leader) = events.first() else { return };
                let mut bytes = [0; 8 * (1 + MOST_EVENTS)];
                let length = rustix::io::read(leader, &mut bytes).map_err(ReadError::from);
                for (at, shown) in self.shown.iter_mut().enumerate() {
                    let (from, to) = (8 * (1 + at), 8 * (2 + at));
                    *shown = length.and_then(|length| match bytes[..length].get(from..to) {
                        Some(word) => word.try_into().map(u64::from_ne_bytes).map_err(|_| ReadError::Malformed),
                        // An event in error reads as end of file.
                        None => Err(ReadError::Gone),
                    });
                }
            }
            Events::Files(files) => {
                for (shown, file) in self.shown.iter_mut().zip(files) {
                    *shown = file.word(0);
                }
            }
        }
    }

    /// What the event at a place showed when the group was last read.
    pub(crate) fn count(&self, at: usize) -> Result<u64, ReadError> {
        self.shown.get(at).copied().unwrap_or(Err(ReadError::Missing))
    }
}

/// One event of the PMU, before it is opened.
#[derive(Debug)]
struct Event {
    config: u64,
    cpu: u32,
    spec: CounterSpec,
}

/// Looks for the PMU and opens its counters.
pub(crate) fn attempt(root: &Root, processor: &Processor) -> Attempt<Bank> {
    let (source, kind) = (Source::Perf, "perf");
    if !root.exists(FOLDER) {
        let reason = "the kernel shows no `power` PMU";
        let remedy =
            (!processor.hypervisor).then_some("sudo modprobe rapl   # the kernel's CONFIG_PERF_EVENTS_INTEL_RAPL");
        return Attempt::absent(source, kind, Obstacle::new(reason, remedy));
    }
    match build(root, processor) {
        Ok((bank, items)) => Attempt::usable(source, kind, items, bank),
        Err((items, obstacle)) => Attempt::unusable(source, kind, items, obstacle),
    }
}

fn build(root: &Root, processor: &Processor) -> Result<(Bank, Vec<Item>), (Vec<Item>, Obstacle)> {
    let bare = |obstacle| (Vec::new(), obstacle);
    let (pmu, candidates) = events(root, processor).map_err(bare)?;
    // Counts start when an event is opened, so dies cannot be compared by what they show. AMD's counter is the socket's,
    // whichever die is asked; Intel's is the die's (arch/x86/events/rapl.c, rapl_pkg_pmu_is_pkg_scope).
    let amd = processor.vendor.is_amd_like();
    let (kept, mut items) = dedupe(candidates, |_, _| amd);
    let limits = Limits::read(root, processor);
    let mut groups: Vec<(u32, Group)> = Vec::new();
    let mut channels = Vec::new();
    for (domain, candidate) in kept {
        let Event { config, cpu, spec } = candidate.port;
        let opened = match groups.iter_mut().enumerate().find(|(_, (of, _))| *of == cpu) {
            Some((group, (_, members))) => members.join(root, pmu, config, cpu).map(|at| Port::Perf { group, at }),
            None => Group::open(root, pmu, config, cpu).map(|group| {
                groups.push((cpu, group));
                Port::Perf { group: groups.len() - 1, at: 0 }
            }),
        };
        match opened {
            Ok(port) => {
                items.push(Item::counted(&candidate.name, &candidate.path));
                channels.push(limits.channel(domain, Source::Perf, spec, port, 1));
            }
            Err(error) if !domain.heats_die() => {
                items.push(Item::left_out(&candidate.name, &candidate.path, error.to_string()));
            }
            Err(error) => return Err((items, Obstacle::file(&candidate.path, error, REMEDY))),
        }
    }
    if channels.is_empty() {
        return Err((items, Obstacle::new(format!("/{FOLDER} has no event for packages"), None)));
    }
    let groups = groups.into_iter().map(|(_, group)| group).collect();
    Ok((Bank::new(Source::Perf, channels).with_groups(groups), items))
}

/// The PMU's number, and each of its events on each core that leads a package.
fn events(root: &Root, processor: &Processor) -> Result<(u32, Vec<Candidate<Event>>), Obstacle> {
    let file = |path: &str, error| Obstacle::file(path, error, REMEDY);
    let path = format!("{FOLDER}/type");
    let pmu = root.number(&path).and_then(|pmu| u32::try_from(pmu).map_err(|_| ReadError::Impossible));
    let pmu = pmu.map_err(|error| file(&path, error))?;
    let path = format!("{FOLDER}/cpumask");
    let cpus = root.text(&path).and_then(|text| cpu_list(&text, MOST_LEADS)).map_err(|error| file(&path, error))?;
    let mut found = Vec::new();
    for event in ["energy-pkg", "energy-ram", "energy-psys"] {
        let path = format!("{FOLDER}/events/{event}");
        let text = match root.text(&path) {
            Ok(text) => text,
            Err(ReadError::Missing) => continue,
            Err(error) => return Err(file(&path, error)),
        };
        let config = config(&text).ok_or_else(|| file(&path, ReadError::Malformed))?;
        let unit = root.text(&format!("{path}.unit")).unwrap_or_default();
        let scale = root.text(&format!("{path}.scale")).ok().filter(|_| unit == "Joules").and_then(|text| scale(&text));
        let Some(spec) = scale else {
            return Err(Obstacle::new(format!("the unit of /{path} is not an exact fraction of a joule"), None));
        };
        for &cpu in &cpus {
            let (socket, die) = place(processor, cpu);
            let kind = match event {
                "energy-pkg" => Kind::Package { socket, die },
                "energy-ram" => Kind::Dram { socket, die },
                _ => Kind::Platform,
            };
            let port = Event { config, cpu, spec };
            found.push(Candidate {
                name: format!("{event} on core {cpu}"),
                path: path.clone(),
                kind,
                twin: false,
                port,
            });
        }
    }
    Ok((pmu, found))
}

/// The socket and die that a core of the mask stands for; a core that leads none is taken for a socket of its own.
fn place(processor: &Processor, cpu: u32) -> (u32, u32) {
    processor.lead(cpu).map_or((cpu, 0), |lead| (lead.package, lead.die))
}

/// `event=0x02` as a number.
fn config(text: &str) -> Option<u64> {
    let number = text.strip_prefix("event=")?;
    number.strip_prefix("0x").map_or_else(|| number.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok())
}

/// A decimal number of joules as an exact fraction of nanojoules in lowest terms: `2.3283064365386962890625e-10`, which is
/// 2⁻³² J, is 1953125/8388608 nJ.
fn scale(text: &str) -> Option<CounterSpec> {
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut digits: u128 = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = char::from(byte).to_digit(10)?;
        digits = digits.checked_mul(10)?.checked_add(u128::from(digit))?;
    }
    let exponent = exponent.parse::<i32>().ok()?.checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_add(9)?;
    let power = 10_u128.checked_pow(exponent.unsigned_abs())?;
    let (num, den) = if exponent < 0 { (digits, power) } else { (digits.checked_mul(power)?, 1) };
    let (mut a, mut b) = (num, den);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let (unit_num, unit_den) = (u64::try_from(num / a).ok()?, u64::try_from(den / a).ok()?);
    (unit_num > 0).then_some(CounterSpec { max: u64::MAX, unit_num, unit_den })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_scale_is_exact() {
        let spec = scale("2.3283064365386962890625e-10").unwrap();
        assert_eq!((spec.unit_num, spec.unit_den), (1_953_125, 8_388_608));
        assert_eq!(u128::from(spec.unit_num) << 32, 1_000_000_000 * u128::from(spec.unit_den));
        let spec = scale("1e-6").unwrap();
        assert_eq!((spec.unit_num, spec.unit_den), (1_000, 1));
    }

    #[test]
    fn a_scale_without_an_exact_fraction_is_refused() {
        for text in [
            "",
            "0",
            "-1",
            "1e40",
            "1e-60",
            "0.1234567890123456789012345678901234567891",
            "inf",
            "nan",
            "2^-32",
            "1.2.3",
        ] {
            assert_eq!(scale(text), None, "{text}");
        }
    }

    #[test]
    fn events_are_numbers() {
        assert_eq!((config("event=0x02"), config("event=5")), (Some(2), Some(5)));
        assert_eq!((config("0x02"), config("event=0x"), config("event=2,umask=1")), (None, None, None));
    }

    #[test]
    fn a_group_of_the_kernel_is_read_at_once() {
        // PERF_TYPE_SOFTWARE: cpu-clock (0) and context switches (3) of core 0 exist on every machine.
        let root = Root::machine();
        let mut group = match Group::open(&root, 1, 0, 0) {
            Ok(group) => group,
            Err(error @ (ReadError::Denied | ReadError::Missing | ReadError::Io(_))) => {
                eprintln!("skipped: perf_event_open needs CAP_PERFMON here ({error})");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(group.join(&root, 1, 3, 0), Ok(1));
        let before = group.count(0).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5));
        group.read();
        assert!(group.count(0).unwrap() >= before + 4_000_000, "the clock of the core goes on");
        assert!(group.count(1).is_ok());
        assert_eq!(group.count(2), Err(ReadError::Gone), "there is no third");
    }
}
