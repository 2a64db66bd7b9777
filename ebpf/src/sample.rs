//! Which process of an agent erased: one record for some hundred pages.

use aya::maps::{Map, MapData, RingBuf};

use crate::error::EbpfError;

/// A process was seen to release the last of some pages, and stands for all of them.
///
/// Samples are for reports, not for bills: where a core serves several processes of an agent in turn they name the one that
/// happened to be there, and when nobody collects them they are lost (and counted: [`Released::lost_samples`]).
///
/// [`Released::lost_samples`]: crate::Released::lost_samples
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The agent's cgroup.
    pub cgroup: u64,
    /// The process, as the first pid namespace numbers it.
    pub pid: u32,
    /// Its thread.
    pub thread: u32,
    /// How many bytes the sample stands for.
    pub bytes: u64,
    /// The thread's name as the kernel keeps it: bytes of anybody's choice, padded with zeros.
    pub comm: [u8; 16],
}

impl Sample {
    /// `struct sample` of `bpf/entropy.bpf.c`.
    fn parse(record: &[u8], page: u64) -> Option<Self> {
        let (cgroup, rest) = record.split_first_chunk()?;
        let (pages, rest) = rest.split_first_chunk()?;
        let (pid, rest) = rest.split_first_chunk()?;
        let (thread, rest) = rest.split_first_chunk()?;
        let (comm, _) = rest.split_first_chunk()?;
        Some(Self {
            cgroup: u64::from_ne_bytes(*cgroup),
            pid: u32::from_ne_bytes(*pid),
            thread: u32::from_ne_bytes(*thread),
            bytes: u64::from_ne_bytes(*pages).saturating_mul(page),
            comm: *comm,
        })
    }

    /// The name, with what cannot be shown replaced.
    #[must_use]
    pub fn name(&self) -> String {
        let end = self.comm.iter().position(|&byte| byte == 0).unwrap_or(self.comm.len());
        String::from_utf8_lossy(&self.comm[..end]).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
    }
}

/// The ring that samples arrive in.
pub(crate) struct Ring(RingBuf<MapData>);

/// No more than the ring holds: an agent that fills it as fast as it is emptied keeps nobody busy.
const AT_ONCE: usize = 256 * 1024 / 48;

impl Ring {
    pub(crate) fn new(map: Map) -> Result<Self, EbpfError> {
        RingBuf::try_from(map).map(Self).map_err(|_| EbpfError::Object("its ring"))
    }

    /// Gives every waiting sample to `take`, and says how many there were.
    pub(crate) fn drain(&mut self, page: u64, mut take: impl FnMut(Sample)) -> usize {
        for taken in 0..AT_ONCE {
            let Some(record) = self.0.next() else { return taken };
            if let Some(sample) = Sample::parse(&record, page) {
                take(sample);
            }
        }
        AT_ONCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_an_agent_chose_does_no_harm_on_a_terminal() {
        let sample = Sample { cgroup: 1, pid: 2, thread: 2, bytes: 0, comm: *b"\x1b[31mred\xff\n\0\0\0\0\0\0" };
        assert_eq!(sample.name(), "?[31mred\u{fffd}?");
    }

    #[test]
    fn a_record_that_is_cut_off_is_no_sample() {
        assert_eq!(Sample::parse(&[0; 39], 4096), None);
        assert!(Sample::parse(&[0; 40], 4096).is_some());
    }
}
