//! What processor a machine has, and which of its cores to ask for each socket and die.

use std::collections::BTreeMap;

use serde::Serialize;

use super::root::Root;
use crate::cpu::Cpu;

/// No machine has more cores.
const MOST_CPUS: usize = 8_192;

/// Who made the processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// Intel.
    Intel,
    /// AMD.
    Amd,
    /// Hygon, whose processors have AMD's registers.
    Hygon,
    /// Somebody else, or not known.
    #[default]
    Other,
}

impl Vendor {
    /// Whether its energy registers are AMD's.
    #[must_use]
    pub fn is_amd_like(self) -> bool {
        matches!(self, Self::Amd | Self::Hygon)
    }
}

/// A die, and the first of its cores that is on-line: the one to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Lead {
    /// The socket.
    pub package: u32,
    /// The die in it.
    pub die: u32,
    /// The core.
    pub cpu: u32,
}

/// The machine's processor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Processor {
    /// Who made it.
    pub vendor: Vendor,
    /// Its family.
    pub family: u32,
    /// Its model.
    pub model: u32,
    /// What it calls itself.
    pub name: String,
    /// It runs SGX enclaves, so its energy counters are filtered (INTEL-SA-00389).
    pub sgx: bool,
    /// It is a virtual machine's.
    pub hypervisor: bool,
    /// How many cores are on-line, over all sockets.
    pub cpus: u32,
    /// Which they are.
    #[serde(skip)]
    pub online: Vec<u32>,
    /// One core for each die.
    pub leads: Vec<Lead>,
}

impl Processor {
    /// Reads `/proc/cpuinfo` and the topology of all cores. What cannot be read is left at its default; a machine without
    /// topology is one socket led by core 0.
    #[must_use]
    pub fn of(root: &Root) -> Self {
        let mut it = Self::describe(&root.text("proc/cpuinfo").unwrap_or_default());
        let mut leads: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        let folder = "sys/devices/system/cpu";
        let cpus = root
            .names(folder)
            .into_iter()
            .filter_map(|name| name.strip_prefix("cpu").and_then(|number| number.parse::<u32>().ok()));
        for cpu in cpus.take(MOST_CPUS) {
            // Core 0 often cannot be taken off-line and then has no such file.
            if root.number(&format!("{folder}/cpu{cpu}/online")) == Ok(0) {
                continue;
            }
            it.online.push(cpu);
            // Machines without sockets, ARM boards for instance, say -1.
            let number = |file: &str| root.number(&format!("{folder}/cpu{cpu}/topology/{file}"));
            let id = |file: &str| number(file).ok().and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
            leads.entry((id("physical_package_id"), id("die_id"))).or_insert(cpu);
        }
        if leads.is_empty() {
            (it.online, leads) = (vec![0], BTreeMap::from([((0, 0), 0)]));
        }
        it.cpus = u32::try_from(it.online.len()).unwrap_or(u32::MAX);
        it.leads = leads.into_iter().map(|((package, die), cpu)| Lead { package, die, cpu }).collect();
        it
    }

    fn describe(cpuinfo: &str) -> Self {
        let cpu = Cpu::parse(cpuinfo);
        Self {
            vendor: match cpu.vendor.as_str() {
                "GenuineIntel" => Vendor::Intel,
                "AuthenticAMD" => Vendor::Amd,
                "HygonGenuine" => Vendor::Hygon,
                _ => Vendor::Other,
            },
            family: cpu.family,
            model: cpu.model,
            name: cpu.name,
            sgx: cpu.sgx,
            hypervisor: cpu.hypervisor,
            cpus: 0,
            online: Vec::new(),
            leads: Vec::new(),
        }
    }

    /// How many sockets there are.
    #[must_use]
    pub fn packages(&self) -> u32 {
        let mut packages: Vec<u32> = self.leads.iter().map(|lead| lead.package).collect();
        packages.dedup();
        u32::try_from(packages.len()).unwrap_or(u32::MAX).max(1)
    }

    /// The socket and die of a core that leads one.
    #[must_use]
    pub fn lead(&self, cpu: u32) -> Option<Lead> {
        self.leads.iter().copied().find(|lead| lead.cpu == cpu)
    }

    /// The socket's thermal design power where nothing tells it: ten watts a core, at least a desktop's 65 W, at most the
    /// 500 W of the largest server parts. It only bounds what is believed.
    #[must_use]
    pub fn guessed_tdp(&self) -> f64 {
        (10.0 * f64::from(self.cpus) / f64::from(self.packages())).clamp(65.0, 500.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_processor_of_cpuinfo_counts() {
        let it = Processor::describe(
            "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Xeon\n\
             flags\t\t: fpu sgx sgx_lc\n\nprocessor\t: 1\nvendor_id\t: AuthenticAMD\n",
        );
        assert_eq!((it.vendor, it.family, it.model, it.name.as_str()), (Vendor::Intel, 6, 143, "Xeon"));
        assert!(it.sgx && !it.hypervisor);
        let sgx_lc = Processor::describe("flags : sgx_lc hypervisor");
        assert!(!sgx_lc.sgx && sgx_lc.hypervisor);
    }

    #[test]
    fn a_machine_that_tells_nothing_is_one_socket() {
        let folder = tempfile::tempdir().unwrap();
        let it = Processor::of(&Root::tree(folder.path()));
        assert_eq!(it.leads, [Lead { package: 0, die: 0, cpu: 0 }]);
        assert_eq!((it.packages(), it.vendor), (1, Vendor::Other));
    }
}
