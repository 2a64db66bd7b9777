//! A library that stands for NVIDIA's in tests: two cards whose energy follows the clock.
//!
//! * Card 0 draws 200 W; its counter is renewed every 100 ms, as on slow cards.
//! * Card 1 draws 50 W, is renewed every 20 ms, and falls off the bus after 700 ms.
//! * Every tenth call that asks for energy blocks for 100 ms.

#![allow(
    non_snake_case,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "the names and types are NVIDIA's"
)]

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const SUCCESS: c_uint = 0;
const INVALID_ARGUMENT: c_uint = 2;
const GPU_IS_LOST: c_uint = 15;

static STARTED: OnceLock<Instant> = OnceLock::new();
static CALLS: AtomicU32 = AtomicU32::new(0);

fn elapsed_ms() -> u64 {
    STARTED.get_or_init(Instant::now).elapsed().as_millis() as u64
}

/// A field and its value, as in `nvml.h`.
#[repr(C)]
#[derive(Debug)]
pub struct FieldValue {
    field: c_uint,
    scope: c_uint,
    timestamp: i64,
    latency: i64,
    kind: c_uint,
    result: c_uint,
    value: u64,
}

/// Starts the clock.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> c_uint {
    elapsed_ms();
    SUCCESS
}

/// Does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> c_uint {
    SUCCESS
}

/// Two cards.
///
/// # Safety
///
/// `count` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> c_uint {
    // SAFETY: as promised.
    unsafe { *count = 2 };
    SUCCESS
}

/// The driver's version.
///
/// # Safety
///
/// `text` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(text: *mut c_char, length: c_uint) -> c_uint {
    for (at, byte) in b"570.0.0\0".iter().enumerate().take(length as usize) {
        // SAFETY: inside the room that was promised.
        unsafe { *text.add(at) = *byte as c_char };
    }
    SUCCESS
}

/// A handle: the card's number and one more, which is not null.
///
/// # Safety
///
/// `device` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut usize) -> c_uint {
    if index > 1 {
        return INVALID_ARGUMENT;
    }
    // SAFETY: as promised.
    unsafe { *device = index as usize + 1 };
    SUCCESS
}

/// Energy, sometimes late, and of a lost card never.
///
/// # Safety
///
/// `millijoules` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEnergyConsumption(device: usize, millijoules: *mut c_ulonglong) -> c_uint {
    if CALLS.fetch_add(1, Ordering::Relaxed) % 10 == 9 {
        std::thread::sleep(Duration::from_millis(100));
    }
    let now_ms = elapsed_ms();
    let (watts, renewal_ms) = if device == 1 { (200, 100) } else { (50, 20) };
    if device == 2 && now_ms > 700 {
        return GPU_IS_LOST;
    }
    // SAFETY: as promised.
    unsafe { *millijoules = 123_456_789 + now_ms / renewal_ms * renewal_ms * watts };
    SUCCESS
}

/// Field 186 is the instant power; nothing else is answered.
///
/// # Safety
///
/// `values` are `count` valid fields.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetFieldValues(device: usize, count: c_int, values: *mut FieldValue) -> c_uint {
    for at in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: inside what was promised.
        let value = unsafe { &mut *values.add(at) };
        value.kind = 1;
        value.result = if value.field == 186 { SUCCESS } else { INVALID_ARGUMENT };
        value.value = if device == 1 { 200_000 } else { 50_000 };
    }
    SUCCESS
}

/// Both may draw 300 W.
///
/// # Safety
///
/// `milliwatts` is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPowerManagementDefaultLimit(_device: usize, milliwatts: *mut c_uint) -> c_uint {
    // SAFETY: as promised.
    unsafe { *milliwatts = 300_000 };
    SUCCESS
}
