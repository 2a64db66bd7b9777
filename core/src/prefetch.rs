//! The one hint that the market gives the processor: fetch memory before it is needed.
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

/// Asks for every cache line of `slice[index]`, for elements larger than one.
#[inline]
pub(crate) fn prefetch_whole<T>(slice: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(element) = slice.get(index) {
        let start: *const i8 = std::ptr::from_ref(element).cast();
        for line in (0..size_of::<T>()).step_by(64) {
            // SAFETY: `line` is below the element's size, so the pointer is inside the element; a prefetch never faults
            // and has no effect that the program can observe.
            unsafe {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_T0>(start.add(line));
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, index);
}
