//! `perf_event_open(2)`, for counters of a whole package: the only system call here that no safe library offers.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::root::ReadError;

/// `struct perf_event_attr` as of its first version (`include/uapi/linux/perf_event.h`, `PERF_ATTR_SIZE_VER0`): later
/// kernels take it for what it is by its size.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    breakpoint_address: u64,
}

const SIZE: u32 = 64;
const _: () = assert!(size_of::<Attributes>() == SIZE as usize, "the kernel's PERF_ATTR_SIZE_VER0");
/// `PERF_FORMAT_GROUP`: one read answers all members.
const FORMAT_GROUP: u64 = 1 << 3;
/// `PERF_FLAG_FD_CLOEXEC`.
const FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;

/// Opens an event on one core, for all processes, counting at once. With a leader it joins the leader's group.
///
/// # Errors
///
/// [`ReadError`]: denied without `CAP_PERFMON`, unless `perf_event_paranoid` is 0 or less.
pub(crate) fn open(kind: u32, config: u64, cpu: u32, leader: Option<BorrowedFd<'_>>) -> Result<OwnedFd, ReadError> {
    let attributes = Attributes { kind, size: SIZE, config, read_format: FORMAT_GROUP, ..Attributes::default() };
    let cpu = libc::c_int::try_from(cpu).map_err(|_| ReadError::Impossible)?;
    let group = leader.map_or(-1, |leader| leader.as_raw_fd());
    let pid: libc::pid_t = -1;
    // SAFETY: the kernel reads `size` bytes of the attributes, which live until the call returns, and writes to no memory
    // of ours: a size that it knows is never written back.
    let fd =
        unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, pid, cpu, group, FLAG_FD_CLOEXEC) };
    match libc::c_int::try_from(fd) {
        // SAFETY: the call succeeded, so this descriptor is open and nobody else's.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}
