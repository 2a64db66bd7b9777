//! Being on time: absolute deadlines and, where permitted, real-time priority.

use std::time::{Duration, Instant};

/// Priority of the market thread among real-time threads: above the default of user tasks, below the kernel's own.
const PRIORITY: libc::c_int = 50;

/// Asks for real-time scheduling of the calling thread (SCHED_FIFO), not inherited by threads it starts. `false` where
/// that is not permitted.
pub(crate) fn ask_for_priority() -> bool {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: the parameters outlive the call, which only reads them; thread 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters) == 0 }
}

/// Sleeps until `deadline` on the monotonic clock and returns how late it is.
pub(crate) fn sleep_until(deadline: Instant) -> Duration {
    loop {
        let now = Instant::now();
        let Some(left) = deadline.checked_duration_since(now).filter(|left| !left.is_zero()) else {
            return now.saturating_duration_since(deadline);
        };
        std::thread::sleep(left);
    }
}
