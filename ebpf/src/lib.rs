//! The erasure meter: what Landauer's tax is levied on, for processes.
//!
//! A process erases information when it gives memory with content back to the kernel, and nobody else holds that memory.
//! Whatever the system call, or none at all, the kernel then comes through one place, `free_pages_prepare`, and past one
//! tracepoint, `kmem:mm_page_free`. A program there (`bpf/entropy.bpf.c`) looks which agent's cgroup the running task
//! belongs to, and adds the page to that agent's count. User space reads the counts once a tick:
//!
//! ```text
//!  agent's task: munmap, madvise, brk, exit, …            market's thread, every tick
//!        │                                                        ▲
//!        ▼ last reference falls                                   │ Watched::read: pages, one system call
//!  kmem:mm_page_free ──► swap-backed? ──► an agent's? ──► counter of (agent, core)
//!                            │ no            │ no             └──► every 256th page: a sample of who did it
//!                            ▼               ▼
//!                         nothing         nothing
//! ```
//!
//! [`ErasureMeter`] is the meter, [`SyscallAudit`] a separate program that counts system calls by class and is off unless asked
//! for, [`Smaps`] the estimate for machines where BPF is forbidden, and [`Held`] tells what rent is paid on.
//!
//! The programs are compiled already: their objects lie beside their sources, and `cargo xtask bpf` shows that the ones
//! come from the others. Nothing is pinned; everything ends with the process that opened it. docs/landauer.md says what
//! the meter sees, what it does not, and what it costs.

mod attachment;
mod audit;
pub mod cgroup;
mod class;
mod counters;
mod erasure;
mod error;
mod held;
mod sample;
mod smaps;

pub use attachment::Attachment;
pub use audit::{AuditedCalls, Calls, SyscallAudit};
pub use class::Class;
pub use erasure::{ErasureMeter, Released, Watched, available};
pub use error::EbpfError;
pub use held::Held;
pub use sample::Sample;
pub use smaps::Smaps;
