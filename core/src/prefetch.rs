//! The one hint that the order book gives the processor: fetch a cache line before it is needed.
//!
//! This is the crate's only `unsafe` code.

/// Asks for the cache line that holds `slice[index]`. Out of range is allowed and does nothing.
#[inline(always)]
pub(crate) fn prefetch<T>(slice: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    if index < slice.len() {
        // SAFETY: `index` is in bounds, so the pointer is inside the slice; a prefetch never faults and has no effect
        // that the program can observe.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(slice.as_ptr().add(index).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, index);
}
