//! Which CPU this is, and what one of its family burns when nobody has measured it.
//!
//! The numbers are server means: Cloud Carbon Footprint's coefficients, watts for each hardware thread at idle and at full
//! load, averaged over the SPECpower results of every server of a family. A machine may well differ from its family's
//! mean by a factor of two or three; `maxwell physics fit` replaces them by its own. Every default says where it comes from.

use std::collections::BTreeSet;

use maxwell_core::units::Watts;

use crate::power::PowerModel;

/// A CPU, as `/proc/cpuinfo` tells it. What is not told is empty or zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// `GenuineIntel`, `AuthenticAMD`; on Arm the implementer's number, such as `0x41`.
    pub vendor: String,
    /// Family by its number.
    pub family: u32,
    /// Model by its number; on Arm the part.
    pub model: u32,
    /// Stepping by its number.
    pub stepping: u32,
    /// The name that people know.
    pub name: String,
    /// Hardware threads.
    pub threads: u16,
    /// Physical cores, where they can be told apart.
    pub cores: u16,
    /// Whether this is a virtual machine, whose host may hide what the CPU really is.
    pub hypervisor: bool,
    /// Whether it runs SGX enclaves: its energy counters are filtered then (INTEL-SA-00389).
    pub sgx: bool,
}

/// More of `/proc/cpuinfo` than this is not read: 4096 threads take less.
const MOST_TEXT: usize = 32 << 20;
/// More of a name than this is not kept.
const MOST_NAME: usize = 128;

impl Cpu {
    /// Reads the text of `/proc/cpuinfo`. Any text is understood as far as it goes.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut cpu = Self::default();
        let mut physical = BTreeSet::new();
        let mut socket = "";
        let text = &text[..text.floor_char_boundary(MOST_TEXT)];
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            // The first processor stands for all; only their number and places differ.
            let first = cpu.threads <= 1;
            match key.trim() {
                "processor" => cpu.threads = cpu.threads.saturating_add(1),
                "physical id" => socket = value,
                "core id" => {
                    physical.insert((socket, value));
                }
                "vendor_id" | "CPU implementer" if first => cpu.vendor = name(value),
                "cpu family" if first => cpu.family = number(value),
                "model" | "CPU part" if first => cpu.model = number(value),
                "stepping" if first => cpu.stepping = number(value),
                "model name" if first => cpu.name = name(value),
                "flags" if first => {
                    let has = |wanted: &str| value.split_whitespace().any(|flag| flag == wanted);
                    (cpu.hypervisor, cpu.sgx) = (has("hypervisor"), has("sgx"));
                }
                _ => {}
            }
        }
        cpu.cores = u16::try_from(physical.len()).unwrap_or(u16::MAX).min(cpu.threads);
        cpu
    }

    /// The power of a machine with this CPU, if nothing better is known.
    #[must_use]
    pub fn default_power(&self) -> DefaultPower {
        let (family, least, most) = match self.family() {
            Some(family) => family,
            None => (UNKNOWN, 0.12 * GENERIC_TDP, 1.02 * GENERIC_TDP),
        };
        let threads = f64::from(self.threads.max(1));
        DefaultPower { power: PowerModel::generic(Watts(least * threads), Watts(most - least)), family }
    }

    /// The family that this CPU counts as, with its watts for a thread at idle and at full load.
    fn family(&self) -> Option<(&'static str, f64, f64)> {
        let name = match (self.vendor.as_str(), self.family, self.model) {
            ("AuthenticAMD", 23, 0..=0x2f) | ("HygonGenuine", 24, _) => "EPYC 1st Gen",
            ("AuthenticAMD", 23, _) => "EPYC 2nd Gen",
            ("AuthenticAMD", 25, 0..=0x0f | 0x20..=0x5f) => "EPYC 3rd Gen",
            // The source's figure for the 5th generation (3.7 to 9 W a thread) is more than such sockets can draw.
            ("AuthenticAMD", 25 | 26, _) => "EPYC 4th Gen",
            ("GenuineIntel", 6, 42 | 45) => "Sandy Bridge",
            ("GenuineIntel", 6, 58 | 62) => "Ivy Bridge",
            ("GenuineIntel", 6, 60 | 63 | 69 | 70) => "Haswell",
            ("GenuineIntel", 6, 61 | 71 | 79 | 86) => "Broadwell",
            ("GenuineIntel", 6, 85) if self.stepping >= 5 => "Cascade Lake",
            ("GenuineIntel", 6, 78 | 85 | 94) => "Skylake",
            ("GenuineIntel", 6, 142 | 158) => "Coffee Lake",
            ("GenuineIntel", 6, 106 | 108) => "Ice Lake",
            ("GenuineIntel", 6, 143) => "Sapphire Rapids",
            ("GenuineIntel", 6, 207) => "Emerald Rapids",
            ("GenuineIntel", 6, 173 | 174) => "Granite Rapids",
            // Arm's Neoverse N1, V1 and V2.
            ("0x41", _, 0xd0c | 0xd40 | 0xd4f) => "Graviton",
            _ => return None,
        };
        FAMILIES.into_iter().find(|family| family.0 == name)
    }
}

/// A model of power that nobody has fitted.
#[derive(Clone, Debug, PartialEq)]
pub struct DefaultPower {
    /// The model.
    pub power: PowerModel,
    /// What the numbers are the mean of.
    pub family: &'static str,
}

impl DefaultPower {
    /// Whether the CPU's family is known at all.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.family != UNKNOWN
    }
}

/// What an unknown CPU counts as.
const UNKNOWN: &str = "an unknown CPU of 4 W a thread";
/// TDP of a thread of an unknown CPU, as CodeCarbon 3.2 assumes it (MIT); its shares at idle and full load are Teads'.
const GENERIC_TDP: f64 = 4.0;

/// Watts for a hardware thread at idle and at full load: Cloud Carbon Footprint, `output/coefficients-aws-use.csv` of the
/// repository `ccf-coefficients` (Apache-2.0), revision b0032d9.
const FAMILIES: [(&str, f64, f64); 16] = [
    ("Sandy Bridge", 2.212, 8.631),
    ("Ivy Bridge", 1.707, 5.557),
    ("Haswell", 1.857, 5.595),
    ("Broadwell", 0.713, 3.685),
    ("Skylake", 0.613, 4.104),
    ("Coffee Lake", 1.138, 5.422),
    ("Cascade Lake", 0.690, 4.063),
    ("Ice Lake", 0.767, 3.758),
    ("Sapphire Rapids", 1.036, 4.160),
    ("Emerald Rapids", 0.814, 4.482),
    ("Granite Rapids", 0.582, 2.527),
    ("EPYC 1st Gen", 0.847, 2.604),
    ("EPYC 2nd Gen", 0.474, 1.693),
    ("EPYC 3rd Gen", 0.456, 1.957),
    ("EPYC 4th Gen", 0.739, 2.282),
    ("Graviton", 0.474, 1.693),
];

/// A number in decimal or, with `0x`, in hexadecimal; 0 for anything else.
fn number(text: &str) -> u32 {
    text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u32::from_str_radix(digits, 16)).unwrap_or(0)
}

/// A name that may be shown on a terminal.
fn name(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MOST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::power::Cores;
    use proptest::prelude::*;

    const EPYC: &str = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n\
        stepping\t: 1\nphysical id\t: 0\ncore id\t\t: 0\nflags\t\t: fpu vme hypervisor lm\n\n\
        processor\t: 1\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC\n\
        stepping\t: 1\nphysical id\t: 0\ncore id\t\t: 0\nflags\t\t: fpu vme hypervisor lm\n";

    #[test]
    fn a_virtual_epyc_is_recognised() {
        let cpu = Cpu::parse(EPYC);
        assert_eq!((cpu.vendor.as_str(), cpu.family, cpu.model), ("AuthenticAMD", 25, 1));
        assert_eq!((cpu.name.as_str(), cpu.threads, cpu.cores, cpu.hypervisor), ("AMD EPYC", 2, 1, true));
        let default = cpu.default_power();
        assert_eq!((default.family, default.is_known()), ("EPYC 3rd Gen", true));
        let full = default.power.at(&[Cores { count: 2, utilisation: 1.0 }], 1.0, None);
        assert!((default.power.idle.0 - 2.0 * 0.456).abs() < 1e-9 && (full.0 - 2.0 * 1.957).abs() < 1e-9);
    }

    #[test]
    fn families_are_told_apart_by_number() {
        let of = |vendor: &str, family, model, stepping| {
            Cpu { vendor: vendor.into(), family, model, stepping, threads: 4, ..Cpu::default() }.default_power().family
        };
        assert_eq!(of("GenuineIntel", 6, 58, 9), "Ivy Bridge");
        assert_eq!(of("GenuineIntel", 6, 85, 4), "Skylake");
        assert_eq!(of("GenuineIntel", 6, 85, 7), "Cascade Lake");
        assert_eq!(of("AuthenticAMD", 23, 0x31, 0), "EPYC 2nd Gen");
        assert_eq!(of("AuthenticAMD", 25, 0x11, 1), "EPYC 4th Gen");
        for (vendor, family, model) in [("AuthenticAMD", 21, 2), ("GenuineIntel", 6, 154), ("", 0, 0), ("0x41", 0, 1)] {
            assert_eq!(of(vendor, family, model, 0), UNKNOWN);
        }
    }

    #[test]
    fn an_arm_server_is_recognised_by_its_part() {
        let cpu = Cpu::parse("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n");
        assert_eq!(cpu.default_power().family, "Graviton");
    }

    #[test]
    fn an_unknown_cpu_gets_four_watts_a_thread_and_says_so() {
        let cpu = Cpu { threads: 8, ..Cpu::default() };
        let default = cpu.default_power();
        assert!(!default.is_known() && default.family.contains("4 W"));
        let full = default.power.at(&[Cores { count: 8, utilisation: 1.0 }], 1.0, None).0;
        assert!((full - 8.0 * 4.08).abs() < 1e-9 && (default.power.idle.0 - 8.0 * 0.48).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "(processor|model|flags|core id|cpu family|model name|\\PC|[\u{0}-\u{1f}:\n]){0,40}") {
            let cpu = Cpu::parse(&text);
            let power = cpu.default_power().power;
            prop_assert!(power.idle.0 > 0.0 && power.idle.0.is_finite());
            prop_assert!(!cpu.name.chars().any(char::is_control));
        }
    }
}
