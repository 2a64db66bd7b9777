//! The syscall audit: how many system calls of which class an agent makes. Off unless somebody opens it.
//!
//! As soon as anything listens to `raw_syscalls:sys_enter` the kernel leads *every* system call of *every* task through its
//! slow path (`SYSCALL_WORK_SYSCALL_TRACEPOINT`, kernel/tracepoint.c `syscall_regfunc`), agents or not: docs/landauer.md has
//! the cost. So it is a second program, for people who want to look.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use aya::maps::Array;
use aya::{Ebpf, include_bytes_aligned};

use crate::attachment::{Attachment, Object};
use crate::class::{Class, table};
use crate::counters::Counters;
use crate::error::EbpfError;

static SYSCALL: Object = Object {
    bytes: include_bytes_aligned!("bpf/syscall.bpf.o"),
    tracepoint: "sys_enter",
    typed: "call_btf",
    raw: "call_raw",
    constants: &[],
};

/// Places of a class in the kernel's counters; `CLASSES` of `bpf/syscall.bpf.c`.
const PLACES: usize = 8;

/// System calls since the watch began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls([u64; PLACES]);

impl Calls {
    /// How many of a class. 32-bit programs are sorted by the 64-bit call of the same number, which is another call.
    #[must_use]
    pub const fn of(&self, class: Class) -> u64 {
        self.0[class.index()]
    }

    /// How many at all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// Counts system calls of agents. Makes every system call of the machine slower while it, or anything it watches, lives.
pub struct SyscallAudit(Arc<Running>);

struct Running {
    counters: Counters<PLACES>,
    attachment: Attachment,
    _programs: Ebpf,
}

impl SyscallAudit {
    /// Loads and attaches the program. `level` is the same as for [`crate::ErasureMeter::open`].
    ///
    /// # Errors
    ///
    /// [`EbpfError`] with what to do.
    pub fn open(level: u32) -> Result<Self, EbpfError> {
        let (mut programs, attachment) = SYSCALL.attach_best(level)?;
        let classes = programs.take_map("CLASS_OF").ok_or(EbpfError::Object("its classes"))?;
        let mut classes = Array::<_, u32>::try_from(classes).map_err(|_| EbpfError::Object("its classes"))?;
        for (number, class) in (0u32..).zip(table()) {
            let place = u32::try_from(class.index()).expect("a class is below eight");
            classes.set(number, place, 0).map_err(|_| EbpfError::Object("room for all classes"))?;
        }
        let counters = Counters::new(programs.take_map("CALLS").ok_or(EbpfError::Object("its counters"))?)?;
        Ok(Self(Arc::new(Running { counters, attachment, _programs: programs })))
    }

    /// How it is attached.
    #[must_use]
    pub fn attachment(&self) -> Attachment {
        self.0.attachment
    }

    /// Watches an agent's cgroup, from zero.
    ///
    /// # Errors
    ///
    /// [`EbpfError::AlreadyWatched`], [`EbpfError::NoRoom`].
    pub fn watch(&self, cgroup_id: u64) -> Result<AuditedCalls, EbpfError> {
        self.0.counters.insert(cgroup_id)?;
        let scratch = RefCell::new(self.0.counters.scratch());
        Ok(AuditedCalls { running: Arc::clone(&self.0), cgroup: cgroup_id, scratch })
    }
}

impl fmt::Debug for SyscallAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyscallAudit").field("attachment", &self.0.attachment).finish_non_exhaustive()
    }
}

/// An agent whose system calls are counted until this is dropped.
pub struct AuditedCalls {
    running: Arc<Running>,
    cgroup: u64,
    scratch: RefCell<Box<[u64]>>,
}

impl AuditedCalls {
    /// Calls since the watch began. One system call; allocates nothing.
    ///
    /// # Errors
    ///
    /// [`EbpfError::Counters`]: the kernel does not answer.
    pub fn read(&self) -> Result<Calls, EbpfError> {
        self.running.counters.sum(self.cgroup, &mut self.scratch.borrow_mut()).map(Calls)
    }
}

impl Drop for AuditedCalls {
    fn drop(&mut self) {
        // Should it fail, the key stays until the audit ends: nothing worse.
        let _ = self.running.counters.remove(self.cgroup);
    }
}

impl fmt::Debug for AuditedCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditedCalls").field("cgroup", &self.cgroup).finish_non_exhaustive()
    }
}
