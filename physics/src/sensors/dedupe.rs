//! Which of the counters that a source shows are added up, so that every joule is counted once.
//!
//! ```text
//!                ┌──────────── psys: the board, with everything on it ────────────┐
//!                │  ┌─ package-0 ──────────┐  ┌─ package-1 ───┐                    │
//!                │  │ core (PP0), uncore   │  │               │   dram-0   dram-1  │   display, disks, regulators
//!                │  └──────────────────────┘  └───────────────┘                    │
//!                └────────────────────────────────────────────────────────────────┘
//!  the sum is    package-0 + package-1 + dram-0 + dram-1;      psys only where no package is shown
//! ```
//!
//! * **Core and uncore are inside the package** and never added to it.
//! * **Packages and memory win over psys.** psys also holds what no agent causes (a screen, a charger), is off by the unit
//!   on some servers, and is missing on most. Where only psys exists, it is better than a model.
//! * **A twin is one counter seen through two doors**: `intel-rapl-mmio` shows the package that `intel-rapl` shows. It is
//!   dropped, unless it is the only door that opens.
//! * **A mirror is one counter seen once a die**: AMD's dies, and NUMA nodes in amd_energy, all show their socket's counter
//!   (`arch/x86/events/rapl.c`, `rapl_pkg_pmu_is_pkg_scope`). Dies of one socket are watched for a few milliseconds; those
//!   that show the same are one. Dies that differ (Cascade Lake-AP) are all counted. Sockets are never compared: they are
//!   two.
//! * **What a thing is, its name says**, not its number: `intel-rapl:1` may be psys.

use maxwell_core::sensor::Domain;

use super::finding::Item;

/// What a counter counts, before it is known whether it takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A socket, or a die of it.
    Package { socket: u32, die: u32 },
    /// The memory of a socket or die.
    Dram { socket: u32, die: u32 },
    /// The whole board.
    Platform,
    /// A part of a package.
    Part,
}

/// A counter that was seen.
#[derive(Debug)]
pub(crate) struct Candidate<T> {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) kind: Kind,
    /// It is seen through the second door.
    pub(crate) twin: bool,
    pub(crate) port: T,
}

/// Splits candidates into those that are added up, with their domains, and the reasons why the others are not.
/// `mirrors` tells whether two counters of one socket are the same counter.
pub(crate) fn dedupe<T>(
    mut candidates: Vec<Candidate<T>>,
    mut mirrors: impl FnMut(&T, &T) -> bool,
) -> (Vec<(Domain, Candidate<T>)>, Vec<Item>) {
    let mut kept: Vec<Candidate<T>> = Vec::new();
    let mut dropped = Vec::new();
    let mut drop = |candidate: &Candidate<T>, why: &str| {
        dropped.push(Item::left_out(&candidate.name, &candidate.path, why));
    };
    // The first door first, and dies in order.
    candidates.sort_by_key(|candidate| (candidate.twin, order(candidate.kind)));
    let has_package = candidates.iter().any(|candidate| matches!(candidate.kind, Kind::Package { .. }));
    for candidate in candidates {
        let same = |other: &Candidate<T>| other.kind == candidate.kind;
        let why = match candidate.kind {
            Kind::Part => Some("part of its package"),
            Kind::Platform if has_package => Some("contains the packages, which are counted"),
            Kind::Dram { .. } if !has_package => Some("no package is shown beside it"),
            _ if kept.iter().any(same) => {
                Some(if candidate.twin { "the same counter, seen a second time" } else { "seen a second time" })
            }
            kind => {
                let mirror =
                    |other: &Candidate<T>| same_socket(other.kind, kind) && mirrors(&other.port, &candidate.port);
                kept.iter().any(mirror).then_some("mirrors the counter of another die of its socket")
            }
        };
        match why {
            Some(why) => drop(&candidate, why),
            None => kept.push(candidate),
        }
    }
    (with_domains(kept), dropped)
}

/// Sockets by their number; where one has several dies that count for themselves, all dies of the machine in a row.
fn with_domains<T>(kept: Vec<Candidate<T>>) -> Vec<(Domain, Candidate<T>)> {
    let mut dies: Vec<(u32, u32)> = kept
        .iter()
        .filter_map(|candidate| match candidate.kind {
            Kind::Package { socket, die } => Some((socket, die)),
            _ => None,
        })
        .collect();
    dies.sort_unstable();
    let several = dies.windows(2).any(|pair| pair[0].0 == pair[1].0);
    let number = |socket: u32, die: u32| {
        let row = dies.iter().position(|other| *other == (socket, die));
        let number = if several { row.and_then(|row| u32::try_from(row).ok()).unwrap_or(socket) } else { socket };
        u16::try_from(number).unwrap_or(u16::MAX)
    };
    let domain = |kind| match kind {
        Kind::Package { socket, die } => Domain::Package(number(socket, die)),
        Kind::Dram { socket, die } => Domain::Dram(number(socket, die)),
        Kind::Platform | Kind::Part => Domain::Platform,
    };
    kept.into_iter().map(|candidate| (domain(candidate.kind), candidate)).collect()
}

fn order(kind: Kind) -> (u8, u32, u32) {
    match kind {
        Kind::Package { socket, die } => (0, socket, die),
        Kind::Dram { socket, die } => (1, socket, die),
        Kind::Platform => (2, 0, 0),
        Kind::Part => (3, 0, 0),
    }
}

fn same_socket(a: Kind, b: Kind) -> bool {
    match (a, b) {
        (Kind::Package { socket: a, .. }, Kind::Package { socket: b, .. })
        | (Kind::Dram { socket: a, .. }, Kind::Dram { socket: b, .. }) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The port is what the counter shows.
    fn candidates(seen: &[(&str, Kind, bool, u64)]) -> Vec<Candidate<u64>> {
        seen.iter()
            .map(|&(name, kind, twin, port)| Candidate { name: name.into(), path: name.into(), kind, twin, port })
            .collect()
    }

    fn kept(seen: &[(&str, Kind, bool, u64)]) -> Vec<Domain> {
        let (kept, dropped) = dedupe(candidates(seen), |a, b| a == b);
        assert_eq!(kept.len() + dropped.len(), seen.len(), "everything is counted or has a reason");
        assert!(dropped.iter().all(|item| item.note.is_some()));
        kept.into_iter().map(|(domain, _)| domain).collect()
    }

    const fn package(socket: u32, die: u32) -> Kind {
        Kind::Package { socket, die }
    }

    #[test]
    fn packages_and_memory_win_over_the_board() {
        let board = ("psys", Kind::Platform, false, 9);
        let seen = [
            board,
            ("package-0", package(0, 0), false, 5),
            ("dram", Kind::Dram { socket: 0, die: 0 }, false, 1),
            ("core", Kind::Part, false, 3),
        ];
        assert_eq!(kept(&seen), [Domain::Package(0), Domain::Dram(0)]);
        assert_eq!(kept(&[board]), [Domain::Platform]);
        assert_eq!(kept(&[board, board]), [Domain::Platform], "one board");
        assert_eq!(kept(&seen[2..]), [], "memory alone is not the machine");
    }

    #[test]
    fn the_second_door_counts_only_if_it_is_the_only_one() {
        let (msr, mmio) = (("package-0", package(0, 0), false, 5), ("package-0", package(0, 0), true, 6));
        assert_eq!(kept(&[mmio, msr]), [Domain::Package(0)]);
        assert_eq!(kept(&[mmio]), [Domain::Package(0)]);
    }

    #[test]
    fn mirrored_dies_are_one_and_true_dies_are_many() {
        let die = |socket, die, shows| ("die", package(socket, die), false, shows);
        assert_eq!(kept(&[die(0, 0, 7), die(0, 1, 7), die(0, 2, 7)]), [Domain::Package(0)]);
        assert_eq!(kept(&[die(0, 0, 7), die(1, 0, 7)]), [Domain::Package(0), Domain::Package(1)], "two sockets");
        let all = [die(0, 0, 1), die(0, 1, 2), die(1, 0, 3), die(1, 1, 4)];
        assert_eq!(kept(&all), [Domain::Package(0), Domain::Package(1), Domain::Package(2), Domain::Package(3)]);
    }
}
