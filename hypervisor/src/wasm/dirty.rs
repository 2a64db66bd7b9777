//! Bytes that the host can prove were overwritten.
//!
//! A page of linear memory that is written *again* after it once held data had its old content erased. Three kernel
//! features see this without trusting the guest and without a fault handler: userfaultfd write-protection in
//! asynchronous mode (Linux 6.7: a write to a protected page only clears a bit) and the `PAGEMAP_SCAN` ioctl (6.7), which
//! reports the written pages of a range and protects them again in one call. The first touch of a fresh page erases
//! nothing and is free.
//!
//! Kernels without them fall back to a checksum of every page, which proves a change of content, at the price of reading
//! the memory; [`Method`] says which is in use.
//!
//! All raw addresses of this crate are in this file. Layouts and numbers are from `linux/userfaultfd.h` and
//! `linux/fs.h`.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::mm::UserfaultfdFlags;

/// How erased bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Asynchronous write-protection and `PAGEMAP_SCAN`: exact, a few microseconds for 16 MiB.
    PagemapScan,
    /// A checksum of every page: exact for changed content, slow.
    Checksum,
}

impl Method {
    /// Whether the kernel can prove what is overwritten.
    ///
    /// # Errors
    ///
    /// Why it cannot: it is older than 6.7, or forbids userfaultfd. Checksums are used then.
    pub fn available() -> std::io::Result<()> {
        Kernel::open().map(drop)
    }

    /// What it is called where people read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PagemapScan => "the kernel (PAGEMAP_SCAN over write-protected pages)",
            Self::Checksum => "page checksums (slow: this kernel has no asynchronous write-protection)",
        }
    }
}

const PAGE: usize = 4096;
/// Regions fetched by one `PAGEMAP_SCAN` call; longer lists take more calls.
const REGIONS: usize = 256;

/// `struct uffdio_api`.
#[repr(C)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`; its first two fields are `struct uffdio_range`.
#[repr(C)]
struct UffdioRegister {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

/// `struct uffdio_writeprotect`.
#[repr(C)]
struct UffdioWriteProtect {
    start: u64,
    len: u64,
    mode: u64,
}

/// `struct pm_scan_arg`.
#[repr(C)]
struct PmScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

const UFFD_API: u64 = 0xAA;
const UFFD_FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
const UFFD_FEATURE_WP_ASYNC: u64 = 1 << 15;
const UFFDIO_REGISTER_MODE_WP: u64 = 1 << 1;
const UFFDIO_WRITEPROTECT_MODE_WP: u64 = 1;
const PM_SCAN_WP_MATCHING: u64 = 1;
const PM_SCAN_CHECK_WPASYNC: u64 = 1 << 1;
const PAGE_IS_WRITTEN: u64 = 1 << 1;

const fn iowr(kind: u64, number: u64, size: usize) -> libc::c_ulong {
    (3 << 30) | ((size as u64) << 16) | (kind << 8) | number
}
const IOC_UFFDIO_API: libc::c_ulong = iowr(0xAA, 0x3F, size_of::<UffdioApi>());
const IOC_UFFDIO_REGISTER: libc::c_ulong = iowr(0xAA, 0x00, size_of::<UffdioRegister>());
const IOC_UFFDIO_WRITEPROTECT: libc::c_ulong = iowr(0xAA, 0x06, size_of::<UffdioWriteProtect>());
const IOC_PAGEMAP_SCAN: libc::c_ulong = iowr(b'f' as u64, 16, size_of::<PmScanArg>());

fn ioctl<T>(fd: impl AsFd, request: libc::c_ulong, argument: &mut T) -> std::io::Result<libc::c_int> {
    // SAFETY: the file descriptor is open for the length of the call, and every request above is paired with its own
    // argument type, whose size is part of the request number.
    let answer = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, std::ptr::from_mut(argument)) };
    if answer < 0 { Err(std::io::Error::last_os_error()) } else { Ok(answer) }
}

/// The kernel's side of dirty tracking; one for the process.
#[derive(Debug)]
pub(super) struct Kernel {
    uffd: OwnedFd,
    pagemap: File,
}

impl Kernel {
    /// Opens what tracking needs.
    ///
    /// # Errors
    ///
    /// If the kernel lacks asynchronous write-protection (before 6.7) or forbids it.
    pub(super) fn open() -> std::io::Result<Self> {
        // SAFETY: a new userfaultfd that no address range is registered with changes nothing.
        let uffd = unsafe { rustix::mm::userfaultfd(UserfaultfdFlags::CLOEXEC | user_mode_only()) }?;
        let features = UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC;
        ioctl(&uffd, IOC_UFFDIO_API, &mut UffdioApi { api: UFFD_API, features, ioctls: 0 })?;
        Ok(Self { uffd, pagemap: File::open("/proc/self/pagemap")? })
    }

    fn protect(&self, start: usize, len: usize) -> std::io::Result<()> {
        let (start, len) = (start as u64, len as u64);
        ioctl(
            &self.uffd,
            IOC_UFFDIO_REGISTER,
            &mut UffdioRegister { start, len, mode: UFFDIO_REGISTER_MODE_WP, ioctls: 0 },
        )?;
        let mut protect = UffdioWriteProtect { start, len, mode: UFFDIO_WRITEPROTECT_MODE_WP };
        ioctl(&self.uffd, IOC_UFFDIO_WRITEPROTECT, &mut protect)?;
        Ok(())
    }

    /// Calls `written` with every range of bytes written since the last scan, and protects them again.
    fn scan(&self, start: usize, len: usize, mut written: impl FnMut(usize, usize)) -> std::io::Result<()> {
        let mut regions = [PageRegion::default(); REGIONS];
        let (mut from, end) = (start as u64, (start + len) as u64);
        while from < end {
            let mut argument = PmScanArg {
                size: size_of::<PmScanArg>() as u64,
                flags: PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
                start: from,
                end,
                walk_end: 0,
                vec: regions.as_mut_ptr() as u64,
                vec_len: REGIONS as u64,
                max_pages: 0,
                category_inverted: 0,
                category_mask: PAGE_IS_WRITTEN,
                category_anyof_mask: 0,
                return_mask: PAGE_IS_WRITTEN,
            };
            let found = ioctl(&self.pagemap, IOC_PAGEMAP_SCAN, &mut argument)?;
            for region in &regions[..usize::try_from(found).unwrap_or(0).min(REGIONS)] {
                let at = usize::try_from(region.start).expect("64-bit") - start;
                written(at, usize::try_from(region.end - region.start).expect("64-bit"));
            }
            if argument.walk_end <= from {
                break;
            }
            from = argument.walk_end;
        }
        Ok(())
    }
}

fn user_mode_only() -> UserfaultfdFlags {
    // UFFD_USER_MODE_ONLY (1): allowed to everybody. Asynchronous write-protection never hands a fault to user space.
    UserfaultfdFlags::from_bits_retain(1)
}

/// One linear memory being watched.
#[derive(Debug)]
pub(super) struct Watched {
    base: usize,
    len: usize,
    /// One bit for each page that has held data.
    touched: Vec<u64>,
    /// Page checksums; only with [`Method::Checksum`].
    sums: Vec<u64>,
}

impl Watched {
    /// Starts to watch `len` bytes at `base`; what is there now counts as never touched, except pages that the module's
    /// own data segments filled before: their overwriting erases nothing that the agent computed.
    ///
    /// # Safety
    ///
    /// The range must be a linear memory: page-aligned, mapped read-write, and mapped for as long as this value is used.
    #[must_use]
    pub(super) unsafe fn new(kernel: Option<&Kernel>, base: usize, len: usize) -> Self {
        let mut watched = Self { base, len: 0, touched: Vec::new(), sums: Vec::new() };
        watched.grow(kernel, len);
        watched
    }

    /// The memory has `len` bytes now.
    fn grow(&mut self, kernel: Option<&Kernel>, len: usize) {
        if len <= self.len {
            return;
        }
        self.touched.resize(len.div_ceil(PAGE).div_ceil(64), 0);
        match kernel {
            // A range that cannot be registered is watched again at the next growth; until then its writes are free.
            Some(kernel) => drop(kernel.protect(self.base + self.len, len - self.len)),
            None => {
                let from = self.len / PAGE;
                self.sums.extend((from..len / PAGE).map(|_| ZERO_PAGE));
            }
        }
        self.len = len;
    }

    /// Bytes erased since the last call, given the memory's present length.
    pub(super) fn erased(&mut self, kernel: Option<&Kernel>, len: usize) -> u64 {
        let mut pages = 0u64;
        match kernel {
            Some(kernel) if self.len > 0 => {
                let touched = &mut self.touched;
                let scanned = kernel.scan(self.base, self.len, |at, len| {
                    for page in at / PAGE..(at + len).div_ceil(PAGE) {
                        pages += touch(touched, page);
                    }
                });
                debug_assert!(scanned.is_ok(), "PAGEMAP_SCAN of a registered range: {scanned:?}");
            }
            Some(_) => {}
            None => {
                for page in 0..self.sums.len() {
                    let sum = checksum(self.base + page * PAGE);
                    if std::mem::replace(&mut self.sums[page], sum) != sum {
                        pages += touch(&mut self.touched, page);
                    }
                }
            }
        }
        self.grow(kernel, len);
        pages * PAGE as u64
    }
}

/// Marks a page as having held data; 1 if it had before, so that this write erased something.
fn touch(touched: &mut [u64], page: usize) -> u64 {
    let Some(word) = touched.get_mut(page / 64) else { return 0 };
    let before = (*word >> (page % 64)) & 1;
    *word |= 1 << (page % 64);
    before
}

/// The checksum of a page of zeros.
const ZERO_PAGE: u64 = {
    let mut sum = 0u64;
    let mut word = 0;
    while word < PAGE / 8 {
        sum = step(sum, 0);
        word += 1;
    }
    sum
};

/// One step of a 64-bit multiply-and-rotate hash (the constant of FxHash).
const fn step(sum: u64, word: u64) -> u64 {
    (sum.rotate_left(5) ^ word ^ 0x9E37_79B9).wrapping_mul(0x517C_C1B7_2722_0A95)
}

fn checksum(address: usize) -> u64 {
    // SAFETY: `Watched::new` was promised a readable, page-aligned memory of at least this length, and nothing writes it
    // now: the caller holds the cell, so its guest is not running.
    let words = unsafe { std::slice::from_raw_parts(address as *const u64, PAGE / 8) };
    words.iter().fold(0, |sum, word| step(sum, *word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    fn with_memory(pages: usize, test: impl FnOnce(&mut [u8])) {
        let len = pages * PAGE;
        // SAFETY: a fresh private mapping, unmapped only after the slice is gone.
        unsafe {
            let base = mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
                .unwrap();
            test(std::slice::from_raw_parts_mut(base.cast(), len));
            munmap(base, len).unwrap();
        }
    }

    fn check(kernel: Option<&Kernel>) {
        with_memory(1_000, |memory| {
            // SAFETY: the mapping outlives `watched`.
            let mut watched = unsafe { Watched::new(kernel, memory.as_ptr() as usize, memory.len()) };
            let len = memory.len();
            assert_eq!(watched.erased(kernel, len), 0);
            memory.iter_mut().step_by(PAGE).take(700).for_each(|byte| *byte = 1);
            assert_eq!(watched.erased(kernel, len), 0, "the first touch erases nothing");
            assert_eq!(watched.erased(kernel, len), 0);
            memory.iter_mut().step_by(PAGE).skip(600).for_each(|byte| *byte += 1);
            assert_eq!(watched.erased(kernel, len), 100 * PAGE as u64, "only what had held data is erased");
            memory[5 * PAGE] = 7;
            memory[5 * PAGE + 1] = 8;
            assert_eq!(watched.erased(kernel, len), PAGE as u64, "a page written twice is erased once");
            // Every second page: more regions than one call returns.
            memory.iter_mut().step_by(2 * PAGE).for_each(|byte| *byte = 99);
            assert_eq!(watched.erased(kernel, len), 500 * PAGE as u64);
        });
    }

    #[test]
    fn the_kernel_proves_what_was_overwritten() {
        match Kernel::open() {
            Ok(kernel) => check(Some(&kernel)),
            Err(why) => println!("skipped: this kernel has no asynchronous write-protection ({why})"),
        }
    }

    #[test]
    fn checksums_prove_what_was_overwritten() {
        check(None);
    }

    #[test]
    fn growth_is_watched_and_its_first_touch_is_free() {
        let kernel = Kernel::open().ok();
        with_memory(100, |memory| {
            // SAFETY: the mapping outlives `watched`.
            let mut watched = unsafe { Watched::new(kernel.as_ref(), memory.as_ptr() as usize, 10 * PAGE) };
            assert_eq!(watched.erased(kernel.as_ref(), 100 * PAGE), 0);
            memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
            assert_eq!(watched.erased(kernel.as_ref(), 100 * PAGE), 0);
            memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 2);
            assert_eq!(watched.erased(kernel.as_ref(), 100 * PAGE), 100 * PAGE as u64);
        });
    }
}
