//! The priority of slot threads.
//!
//! A thread that watches a process must stop it on time although the process keeps the cores busy, and uses next to no time
//! itself: real-time priority, where that is permitted. A thread that polls a WebAssembly agent *is* the agent's use of
//! the core, and has ordinary priority. Slot threads do either, so they change as they go.

use std::cell::Cell;

thread_local! {
    /// Whether this thread has real-time priority; `None` where it was refused.
    static PROMPT: Cell<Option<bool>> = const { Cell::new(Some(false)) };
}

/// Below the market thread's, above everything ordinary.
const PRIORITY: libc::c_int = 1;

/// This thread only watches from now on.
pub(crate) fn watch() {
    change(true);
}

/// This thread works for an agent from now on.
pub(crate) fn work() {
    change(false);
}

/// Whether nothing ordinary runs on this core while this thread does.
pub(crate) fn is_prompt() -> bool {
    PROMPT.get() == Some(true)
}

fn change(prompt: bool) {
    let now = PROMPT.get();
    if now.is_none() || now == Some(prompt) {
        return;
    }
    let (policy, priority) = if prompt { (libc::SCHED_FIFO, PRIORITY) } else { (libc::SCHED_OTHER, 0) };
    // Children do not inherit it: SCHED_RESET_ON_FORK.
    let policy = policy | libc::SCHED_RESET_ON_FORK;
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: zero names the calling thread, and the parameters live until the call returns.
    let changed = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } == 0;
    PROMPT.set(changed.then_some(prompt));
}
