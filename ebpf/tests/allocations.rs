//! What is read every tick allocates nothing.

#![allow(clippy::unwrap_used, reason = "a failure to unwrap is a failure of the test")]

mod group;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use group::Group;
use maxwell_ebpf::{EbpfError, ErasureMeter, SyscallAudit};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes unchanged to the system allocator; the counter is not memory that anybody is given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is being torn down has no counter any more, and nothing to count.
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

/// What can be given to the market's thread.
fn can_be_sent<T: Send>(_: &T) {}

#[test]
fn a_read_allocates_nothing() {
    let Some(group) = Group::new("allocations") else {
        return println!("skipped: no cgroup of version 2 can be made here");
    };
    let mut meter = match ErasureMeter::open(group.level()) {
        Ok(meter) => meter,
        Err(error @ (EbpfError::Forbidden(_) | EbpfError::Unsupported(_))) => return println!("skipped: {error}"),
        Err(error) => panic!("{error}"),
    };
    let audit = SyscallAudit::open(group.level()).unwrap();
    let (watched, calls) = (meter.watch(group.id()).unwrap(), audit.watch(group.id()).unwrap());
    can_be_sent(&watched);
    can_be_sent(&calls);
    can_be_sent(&meter);
    can_be_sent(&audit);
    let mut command = group.command(std::path::Path::new("/bin/sh"));
    assert!(command.args(["-c", "head -c 8M /dev/zero | sort -S 8M >/dev/null"]).status().unwrap().success());
    let before = COUNT.get();
    let (released, called) = (watched.read().unwrap(), calls.read().unwrap());
    let mut sampled = 0;
    meter.samples(|sample| sampled += sample.bytes);
    assert_eq!(COUNT.get() - before, 0);
    assert!(released.bytes > 1 << 20 && called.total() > 100 && sampled > 0, "{released:?} {called:?} {sampled}");
}
