//! The meter, and what it says about an agent.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use aya::{Ebpf, include_bytes_aligned};

use crate::attachment::{Attachment, Constant, Object};
use crate::counters::Counters;
use crate::error::EbpfError;
use crate::sample::{Ring, Sample};

/// A sample for every 2⁸ pages: 1 MiB where pages have 4 KiB.
const SAMPLE_SHIFT: u32 = 8;

static ENTROPY: Object = Object {
    bytes: include_bytes_aligned!("bpf/entropy.bpf.o"),
    tracepoint: "mm_page_free",
    typed: "erased_btf",
    raw: "erased_raw",
    constants: &[("SAMPLE_SHIFT", Constant::Is(SAMPLE_SHIFT)), ("KERNEL_KNOWN", Constant::KernelKnown)],
};

/// What an agent has released since it is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Bytes of memory that were the only place of their content.
    pub bytes: u64,
    /// The same in pages.
    pub pages: u64,
    /// How many times something was given back; a huge page counts once.
    pub frees: u64,
    /// Samples that found the ring full.
    pub lost_samples: u64,
}

/// Whether, and how, erasure can be measured here: loads the program, and lets go of it.
///
/// # Errors
///
/// [`EbpfError`] with what to do.
pub fn available() -> Result<Attachment, EbpfError> {
    ErasureMeter::open(1).map(|meter| meter.attachment())
}

/// Counts what agents erase. The program is attached until the meter and everything it watches are dropped.
pub struct ErasureMeter {
    running: Arc<Running>,
    ring: Ring,
}

struct Running {
    counters: Counters<3>,
    attachment: Attachment,
    /// Bytes of a page.
    page: u64,
    /// Detaches when it is dropped.
    _programs: Ebpf,
}

impl ErasureMeter {
    /// Loads and attaches the program, the best way that the kernel allows.
    ///
    /// `level` is how deep in the tree of cgroups the agents' groups lie: [`crate::cgroup::level`] of one of them. Groups
    /// below an agent's are the agent's.
    ///
    /// # Errors
    ///
    /// [`EbpfError`] with what to do.
    pub fn open(level: u32) -> Result<Self, EbpfError> {
        let (programs, attachment) = ENTROPY.attach_best(level)?;
        Self::of(programs, attachment)
    }

    /// Attaches one way or not at all; [`ErasureMeter::open`] chooses.
    ///
    /// # Errors
    ///
    /// [`EbpfError`] with what to do.
    pub fn open_as(level: u32, attachment: Attachment) -> Result<Self, EbpfError> {
        Self::of(ENTROPY.attach(level, attachment)?, attachment)
    }

    fn of(mut programs: Ebpf, attachment: Attachment) -> Result<Self, EbpfError> {
        let counters = Counters::new(programs.take_map("RELEASED").ok_or(EbpfError::Object("its counters"))?)?;
        let ring = Ring::new(programs.take_map("SAMPLES").ok_or(EbpfError::Object("its ring"))?)?;
        let running = Running { counters, attachment, page: page_size(), _programs: programs };
        Ok(Self { running: Arc::new(running), ring })
    }

    /// How it is attached.
    #[must_use]
    pub fn attachment(&self) -> Attachment {
        self.running.attachment
    }

    /// Watches an agent's cgroup, from zero.
    ///
    /// Watch it before the agent's first task is in it, and take what is read when that task has become the agent's program
    /// for zero: a forked child shares its parent's memory until `exec`, and whatever the parent drops in the meantime is the
    /// child's to erase. (`vfork` and `posix_spawn` do not share in this way.)
    ///
    /// `cgroup_id` is the id of a group at the level that the meter was opened for ([`crate::cgroup::id`]); a group at another
    /// level is accepted and stays at zero.
    ///
    /// # Errors
    ///
    /// [`EbpfError::AlreadyWatched`], [`EbpfError::NoRoom`].
    pub fn watch(&self, cgroup_id: u64) -> Result<Watched, EbpfError> {
        self.running.counters.insert(cgroup_id)?;
        let scratch = RefCell::new(self.running.counters.scratch());
        Ok(Watched { running: Arc::clone(&self.running), cgroup: cgroup_id, scratch })
    }

    /// Gives the waiting samples to `take`, at most as many as fit into the ring (some 5,000), and says how many there were.
    /// Allocates nothing. Not collecting them harms nobody: the counters do not depend on them.
    pub fn samples(&mut self, take: impl FnMut(Sample)) -> usize {
        self.ring.drain(self.running.page, take)
    }
}

impl fmt::Debug for ErasureMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErasureMeter").field("attachment", &self.running.attachment).finish_non_exhaustive()
    }
}

/// An agent that is watched until this is dropped.
pub struct Watched {
    running: Arc<Running>,
    cgroup: u64,
    scratch: RefCell<Box<[u64]>>,
}

impl Watched {
    /// What was released since the watch began. One system call; allocates nothing.
    ///
    /// # Errors
    ///
    /// [`EbpfError::Counters`]: the kernel does not answer.
    pub fn read(&self) -> Result<Released, EbpfError> {
        let [pages, frees, lost_samples] = self.running.counters.sum(self.cgroup, &mut self.scratch.borrow_mut())?;
        Ok(Released { bytes: pages.saturating_mul(self.running.page), pages, frees, lost_samples })
    }

    /// Whose.
    #[must_use]
    pub const fn cgroup_id(&self) -> u64 {
        self.cgroup
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // Should it fail, the key stays until the meter ends, and can be watched no second time: nothing worse.
        let _ = self.running.counters.remove(self.cgroup);
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("cgroup", &self.cgroup).finish_non_exhaustive()
    }
}

/// Bytes of a page.
fn page_size() -> u64 {
    // SAFETY: `sysconf` takes a number and gives one.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
