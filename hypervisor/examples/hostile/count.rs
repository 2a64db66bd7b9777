//! Progress that others can see.

use std::sync::atomic::{AtomicU64, Ordering};

/// Adds to a counter in a shared file, in `processes` processes of `threads` threads: progress that others can see.
pub(super) fn count(path: &str, processes: u64, threads: u64, syscalls: bool) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let [counter, ready] = counters(&file);
    for _ in 1..processes.max(1) {
        // SAFETY: this process has one thread.
        if unsafe { libc::fork() } == 0 {
            break;
        }
    }
    // Who is forking would else share its core with all that it has forked.
    ready.fetch_add(1, Ordering::Relaxed);
    while ready.load(Ordering::Relaxed) < processes {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let work = move || loop {
        if syscalls {
            std::hint::black_box(rustix::fs::stat("/").unwrap());
        }
        counter.fetch_add(1, Ordering::Relaxed);
    };
    for _ in 1..threads.max(1) {
        std::thread::Builder::new().stack_size(64 * 1024).spawn(work).unwrap();
    }
    work()
}

/// In a file of at least a page: the counter, and how many processes are ready to count.
pub(super) fn counters(file: &std::fs::File) -> &'static [AtomicU64; 2] {
    use rustix::mm::{MapFlags, ProtFlags, mmap};
    // SAFETY: a shared mapping of a file that nobody makes shorter, never unmapped; only used as atomics.
    unsafe {
        let page = mmap(std::ptr::null_mut(), 4096, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0);
        &*page.unwrap().cast()
    }
}
