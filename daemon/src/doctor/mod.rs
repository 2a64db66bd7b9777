//! What this machine offers besides its sensors, and the one line that would fix what is missing.
//!
//! Every check tries the thing itself where that leaves nothing behind: a real-time thread, a cgroup that is frozen and
//! removed again, a BPF program that is loaded, attached and let go.

mod processes;

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;

use maxwell_hypervisor::wasm::Method;
use serde::Serialize;

use crate::realtime;

/// How well something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As well as it can.
    Good,
    /// It works, but not as well as it could.
    Weaker,
    /// Not at all. Maxwell runs without it.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// What Maxwell uses it for.
    pub purpose: &'static str,
    /// How well it works.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// The line that would fix it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// What a check found: verdict, words, and the line that would fix it.
type Finding = (Verdict, String, Option<String>);

fn good(found: impl Into<String>) -> Finding {
    (Verdict::Good, found.into(), None)
}

fn weaker(found: impl Into<String>, fix: impl Into<String>) -> Finding {
    (Verdict::Weaker, found.into(), Some(fix.into()))
}

fn missing(found: impl Into<String>, fix: impl Into<String>) -> Finding {
    (Verdict::Missing, found.into(), Some(fix.into()))
}

fn check(name: &'static str, purpose: &'static str, (verdict, found, fix): Finding) -> Check {
    Check { name, purpose, verdict, found, fix }
}

/// Looks at everything.
#[must_use]
pub fn host() -> Vec<Check> {
    let mut checks = vec![
        check("real-time priority", "ticks that begin on time on a busy machine", real_time()),
        check("PAGEMAP_SCAN", "proof of the bytes that WebAssembly agents erase", pagemap_scan()),
    ];
    checks.extend(processes::checks());
    checks.push(check("KVM", "microVMs", kvm()));
    checks
}

fn real_time() -> Finding {
    // In a thread of its own: priority is a thread's, and ends with it.
    let granted = std::thread::spawn(realtime::ask_for_priority).join().unwrap_or(false);
    if granted {
        good("SCHED_FIFO is permitted")
    } else {
        weaker(
            "SCHED_FIFO is not permitted: ticks are late where the machine is busy",
            "sudo setcap cap_sys_nice+ep \"$(command -v maxwell)\"",
        )
    }
}

fn pagemap_scan() -> Finding {
    match Method::available() {
        Ok(()) => good("asynchronous write-protection works, without privileges"),
        Err(error) => weaker(
            format!("it does not work here ({error}): page checksums are used instead, which are slow"),
            "Linux 6.7 or newer, and: sudo sysctl vm.unprivileged_userfaultfd=1",
        ),
    }
}

fn kvm() -> Finding {
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            weaker("/dev/kvm may not be opened", "sudo usermod -aG kvm \"$USER\"   (then log in again)")
        }
        Err(error) => missing(
            format!("/dev/kvm cannot be opened ({error}): microVMs would be emulated, and slow"),
            "sudo modprobe kvm_intel || sudo modprobe kvm_amd   (in a VM: nested virtualisation)",
        ),
        Ok(device) => match api_version(&device) {
            12 => good("/dev/kvm answers (API version 12)"),
            other => weaker(format!("/dev/kvm answers with API version {other}, not 12"), "Linux 2.6.22 or newer"),
        },
    }
}

fn api_version(device: &File) -> libc::c_int {
    const KVM_GET_API_VERSION: libc::c_ulong = 0xAE00;
    // SAFETY: this request takes no argument and touches no memory of ours.
    unsafe { libc::ioctl(device.as_raw_fd(), KVM_GET_API_VERSION, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_says_what_it_found_and_what_is_missing_how_to_mend_it() {
        let checks = host();
        assert_eq!(checks.len(), 9);
        for check in &checks {
            assert!(!check.found.is_empty(), "{check:?}");
            assert_eq!(check.fix.is_none(), check.verdict == Verdict::Good, "{check:?}");
        }
    }
}
