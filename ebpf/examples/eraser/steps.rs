//! The ways in which memory is given back.

use std::ffi::CString;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::{PAGE, Region, map, wait};
use crate::truth;

/// What there is, and what was erased.
pub(crate) struct State {
    random: u64,
    regions: Vec<Region>,
    /// Seen by children too.
    of_children: &'static AtomicU64,
    pub(crate) erased: u64,
}

const MOST: usize = 32;

impl State {
    pub(crate) fn new(seed: u64, erased: u64) -> Self {
        let shared = Region::new(PAGE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1);
        shared.touch(0, 1);
        // SAFETY: a mapped page that is never unmapped, aligned, and only used as this.
        let of_children = unsafe { &*shared.address().cast::<AtomicU64>() };
        of_children.store(0, Ordering::SeqCst);
        Self { random: seed.wrapping_mul(2) | 1, regions: Vec::with_capacity(MOST), of_children, erased }
    }

    /// xorshift64*.
    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let high = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % bound.max(1)
    }

    /// Does something that releases anonymous memory, and sees how much.
    fn releases(&mut self, action: impl FnOnce(&mut Self)) {
        let before = truth::anonymous();
        action(self);
        self.erased += before.saturating_sub(truth::anonymous());
    }

    pub(crate) fn step(&mut self) {
        while self.regions.len() < MOST / 2 {
            self.take();
        }
        match self.below(18) {
            0 | 1 => self.take(),
            2 => {
                let region = self.pick();
                self.releases(|_| region.unmap());
            }
            3 => self.changes(|region, at| region.cut(at)),
            4 => self.changes(|region, at| region.behead(at)),
            5 => self.changes(|region, at| region.remap(at)),
            6 => self.changes(|region, at| {
                let pages = region.pages();
                region.remap(pages + at);
            }),
            7 => self.changes(|region, at| region.advise(at / 2, at / 2 + 1, libc::MADV_DONTNEED)),
            8 => self.changes(|region, at| region.advise(at / 2, at / 2 + 1, libc::MADV_FREE)),
            9 => self.changes(|region, at| {
                // Older kernels refuse, and then nothing is released.
                region.advise_by_pidfd(at / 2, at / 2 + 1, libc::MADV_DONTNEED);
            }),
            10 => self.changes(|region, at| region.touch(at / 2, at / 2 + 1)),
            11 => self.grows_and_shrinks_the_heap(),
            12 => self.runs_threads(),
            13 => self.forks(false),
            14 => self.forks(true),
            15 => self.shares_memory(),
            16 => self.takes_huge_pages(),
            _ => {
                let region = self.pick();
                region.lock();
                self.releases(|_| region.unmap());
            }
        }
    }

    fn take(&mut self) {
        let region = map(1 + self.below(1024));
        let touched = self.below(region.pages() + 1);
        region.touch(region.pages() - touched, touched);
        if self.regions.len() == MOST {
            let oldest = self.regions.remove(0);
            self.releases(|_| oldest.unmap());
        }
        self.regions.push(region);
    }

    fn pick(&mut self) -> Region {
        let at = self.below(self.regions.len());
        self.regions.swap_remove(at)
    }

    /// `change` gets a number that is less than the region's pages, and above zero if it has more than one.
    fn changes(&mut self, change: impl FnOnce(&mut Region, usize)) {
        let mut region = self.pick();
        let at = 1 + self.below(region.pages() - 1);
        if at < region.pages() {
            self.releases(|_| change(&mut region, at));
        }
        self.regions.push(region);
    }

    fn grows_and_shrinks_the_heap(&mut self) {
        let bytes = (1 + self.below(400)) * PAGE;
        let step = isize::try_from(bytes).unwrap();
        // SAFETY: nothing is allocated between growing and shrinking, so the end of the heap is ours.
        unsafe {
            let start = libc::sbrk(step).cast::<u8>();
            assert_ne!(start.addr(), usize::MAX);
            for page in 0..bytes / PAGE {
                start.add(page * PAGE).write_volatile(1);
            }
        }
        self.releases(|_| {
            // SAFETY: as above.
            unsafe { libc::sbrk(-step) };
        });
    }

    /// Four threads release at once.
    fn runs_threads(&mut self) {
        const THREADS: usize = 4;
        let pages: Vec<usize> = (0..THREADS).map(|_| 1 + self.below(300)).collect();
        let (ready, go, done) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
        std::thread::scope(|scope| {
            for &pages in &pages {
                let (ready, go, done) = (&ready, &go, &done);
                scope.spawn(move || {
                    let region = map(pages);
                    region.touch(0, pages);
                    ready.wait();
                    go.wait();
                    region.unmap();
                    done.wait();
                });
            }
            ready.wait();
            self.releases(|_| {
                go.wait();
                done.wait();
            });
        });
    }

    /// A child gets its own copy of what it writes, and that is all its end erases; or the parent writes, and the child is
    /// left with the only reference to what was.
    fn forks(&mut self, parent_writes: bool) {
        let region = self.pick();
        let touched = self.below(region.pages()) + 1;
        let (mut to_child, mut to_parent) = ([0; 2], [0; 2]);
        // SAFETY: room for two descriptors each.
        unsafe {
            assert_eq!(libc::pipe(to_child.as_mut_ptr()), 0);
            assert_eq!(libc::pipe(to_parent.as_mut_ptr()), 0);
        }
        // SAFETY: there is one thread here (others have been joined); the child calls the kernel and touches its memory.
        let child = unsafe { libc::fork() };
        if child == 0 {
            if !parent_writes {
                region.touch(0, touched);
            }
            let mut byte = 0u8;
            // SAFETY: pipes of ours, one byte.
            unsafe {
                libc::write(to_parent[1], (&raw const byte).cast(), 1);
                libc::read(to_child[0], (&raw mut byte).cast(), 1);
            }
            self.of_children.fetch_add(truth::private(), Ordering::SeqCst);
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        let mut byte = 0u8;
        // SAFETY: pipes of ours, one byte.
        unsafe { libc::read(to_parent[0], (&raw mut byte).cast(), 1) };
        if parent_writes {
            region.touch(0, touched);
        }
        // SAFETY: as above; the descriptors are used no more.
        unsafe { libc::write(to_child[1], (&raw const byte).cast(), 1) };
        wait(child);
        for descriptor in to_child.into_iter().chain(to_parent) {
            // SAFETY: used no more.
            unsafe { libc::close(descriptor) };
        }
        self.erased += self.of_children.swap(0, Ordering::SeqCst);
        self.regions.push(region);
    }

    /// Memory in a file that has no disk: shrunk, privately copied, and let go of.
    fn shares_memory(&mut self) {
        let pages = 2 + self.below(500);
        let name = CString::new("eraser").unwrap();
        let size = |pages: usize| libc::off_t::try_from(pages * PAGE).unwrap();
        // SAFETY: a new file without a name, of which this function owns the only descriptor.
        unsafe {
            let file = libc::memfd_create(name.as_ptr(), 0);
            assert!(file >= 0 && libc::ftruncate(file, size(pages)) == 0);
            let shared = Region::new(pages * PAGE, libc::MAP_SHARED, file);
            shared.touch(0, pages);
            let copy = Region::new(pages * PAGE, libc::MAP_PRIVATE, file);
            copy.touch(0, pages / 2);
            let blocks = || {
                let mut status = std::mem::zeroed();
                assert_eq!(libc::fstat(file, &raw mut status), 0);
                u64::try_from(status.st_blocks).unwrap() * 512
            };
            let full = blocks();
            self.releases(|_| copy.unmap());
            shared.unmap();
            assert_eq!(blocks(), full, "unmapping shared memory releases nothing");
            let keep = self.below(pages);
            assert_eq!(libc::ftruncate(file, size(keep)), 0);
            libc::close(file);
            self.erased += full;
        }
    }

    fn takes_huge_pages(&mut self) {
        const HUGE: usize = 512;
        let region = map(4 * HUGE);
        region.advise(0, region.pages(), libc::MADV_HUGEPAGE);
        region.touch(0, region.pages());
        let (from, pages) = (self.below(HUGE), 1 + self.below(2 * HUGE));
        self.releases(|_| region.advise(from, pages, libc::MADV_DONTNEED));
        self.releases(|_| region.unmap());
    }
}
