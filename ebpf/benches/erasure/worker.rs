//! The process that is measured: it does what it is told, and says how long it took.

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

const PAGE: usize = 4096;

/// What can be asked for: name, and how often it is done for one answer.
pub(crate) const OPERATIONS: [(&str, u32); 8] = [
    ("getppid", 100_000),
    ("munmap untouched", 10_000),
    ("munmap 1", 10_000),
    ("munmap 64", 500),
    ("munmap 4096", 12),
    ("fault", 12),
    ("madvise 64", 500),
    ("fork", 60),
];

/// Answers until its input ends.
pub(crate) fn work() {
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (_, times) = OPERATIONS.iter().find(|(name, _)| *name == line).unwrap();
        let mut spent = Duration::ZERO;
        for _ in 0..*times {
            spent += once(&line);
        }
        let clock = if line == "getppid" { 0.0 } else { clock() };
        let each = if line == "fault" { f64::from(*times) * 4096.0 } else { f64::from(*times) };
        writeln!(out, "{}", spent.as_nanos() as f64 / each - clock).unwrap();
        out.flush().unwrap();
    }
}

/// What looking at the clock twice costs.
fn clock() -> f64 {
    let spent: Duration = (0..10_000).map(|_| Instant::now().elapsed()).sum();
    spent.as_nanos() as f64 / 10_000.0
}

fn once(operation: &str) -> Duration {
    match operation {
        "getppid" => timed(|| crate::keep(std::os::unix::process::parent_id())),
        "munmap untouched" => unmap(64, 0).1,
        "munmap 1" => unmap(1, 1).1,
        "munmap 64" => unmap(64, 64).1,
        "munmap 4096" => unmap(4096, 4096).1,
        "fault" => unmap(4096, 4096).0,
        "madvise 64" => madvise(64),
        _ => timed(fork),
    }
}

fn timed(action: impl FnOnce()) -> Duration {
    let from = Instant::now();
    action();
    from.elapsed()
}

fn map(pages: usize) -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping anywhere.
    let memory =
        unsafe { libc::mmap(std::ptr::null_mut(), pages * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    assert_ne!(memory, libc::MAP_FAILED);
    memory.cast()
}

fn touch(memory: *mut u8, pages: usize) {
    for page in 0..pages {
        // SAFETY: within the mapping that the caller made.
        unsafe { memory.add(page * PAGE).write_volatile(1) };
    }
}

/// How long touching and unmapping took.
fn unmap(pages: usize, touched: usize) -> (Duration, Duration) {
    let memory = map(pages);
    let faults = timed(|| touch(memory, touched));
    // SAFETY: ours, and used no more.
    let unmapping = timed(|| assert_eq!(unsafe { libc::munmap(memory.cast(), pages * PAGE) }, 0));
    (faults, unmapping)
}

/// Nothing but taking and releasing memory.
pub(crate) fn churn() {
    for _ in 0..60 {
        unmap(4096, 4096);
    }
}

fn madvise(pages: usize) -> Duration {
    let memory = map(pages);
    touch(memory, pages);
    // SAFETY: ours; its content is not needed.
    let took = timed(|| assert_eq!(unsafe { libc::madvise(memory.cast(), pages * PAGE, libc::MADV_DONTNEED) }, 0));
    // SAFETY: ours, and used no more.
    unsafe { libc::munmap(memory.cast(), pages * PAGE) };
    took
}

fn fork() {
    // SAFETY: this process has one thread; the child only exits.
    match unsafe { libc::fork() } {
        // SAFETY: ends the child.
        0 => unsafe { libc::_exit(0) },
        // SAFETY: waits for the child, and wants no status.
        child => assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child),
    }
}
