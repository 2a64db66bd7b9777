//! What all doors to RAPL have in common: how much power to believe, and whether microcode adds noise.

use maxwell_core::sensor::{Counter, CounterSpec, Domain, Quality, Source};
use maxwell_core::units::Watts;

use super::bank::{Channel, Port};
use super::processor::Processor;
use super::root::Root;

/// Where a package's thermal design power is a laptop's 15 W, its limits are not always told, and it draws four times as
/// much for half a minute.
const LEAST_BOUND: f64 = 120.0;
/// Memory of one socket: two dozen modules at 10 W.
const MEMORY_TDP: f64 = 240.0;
/// What a board draws beside its packages.
const BOARD_TDP: f64 = 500.0;

/// How much power a domain can draw at most, and how far to trust its counter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The largest thermal design power of any package.
    package_tdp: f64,
    /// The largest limit that is set on any package.
    package_limit: f64,
    packages: f64,
    quality: Quality,
}

impl Limits {
    /// What powercap tells (`constraint_*`, readable by everybody), then what the registers tell, else a guess from the
    /// number of cores. Quality is filtered where SGX is on: microcode then adds noise to every counter, through every
    /// door (INTEL-SA-00389; MSR 0xBC bit 0).
    pub(crate) fn read(root: &Root, processor: &Processor) -> Self {
        let (mut tdp, mut limit) = super::powercap::package_power(root);
        let registers = super::msr::package_power(root, processor);
        tdp = tdp.max(registers.0);
        limit = limit.max(registers.1);
        let guess = processor.guessed_tdp();
        let filtered = processor.sgx || super::msr::is_filtered(root, processor);
        Self {
            package_tdp: if tdp > 0.0 { tdp } else { guess },
            package_limit: limit,
            packages: f64::from(processor.packages()),
            quality: if filtered { Quality::Filtered } else { Quality::Measured },
        }
    }

    /// Four times the thermal design power, and never less than twice the limit in force: whatever moves faster was reset.
    fn most(&self, domain: Domain) -> Watts {
        let package = (4.0 * self.package_tdp).max(2.0 * self.package_limit).max(LEAST_BOUND);
        Watts(match domain {
            Domain::Dram(_) => 4.0 * MEMORY_TDP,
            Domain::Platform | Domain::Machine => self.packages * (package + 4.0 * MEMORY_TDP) + 4.0 * BOARD_TDP,
            Domain::Package(_) | Domain::Gpu(_) => package,
        })
    }

    /// A counter with these limits.
    pub(crate) fn channel(
        self,
        domain: Domain,
        source: Source,
        spec: CounterSpec,
        port: Port,
        refresh_ms: u32,
    ) -> Channel {
        let counter = Counter { domain, source, quality: self.quality, spec, max_power: self.most(domain), refresh_ms };
        Channel::new(counter, port)
    }
}
