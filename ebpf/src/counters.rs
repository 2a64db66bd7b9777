//! Counters that the kernel keeps for each agent on each core.
//!
//! Read once a tick for every agent that ran, so reading allocates nothing: the library's own call would allocate twice.
//! All raw system calls of this crate are in this file. Numbers and layout: `bpf(2)`, `include/uapi/linux/bpf.h`.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::{Map, MapData};

use crate::error::EbpfError;

const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_NOEXIST: u64 = 1;

/// The part of `union bpf_attr` that these commands use.
#[repr(C)]
struct Attributes {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A per-core hash of agents, `FIELDS` numbers each.
#[derive(Debug)]
pub(crate) struct Counters<const FIELDS: usize> {
    map: MapData,
    /// Cores that the machine may ever have: the kernel answers for all of them.
    cores: usize,
}

impl<const FIELDS: usize> Counters<FIELDS> {
    pub(crate) fn new(map: Map) -> Result<Self, EbpfError> {
        let Map::PerCpuHashMap(map) = map else {
            return Err(EbpfError::Object("its counters"));
        };
        let cores = aya::util::nr_cpus().map_err(|(_, source)| EbpfError::Processors(source))?;
        Ok(Self { map, cores })
    }

    /// Room for one answer of the kernel.
    pub(crate) fn scratch(&self) -> Box<[u64]> {
        vec![0; self.cores * FIELDS].into()
    }

    /// Begins to count for `cgroup`, from zero.
    pub(crate) fn insert(&self, cgroup: u64) -> Result<(), EbpfError> {
        let mut zeros = self.scratch();
        self.call(BPF_MAP_UPDATE_ELEM, cgroup, Some(&mut zeros), BPF_NOEXIST).map_err(|source| {
            match source.raw_os_error() {
                Some(libc::EEXIST) => EbpfError::AlreadyWatched(cgroup),
                Some(libc::E2BIG | libc::ENOMEM) => EbpfError::NoRoom { cgroup, source },
                _ => EbpfError::Counters { cgroup, what: "made", source },
            }
        })
    }

    /// Forgets `cgroup`.
    pub(crate) fn remove(&self, cgroup: u64) -> Result<(), EbpfError> {
        self.call(BPF_MAP_DELETE_ELEM, cgroup, None, 0).map_err(|source| EbpfError::Counters {
            cgroup,
            what: "removed",
            source,
        })
    }

    /// The sums over all cores. `scratch` is from [`Counters::scratch`].
    pub(crate) fn sum(&self, cgroup: u64, scratch: &mut [u64]) -> Result<[u64; FIELDS], EbpfError> {
        self.call(BPF_MAP_LOOKUP_ELEM, cgroup, Some(scratch), 0).map_err(|source| EbpfError::Counters {
            cgroup,
            what: "read",
            source,
        })?;
        let mut sums = [0u64; FIELDS];
        for core in scratch.chunks_exact(FIELDS) {
            for (sum, value) in sums.iter_mut().zip(core) {
                *sum = sum.wrapping_add(*value);
            }
        }
        Ok(sums)
    }

    fn call(&self, command: libc::c_int, key: u64, value: Option<&mut [u64]>, flags: u64) -> io::Result<()> {
        assert!(value.as_ref().is_none_or(|value| value.len() == self.cores * FIELDS), "the kernel writes this much");
        let attributes = Attributes {
            map: self.map.fd().as_fd().as_raw_fd().cast_unsigned(),
            padding: 0,
            key: (&raw const key).addr() as u64,
            value: value.map_or(0, |value| value.as_mut_ptr().expose_provenance() as u64),
            flags,
        };
        // SAFETY: the attributes live until the call returns, and so do the key (eight bytes, as the map's keys are) and the
        // value, which has room for every possible core (checked above); the kernel keeps no pointer to any of them.
        let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attributes, size_of::<Attributes>()) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
