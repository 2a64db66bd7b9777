//! Mappings.

use std::io::Error;

pub(crate) const PAGE: usize = 4096;

/// Some pages, all ours.
#[derive(Clone, Copy)]
pub(crate) struct Region {
    start: usize,
    pages: usize,
}

fn check(answer: i32) {
    assert_eq!(answer, 0, "{}", Error::last_os_error());
}

/// A new private mapping.
pub(crate) fn map(pages: usize) -> Region {
    Region::new(pages * PAGE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
}

impl Region {
    pub(crate) fn new(bytes: usize, flags: i32, file: i32) -> Self {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping wherever there is room.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, rights, flags, file, 0) };
        assert_ne!(start, libc::MAP_FAILED, "{}", Error::last_os_error());
        Self { start: start as usize, pages: bytes.div_ceil(PAGE) }
    }

    /// Addresses without memory.
    pub(crate) fn reserve(bytes: usize) -> Self {
        Self::new(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1)
    }

    pub(crate) const fn pages(&self) -> usize {
        self.pages
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> *mut libc::c_void {
        self.at(0)
    }

    fn at(&self, page: usize) -> *mut libc::c_void {
        assert!(page <= self.pages);
        std::ptr::with_exposed_provenance_mut(self.start + page * PAGE)
    }

    /// Writes to some pages.
    pub(crate) fn touch(&self, from: usize, pages: usize) {
        for page in from..from + pages {
            // SAFETY: within the mapping (`at` checks), which nobody else uses.
            unsafe { self.at(page).cast::<u8>().write_volatile(1) };
        }
    }

    pub(crate) fn advise(&self, from: usize, pages: usize, advice: i32) {
        assert!(from + pages <= self.pages);
        // SAFETY: within the mapping; its content is of no use to anybody.
        check(unsafe { libc::madvise(self.at(from), pages * PAGE, advice) });
    }

    /// `process_madvise` on this process itself. Says whether the kernel does that (6.13).
    pub(crate) fn advise_by_pidfd(&self, from: usize, pages: usize, advice: i32) -> bool {
        assert!(from + pages <= self.pages);
        let range = libc::iovec { iov_base: self.at(from), iov_len: pages * PAGE };
        // SAFETY: within the mapping; the kernel copies the one range.
        unsafe {
            let pidfd = libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0);
            let done = libc::syscall(libc::SYS_process_madvise, pidfd, &raw const range, 1, advice, 0);
            libc::close(i32::try_from(pidfd).unwrap());
            done >= 0
        }
    }

    pub(crate) fn lock(&self) {
        // SAFETY: within the mapping. May be refused (RLIMIT_MEMLOCK): then it is not locked.
        unsafe { libc::mlock(self.at(0), self.pages * PAGE) };
    }

    pub(crate) fn unmap(self) {
        // SAFETY: ours, and used no more.
        check(unsafe { libc::munmap(self.at(0), self.pages * PAGE) });
    }

    /// Gives back the pages from `keep` on by munmap.
    pub(crate) fn cut(&mut self, keep: usize) {
        // SAFETY: the tail of the mapping, used no more.
        check(unsafe { libc::munmap(self.at(keep), (self.pages - keep) * PAGE) });
        self.pages = keep;
    }

    /// Gives back pages at the beginning.
    pub(crate) fn behead(&mut self, pages: usize) {
        // SAFETY: the head of the mapping, used no more.
        check(unsafe { libc::munmap(self.at(0), pages * PAGE) });
        self.start += pages * PAGE;
        self.pages -= pages;
    }

    /// Grows, moves or shrinks by mremap.
    pub(crate) fn remap(&mut self, pages: usize) {
        // SAFETY: the whole mapping, which has no other references.
        let start = unsafe { libc::mremap(self.at(0), self.pages * PAGE, pages * PAGE, libc::MREMAP_MAYMOVE) };
        assert_ne!(start, libc::MAP_FAILED, "{}", Error::last_os_error());
        *self = Self { start: start as usize, pages };
    }
}

/// Waits for a child.
pub(crate) fn wait(child: i32) {
    assert!(child > 0, "fork: {}", Error::last_os_error());
    // SAFETY: wants no status.
    assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
}
