//! Model-specific registers, `/dev/cpu/N/msr`: energy of Intel and AMD processors, temperature of Intel's.
//!
//! ```text
//!  Intel  0x606  [3:0] power unit 2⁻ᴾ W   [12:8] energy unit 2⁻ᴱ J      AMD  0xC0010299  the same bits
//!         0x611  package   0x619  memory   0x64D  board                      0xC001029B  package, one a socket
//!         0x614  [14:0] thermal design power   [46:32] most it may draw      0xC001029A  core: part of the package
//!         0x610  [14:0] and [46:32] limits in force
//!         0x1A2  [23:16] TjMax     0x1B1  [31] valid, [22:16] degrees below TjMax, [0…5] throttling     0x19C  one core's
//!         0x0BC  [0] energy is filtered
//! ```
//!
//! Intel SDM vol. 4 and vol. 3B chapter "Power and Thermal Management"; AMD's Processor Programming References. Which
//! processors break the rules is taken from `arch/x86/events/rapl.c`:
//!
//! * **memory in 2⁻¹⁶ J whatever 0x606 says**: Haswell-X, Broadwell-X and -D, Skylake-X, Ice Lake-X and -D, Knights Landing
//!   and Mill. Sapphire Rapids is not one of them, though powercap took it for one before Linux 6.1;
//! * **the board in whole joules**: Sapphire and Emerald Rapids.
//!
//! AMD's package counter is 32 bits wide, or 64 on Zen 4 servers (issue 12 of amd_energy, which said otherwise, was a bug
//! of the reporter's tool and withdrawn). The low half of a 64-bit counter is a good 32-bit counter, so where the width is
//! not known it is masked: all that is lost is the right to sleep through a wrap.

use maxwell_core::sensor::{CounterSpec, Domain, Quality, Source};
use serde::Serialize;

use super::bank::{Bank, Port, dead};
use super::dedupe::{Candidate, Kind, dedupe};
use super::finding::{Attempt, Item, Obstacle};
use super::processor::{Lead, Processor, Vendor};
use super::rapl::Limits;
use super::root::{ReadError, Register, Root};
use super::thermometer::{Eye, Thermometer};

const RAPL_POWER_UNIT: u32 = 0x606;
const PKG_POWER_LIMIT: u32 = 0x610;
const PKG_ENERGY: u32 = 0x611;
const PKG_POWER_INFO: u32 = 0x614;
const DRAM_ENERGY: u32 = 0x619;
const PLATFORM_ENERGY: u32 = 0x64D;
const AMD_POWER_UNIT: u32 = 0xC001_0299;
const AMD_PKG_ENERGY: u32 = 0xC001_029B;
const MISC_PACKAGE_CTLS: u32 = 0xBC;
const THERM_STATUS: u32 = 0x19C;
const TEMPERATURE_TARGET: u32 = 0x1A2;
const PACKAGE_THERM_STATUS: u32 = 0x1B1;

const LOW_HALF: u64 = 0xFFFF_FFFF;
const REMEDY_MODULE: &str = "sudo modprobe msr   # the kernel's CONFIG_X86_MSR";
const REMEDY_RIGHT: &str = "sudo setcap cap_sys_rawio,cap_dac_read_search+ep \"$(command -v maxwell)\"   # not while the kernel is locked down";

/// One register, once.
fn read(root: &Root, cpu: u32, register: u32) -> Result<u64, ReadError> {
    root.register(cpu, register)?.read()
}

/// Models of family 6 whose memory counts 2⁻¹⁶ J (`arch/x86/events/rapl.c`, `model_hsx` and `model_knl`).
fn has_fixed_dram_unit(processor: &Processor) -> bool {
    processor.family == 6 && matches!(processor.model, 0x3F | 0x4F | 0x56 | 0x55 | 0x6A | 0x6C | 0x57 | 0x85)
}

/// Models of family 6 whose board counts joules (`model_spr`): Sapphire Rapids and Emerald Rapids.
fn has_joule_psys(processor: &Processor) -> bool {
    processor.family == 6 && matches!(processor.model, 0x8F | 0xCF)
}

/// Zen 4 servers (family 19h, models 10h–1Fh and A0h–AFh) count 64 bits.
fn has_wide_counter(processor: &Processor) -> bool {
    processor.vendor == Vendor::Amd && processor.family == 0x19 && matches!(processor.model, 0x10..=0x1F | 0xA0..=0xAF)
}

/// Whether microcode adds noise to the energy counters (bit 0 of MSR 0xBC; INTEL-SA-00389).
pub(crate) fn is_filtered(root: &Root, processor: &Processor) -> bool {
    processor.vendor == Vendor::Intel
        && processor.leads.iter().any(|lead| read(root, lead.cpu, MISC_PACKAGE_CTLS).is_ok_and(|word| word & 1 == 1))
}

/// The largest thermal design power, and the largest power that a package may draw or is limited to, in watts; zero where
/// registers cannot be read.
pub(crate) fn package_power(root: &Root, processor: &Processor) -> (f64, f64) {
    let (mut tdp, mut limit) = (0.0_f64, 0.0_f64);
    if processor.vendor != Vendor::Intel {
        return (tdp, limit);
    }
    for lead in &processor.leads {
        let Ok(units) = read(root, lead.cpu, RAPL_POWER_UNIT) else { continue };
        let watts = |word: u64, shift: u32| ((word >> shift) & 0x7FFF) as f64 / (1_u64 << (units & 0xF)) as f64;
        if let Ok(info) = read(root, lead.cpu, PKG_POWER_INFO) {
            tdp = tdp.max(watts(info, 0));
            limit = limit.max(watts(info, 32));
        }
        if let Ok(word) = read(root, lead.cpu, PKG_POWER_LIMIT) {
            // All ones is "no limit".
            for value in [watts(word, 0), watts(word, 32)] {
                limit = if value < 4_000.0 { limit.max(value) } else { limit };
            }
        }
    }
    (tdp, limit)
}

/// Looks for energy registers and opens them.
pub(crate) fn attempt(root: &Root, processor: &Processor) -> Attempt<Bank> {
    let (source, kind) = (Source::Msr, "msr");
    if processor.vendor == Vendor::Other {
        let reason = "only Intel and AMD processors have energy registers";
        return Attempt::absent(source, kind, Obstacle::new(reason, None));
    }
    if let Some(obstacle) = no_device(root, processor) {
        return Attempt::absent(source, kind, obstacle);
    }
    match build(root, processor) {
        Ok((bank, items)) => Attempt::usable(source, kind, items, bank),
        Err((items, obstacle)) => Attempt::unusable(source, kind, items, obstacle),
    }
}

fn no_device(root: &Root, processor: &Processor) -> Option<Obstacle> {
    let device = format!("dev/cpu/{}/msr", processor.leads.first().map_or(0, |lead| lead.cpu));
    (!root.exists(&device)).then(|| {
        let remedy = (!processor.hypervisor).then_some(REMEDY_MODULE);
        Obstacle::new(format!("/{device} does not exist"), remedy)
    })
}

/// A register of one die, with the unit of its count.
struct Count {
    port: Port,
    spec: CounterSpec,
}

fn build(root: &Root, processor: &Processor) -> Result<(Bank, Vec<Item>), (Vec<Item>, Obstacle)> {
    let mut items = Vec::new();
    let mut candidates = Vec::new();
    let mut missing = None;
    for lead in one_a_counter(processor) {
        match of_die(root, processor, lead, &mut items) {
            Ok((found, without_package)) => {
                candidates.extend(found);
                missing = missing.or(without_package);
            }
            Err(obstacle) => return Err((items, obstacle)),
        }
    }
    // A package that is missing is missing in the sum, unless the board has them all and no package is added to it.
    let is = |kind: fn(Kind) -> bool| candidates.iter().any(|candidate| kind(candidate.kind));
    if let Some(obstacle) = missing
        && (is(|kind| matches!(kind, Kind::Package { .. })) || !is(|kind| kind == Kind::Platform))
    {
        return Err((items, obstacle));
    }
    let (mut kept, dropped) = dedupe(candidates, |a: &Count, b| a.port.mirrors(&b.port));
    items.extend(dropped);
    if let Some(path) = dead(&mut kept, &mut items, |count| count.port.is_dead()) {
        let who = if processor.hypervisor { ": the hypervisor answers it, and counts nothing" } else { "" };
        return Err((items, Obstacle::new(format!("/{path} shows zero all the time{who}"), None)));
    }
    let limits = Limits::read(root, processor);
    let mut channels = Vec::new();
    for (domain, candidate) in kept {
        items.push(Item::counted(&candidate.name, &candidate.path));
        let Count { port, spec } = candidate.port;
        // A joule is a long time for a board that idles.
        let refresh_ms = if matches!(domain, Domain::Platform) && spec.unit_den == 1 { 20 } else { 1 };
        channels.push(limits.channel(domain, Source::Msr, spec, port, refresh_ms));
    }
    Ok((Bank::new(Source::Msr, channels), items))
}

/// Intel's counters are each die's, AMD's each socket's.
fn one_a_counter(processor: &Processor) -> Vec<Lead> {
    let mut leads = processor.leads.clone();
    if processor.vendor.is_amd_like() {
        leads.dedup_by_key(|lead| lead.package);
    }
    leads
}

/// The counters of one die, and what became of its package if it shows none.
fn of_die(
    root: &Root,
    processor: &Processor,
    lead: Lead,
    items: &mut Vec<Item>,
) -> Result<(Vec<Candidate<Count>>, Option<Obstacle>), Obstacle> {
    let Lead { package: socket, die, cpu } = lead;
    let path = |register: u32| format!("dev/cpu/{cpu}/msr at 0x{register:X}");
    let amd = processor.vendor.is_amd_like();
    let unit = if amd { AMD_POWER_UNIT } else { RAPL_POWER_UNIT };
    let units = read(root, cpu, unit).map_err(|error| Obstacle::file(&path(unit), error, REMEDY_RIGHT))?;
    let esu = u32::try_from((units >> 8) & 0x1F).unwrap_or_default();
    let open = |register: u32, mask: u64| -> Result<Port, ReadError> {
        let register: Register = root.register(cpu, register)?;
        register.read()?;
        Ok(Port::Register { register, mask })
    };
    let candidate = |kind, register, port, spec| {
        let name = match kind {
            Kind::Package { .. } if die > 0 => format!("package-{socket}-die-{die}"),
            Kind::Package { .. } => format!("package-{socket}"),
            Kind::Dram { .. } => format!("dram of package-{socket}"),
            _ => "psys".to_owned(),
        };
        Candidate { name, path: path(register), kind, twin: false, port: Count { port, spec } }
    };
    let (package, mask) = match (amd, has_wide_counter(processor)) {
        (true, true) => (AMD_PKG_ENERGY, u64::MAX),
        (true, false) => (AMD_PKG_ENERGY, LOW_HALF),
        (false, _) => (PKG_ENERGY, LOW_HALF),
    };
    let spec = CounterSpec { max: mask, ..CounterSpec::rapl(esu) };
    let (mut found, mut missing) = (Vec::new(), None);
    match open(package, mask) {
        Ok(port) => found.push(candidate(Kind::Package { socket, die }, package, port, spec)),
        Err(error) => missing = Some(Obstacle::file(&path(package), error, REMEDY_RIGHT)),
    }
    if amd {
        return Ok((found, missing));
    }
    let dram = CounterSpec::rapl(if has_fixed_dram_unit(processor) { 16 } else { esu });
    let psys = CounterSpec::rapl(if has_joule_psys(processor) { 0 } else { esu });
    for (kind, register, spec) in
        [(Kind::Dram { socket, die }, DRAM_ENERGY, dram), (Kind::Platform, PLATFORM_ENERGY, psys)]
    {
        match open(register, LOW_HALF) {
            Ok(port) => found.push(candidate(kind, register, port, spec)),
            // Most processors lack one or the other.
            Err(ReadError::Io(_) | ReadError::Missing) => {}
            Err(error) => items.push(Item::left_out("dram or psys", &path(register), error.to_string())),
        }
    }
    Ok((found, missing))
}

/// Looks for thermal registers and opens one a package.
pub(crate) fn thermometer(root: &Root, processor: &Processor) -> Attempt<Thermometer> {
    let (source, kind) = (Source::Msr, "msr");
    if processor.vendor != Vendor::Intel {
        let reason = "only Intel processors show their temperature in a register";
        return Attempt::absent(source, kind, Obstacle::new(reason, None));
    }
    if let Some(obstacle) = no_device(root, processor) {
        return Attempt::absent(source, kind, obstacle);
    }
    // Processors before Sandy Bridge have no thermometer for the package: then the hottest core counts.
    let lead = processor.leads.first().map_or(0, |lead| lead.cpu);
    let (register, cpus, refused) = match read(root, lead, PACKAGE_THERM_STATUS) {
        Err(ReadError::Io(_) | ReadError::Missing) => (THERM_STATUS, processor.online.clone(), true),
        _ => (PACKAGE_THERM_STATUS, processor.leads.iter().map(|lead| lead.cpu).collect(), false),
    };
    let (mut items, mut eyes) = (Vec::new(), Vec::new());
    for cpu in cpus {
        match eye(root, cpu, register) {
            Ok(eye) => {
                let name = if refused { format!("core {cpu}") } else { format!("package of core {cpu}") };
                items.push(Item::counted(name, &format!("dev/cpu/{cpu}/msr at 0x{register:X}")));
                eyes.push(eye);
            }
            Err((register, error)) => {
                let path = format!("dev/cpu/{cpu}/msr at 0x{register:X}");
                return Attempt::unusable(source, kind, items, Obstacle::file(&path, error, REMEDY_RIGHT));
            }
        }
    }
    Attempt::usable(source, kind, items, Thermometer::new(source, kind, Quality::Measured, 1, eyes))
}

/// Opens the thermometer of a core, or of its package, that shows something possible; else the register that does not.
fn eye(root: &Root, cpu: u32, register: u32) -> Result<Eye, (u32, ReadError)> {
    let target = read(root, cpu, TEMPERATURE_TARGET).map_err(|error| (TEMPERATURE_TARGET, error))?;
    let tj_max = u8::try_from((target >> 16) & 0xFF).unwrap_or_default();
    if tj_max == 0 {
        return Err((TEMPERATURE_TARGET, ReadError::Impossible));
    }
    let open = root.register(cpu, register).map_err(|error| (register, error))?;
    let mut eye = Eye::Below { register: open, tj_max };
    eye.celsius(0).map_err(|error| (register, error)).map(|_| eye)
}

/// What a processor says about having slowed itself down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Throttling {
    /// The socket.
    pub package: u32,
    /// It is too hot now, and slows down.
    pub hot: bool,
    /// It was too hot since somebody last cleared the bit.
    pub was_hot: bool,
    /// Something on the board tells it to slow down (PROCHOT).
    pub prochot: bool,
    /// Something on the board told it so since the bit was last cleared.
    pub was_prochot: bool,
    /// It is about to switch itself off.
    pub critical: bool,
    /// A power limit slows it down.
    pub power_limited: bool,
}

/// The throttle bits of each package that shows them (0x1B1, and 0x19C of its leading core where it does not).
pub(crate) fn throttling(root: &Root, processor: &Processor) -> Vec<Throttling> {
    if processor.vendor != Vendor::Intel {
        return Vec::new();
    }
    let of = |lead: &Lead| {
        let word = read(root, lead.cpu, PACKAGE_THERM_STATUS).or_else(|_| read(root, lead.cpu, THERM_STATUS)).ok()?;
        let bit = |at: u32| word >> at & 1 == 1;
        Some(Throttling {
            package: lead.package,
            hot: bit(0),
            was_hot: bit(1),
            prochot: bit(2),
            was_prochot: bit(3),
            critical: bit(4),
            power_limited: bit(10),
        })
    };
    processor.leads.iter().filter_map(of).collect()
}
