//! What this machine offers besides its sensors, and the one line that would fix what is missing.
//!
//! Every check tries the thing itself where that leaves nothing behind: a real-time thread, a cgroup that is removed
//! again, a BPF map that is closed again.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

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
type Finding = (Verdict, String, Option<&'static str>);

fn good(found: impl Into<String>) -> Finding {
    (Verdict::Good, found.into(), None)
}

fn weaker(found: impl Into<String>, fix: &'static str) -> Finding {
    (Verdict::Weaker, found.into(), Some(fix))
}

fn missing(found: impl Into<String>, fix: &'static str) -> Finding {
    (Verdict::Missing, found.into(), Some(fix))
}

/// Looks at everything.
#[must_use]
pub fn host() -> Vec<Check> {
    let check = |name, purpose, (verdict, found, fix): Finding| Check {
        name,
        purpose,
        verdict,
        found,
        fix: fix.map(str::to_owned),
    };
    vec![
        check("real-time priority", "ticks that begin on time on a busy machine", real_time()),
        check("PAGEMAP_SCAN", "proof of the bytes that WebAssembly agents erase", pagemap_scan()),
        check("cgroup", "freezing and ending processes", cgroup()),
        check("eBPF", "proof of the bytes that processes release", ebpf()),
        check("KVM", "microVMs", kvm()),
    ]
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

/// Where version 2 is mounted, and whether other versions are beside it.
fn cgroup_mount(mounts: &str) -> Option<(PathBuf, bool)> {
    let fields = |line: &str| -> Option<(String, String)> {
        let mut words = line.split_whitespace().skip(1);
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    };
    let all: Vec<(String, String)> = mounts.lines().filter_map(fields).collect();
    let hybrid = all.iter().any(|(_, kind)| kind == "cgroup");
    all.into_iter().find(|(_, kind)| kind == "cgroup2").map(|(path, _)| (PathBuf::from(path), hybrid))
}

fn cgroup() -> Finding {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let Some((mount, hybrid)) = cgroup_mount(&mounts) else {
        return missing(
            "no cgroup version 2 is mounted",
            "sudo mkdir -p /sys/fs/cgroup/unified && sudo mount -t cgroup2 none /sys/fs/cgroup/unified",
        );
    };
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let mode = if hybrid { "hybrid (version 1 holds the other controllers)" } else { "version 2" };
    let place = mount.join(own);
    let trial = place.join(format!("maxwell-doctor-{}", std::process::id()));
    if let Err(error) = std::fs::create_dir(&trial) {
        return weaker(
            format!("{mode} at {}, but no group can be made in {} ({error})", mount.display(), place.display()),
            "systemd-run --user --scope -p Delegate=yes maxwell …   (or run as root)",
        );
    }
    let has = |file: &str| trial.join(file).exists();
    let (freeze, kill) = (has("cgroup.freeze"), has("cgroup.kill"));
    let removed = std::fs::remove_dir(&trial);
    match (freeze, kill, removed) {
        (true, true, Ok(())) => good(format!("{mode} at {}; groups can be made, frozen and ended", mount.display())),
        (_, _, Err(error)) => weaker(
            format!("{} could not be removed again ({error})", trial.display()),
            "remove it by hand, once it is empty: sudo rmdir",
        ),
        _ => weaker(format!("{mode}, but this kernel cannot freeze and kill groups"), "Linux 5.14 or newer"),
    }
}

fn ebpf() -> Finding {
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return missing("the kernel shows no types (BTF)", "a kernel with CONFIG_DEBUG_INFO_BTF=y");
    }
    match bpf_map() {
        Err(error) => weaker(
            format!("types are there, but programs may not be loaded ({error})"),
            "sudo setcap cap_bpf,cap_perfmon+ep \"$(command -v maxwell)\"",
        ),
        Ok(_)
            if ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"]
                .iter()
                .any(|p| Path::new(p).exists()) =>
        {
            good("types are there, maps can be made, tracefs is mounted")
        }
        Ok(_) => weaker(
            "types are there and maps can be made, but tracefs is not mounted",
            "sudo mount -t tracefs nodev /sys/kernel/tracing",
        ),
    }
}

/// `BPF_MAP_CREATE` of an array with one entry, closed again.
fn bpf_map() -> std::io::Result<OwnedFd> {
    /// The beginning of `union bpf_attr` for that command; the kernel takes the rest as zero.
    #[repr(C)]
    struct MapCreate {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
    }
    const BPF_MAP_CREATE: libc::c_int = 0;
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    let attributes =
        MapCreate { map_type: BPF_MAP_TYPE_ARRAY, key_size: 4, value_size: 8, max_entries: 1, map_flags: 0 };
    // SAFETY: the attributes outlive the call, which reads as many bytes as it is told and writes none for this command.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_CREATE, &raw const attributes, size_of::<MapCreate>()) };
    match libc::c_int::try_from(fd) {
        // SAFETY: the call succeeded, so this descriptor is open and nobody else's.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(std::io::Error::last_os_error()),
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
    fn the_three_layouts_of_cgroups_are_told_apart() {
        let pure = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        assert_eq!(cgroup_mount(pure), Some((PathBuf::from("/sys/fs/cgroup"), false)));
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroup_mount(hybrid), Some((PathBuf::from("/sys/fs/cgroup/unified"), true)));
        assert_eq!(cgroup_mount("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"), None);
        assert_eq!(cgroup_mount("garbage\n\n x"), None);
    }

    #[test]
    fn every_check_says_what_it_found_and_what_is_missing_how_to_mend_it() {
        let checks = host();
        assert_eq!(checks.len(), 5);
        for check in &checks {
            assert!(!check.found.is_empty(), "{check:?}");
            assert_eq!(check.fix.is_none(), check.verdict == Verdict::Good, "{check:?}");
        }
        let left = |place: &str| {
            let name = format!("maxwell-doctor-{}", std::process::id());
            Path::new(place).join(name).exists()
        };
        assert!(!left("/sys/fs/cgroup") && !left("/sys/fs/cgroup/unified"), "nothing is left behind");
    }
}
