//! What the kernel says elsewhere.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;

/// Room for all mappings of a process; taken once, so that looking erases nothing.
const ROOM: usize = 1 << 20;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![1; ROOM]);
}

fn with(path: &str, look: impl FnOnce(&str) -> u64) -> u64 {
    BUFFER.with_borrow_mut(|buffer| {
        let mut file = File::open(path).unwrap();
        let mut length = 0;
        loop {
            match file.read(&mut buffer[length..]).unwrap() {
                0 => break,
                more => length += more,
            }
        }
        assert!(length < buffer.len(), "too many mappings");
        look(std::str::from_utf8(&buffer[..length]).unwrap())
    })
}

fn kilobytes(line: &str, label: &str) -> Option<u64> {
    line.strip_prefix(label)?.trim().strip_suffix(" kB")?.parse().ok()
}

/// Bytes of anonymous memory in this process's mappings.
pub(crate) fn anonymous() -> u64 {
    with("/proc/self/smaps_rollup", |text| text.lines().find_map(|line| kilobytes(line, "Anonymous:")).unwrap() * 1024)
}

/// Bytes of anonymous memory that only this process holds: what its end erases.
pub(crate) fn private() -> u64 {
    let look = || {
        with("/proc/self/smaps", |text| {
            let (mut total, mut anonymous, mut dirty, mut clean, mut of_file) = (0, 0, 0, 0, false);
            for line in text.lines() {
                if let Some(n) = kilobytes(line, "Anonymous:") {
                    anonymous = n;
                } else if let Some(n) = kilobytes(line, "Private_Dirty:") {
                    dirty = n;
                } else if let Some(n) = kilobytes(line, "Private_Clean:") {
                    clean = n;
                } else if line.starts_with("VmFlags:") {
                    // Clean pages of a file are not anonymous; clean anonymous pages were given up by MADV_FREE.
                    total += anonymous.min(if of_file { dirty } else { dirty + clean });
                } else if let Some(inode) = line.split(' ').filter(|field| !field.is_empty()).nth(4)
                    && line.as_bytes().first().is_some_and(u8::is_ascii_hexdigit)
                {
                    of_file = inode != "0";
                }
            }
            total * 1024
        })
    };
    // The first look makes a child's own copy of the buffer, the second sees it.
    look();
    look()
}
