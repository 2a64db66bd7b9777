//! What holds, meters and confines process agents on this machine: the code that does it, tried on an empty group.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maxwell_ebpf::{Attachment, EbpfError};
use maxwell_hypervisor::process::cgroup::{
    Cgroup, CgroupError, Controller, Hierarchy, Layout, Leftover, Limits, Subtree, leftovers,
};
use maxwell_hypervisor::process::freezer::FreezerError;
use maxwell_hypervisor::process::sandbox::landlock;
use maxwell_hypervisor::process::stop::{Stray, strays};
use maxwell_hypervisor::protocol::control::{ControlError, Directory};
use maxwell_physics::{TaskClock, TaskClockError};
use rustix::fs::{Access, access};

use super::{Check, Finding, check, good, missing, weaker};

/// An empty group freezes at once; this is for a machine that hangs.
const PATIENCE: Duration = Duration::from_millis(500);
/// Landlock's version from which on signals are confined too (Linux 6.12).
const CONFINES_SIGNALS: i32 = 6;
/// No more leftovers are named one by one.
const NAMED: usize = 3;

pub(super) fn checks() -> Vec<Check> {
    let hierarchy = Hierarchy::find(Path::new("/"));
    // Looked for before ours is made.
    let left = hierarchy.as_ref().map_or_else(|_| Ok(Vec::new()), leftovers);
    let trial = hierarchy.as_ref().ok().map(Trial::new);
    vec![
        check("cgroup", "freezing, ending and limiting processes", groups(&hierarchy, trial.as_ref())),
        check("core time", "exact bills for processes", core_time(trial.as_ref())),
        check("eBPF", "proof of the bytes that processes release", ebpf(maxwell_ebpf::available())),
        check("sandbox", "what processes may not do", sandbox(landlock::abi(), seccomp())),
        check("control sockets", "`maxwell ps`, `fund`, `bid`, `park` and `kill`", control(Directory::usual())),
        check("leftovers", "that nothing of dead Maxwells stays", remains(left, &strays())),
    ]
}

/// A group of our own. Dropping removes it.
struct Trial(Result<(Cgroup, Subtree), CgroupError>);

impl Trial {
    fn new(hierarchy: &Hierarchy) -> Self {
        let made =
            Subtree::new(hierarchy).and_then(|subtree| Ok((subtree.group("doctor", &Limits::default())?, subtree)));
        Self(made)
    }

    fn group(&self) -> Option<&Cgroup> {
        self.0.as_ref().ok().map(|(group, _)| group)
    }

    fn switches(&self) -> Option<Result<(), FreezerError>> {
        let freezer = self.group()?.freezer();
        Some(freezer.freeze(PATIENCE).and_then(|()| freezer.thaw(PATIENCE)).and_then(|()| freezer.kill()))
    }
}

fn groups(hierarchy: &Result<Hierarchy, CgroupError>, trial: Option<&Trial>) -> Finding {
    const INSTEAD: &str = "process trees are stopped by signals instead";
    let hierarchy = match hierarchy {
        Ok(hierarchy) => hierarchy,
        Err(error) => return weaker(format!("{}: {INSTEAD}", without_remedy(error)), remedy(error)),
    };
    match (trial.map(|trial| &trial.0), trial.and_then(Trial::switches)) {
        (Some(Err(error)), _) => return weaker(format!("{}: {INSTEAD}", without_remedy(error)), remedy(error)),
        (_, Some(Err(error))) => {
            return weaker(format!("a group cannot be frozen and ended here ({error})"), "Linux 5.14 or newer");
        }
        _ => {}
    }
    let layout = match hierarchy.layout() {
        Layout::Unified => "version 2",
        Layout::Hybrid => "hybrid: version 2 beside version 1",
    };
    let ours = if hierarchy.delegated() { ", which was delegated to us" } else { "" };
    let found = format!("{layout}; groups can be made, frozen and ended in {}{ours}", hierarchy.parent().display());
    let (can, cannot): (Vec<_>, Vec<_>) =
        Controller::ALL.into_iter().partition(|controller| hierarchy.limits().contains(controller));
    let names = |list: &[Controller]| list.iter().map(|c| c.name()).collect::<Vec<_>>().join(", ");
    match (cannot.is_empty(), hierarchy.delegated()) {
        (true, _) => good(format!("{found}; limits of {}", names(&can))),
        (false, true) => weaker(
            format!("{found}; no limits of {}", names(&cannot)),
            "systemd-run --user --scope -p Delegate=yes -p MemoryMax=1G -p TasksMax=500 -- maxwell …",
        ),
        (false, false) => weaker(
            format!("{found}; no limits of {}", names(&cannot)),
            "a kernel with these cgroup controllers, and no cgroup_disable= on its command line",
        ),
    }
}

fn without_remedy(error: &CgroupError) -> String {
    match error {
        CgroupError::NoVersion2 { version_1: true } => "only cgroup version 1 is mounted".to_owned(),
        CgroupError::NoVersion2 { version_1: false } => "no cgroup is mounted".to_owned(),
        CgroupError::ReadOnly { path } => format!("{} is mounted read-only", path.display()),
        CgroupError::NotDelegated { path } => format!("no group can be made in {}", path.display()),
        other => other.to_string(),
    }
}

fn remedy(error: &CgroupError) -> &'static str {
    match error {
        CgroupError::NoVersion2 { .. } => {
            "sudo mkdir -p /sys/fs/cgroup/unified && sudo mount -t cgroup2 none /sys/fs/cgroup/unified"
        }
        CgroupError::ReadOnly { .. } => "in a container: --cgroupns=private, and /sys/fs/cgroup mounted rw",
        _ => "systemd-run --user --scope -p Delegate=yes -- maxwell …   (or run as root)",
    }
}

fn core_time(trial: Option<&Trial>) -> Finding {
    let Some(group) = trial.and_then(Trial::group) else {
        return weaker(
            "the processes' own clocks, in steps of 10 ms, because there is no group to ask about",
            "see cgroup",
        );
    };
    match TaskClock::of_cgroup(group.path()).and_then(|clock| clock.read_ns()) {
        Ok(_) => good("perf counts a group's task-clock: exact"),
        Err(TaskClockError::Refused { reason, .. }) => weaker(
            format!("cpu.stat, in steps of some milliseconds (perf refuses a group's task-clock: {reason})"),
            "sudo setcap cap_perfmon+ep \"$(command -v maxwell)\"   (or: sudo sysctl kernel.perf_event_paranoid=0)",
        ),
        Err(error) => weaker(format!("cpu.stat, in steps of some milliseconds ({error})"), "see cgroup"),
    }
}

fn ebpf(available: Result<Attachment, EbpfError>) -> Finding {
    const INSTEAD: &str = "the tax is estimated from smaps";
    match available {
        Ok(way @ Attachment::RawTracepointWithoutBtf) => weaker(way.name(), "a kernel with CONFIG_DEBUG_INFO_BTF=y"),
        Ok(way) => good(format!("the meter runs, at a {}", way.name())),
        Err(EbpfError::Forbidden(source)) => weaker(
            format!("this process may load no programs ({source}): {INSTEAD}"),
            "sudo setcap cap_bpf,cap_perfmon+ep \"$(command -v maxwell)\"",
        ),
        Err(error) => weaker(
            format!("{error}: {INSTEAD}"),
            "Linux 5.8 or newer, with CONFIG_BPF_SYSCALL, CONFIG_BPF_EVENTS and CONFIG_DEBUG_INFO_BTF",
        ),
    }
}

/// Whether the kernel has filters that answer with an error.
fn seccomp() -> io::Result<()> {
    const FLAGS: libc::c_ulong = 0;
    let answer: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads four bytes, which live during the call (seccomp(2), SECCOMP_GET_ACTION_AVAIL).
    let known =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, FLAGS, std::ptr::from_ref(&answer)) };
    if known == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn sandbox(abi: Option<i32>, seccomp: io::Result<()>) -> Finding {
    if let Err(error) = seccomp {
        return weaker(
            format!("no system call can be refused ({error}); use `--sandbox no-seccomp`"),
            "a kernel with CONFIG_SECCOMP_FILTER=y",
        );
    }
    match abi {
        Some(abi) if abi >= CONFINES_SIGNALS => {
            good(format!("Landlock {abi} confines writing and signals, seccomp system calls"))
        }
        Some(abi) => weaker(
            format!("Landlock {abi} confines writing, seccomp system calls; signals to others are not refused"),
            "Linux 6.12 or newer",
        ),
        None => weaker(
            "seccomp confines system calls; without Landlock, processes may write where their user may",
            "Linux 5.13 or newer, with `landlock` in lsm= on its command line",
        ),
    }
}

fn control(usual: Result<PathBuf, ControlError>) -> Finding {
    let path = match usual {
        Ok(path) => path,
        Err(_) => {
            return missing(
                "XDG_RUNTIME_DIR is not set: nobody can be asked, and --or-park is refused",
                "export XDG_RUNTIME_DIR=/run/user/$(id -u)   (or log in through systemd)",
            );
        }
    };
    if !path.exists() {
        let parent = path.parent().unwrap_or(&path);
        return match access(parent, Access::WRITE_OK) {
            Ok(()) => good(format!("in {}, when something runs", path.display())),
            Err(errno) => missing(
                format!("{} cannot be made ({errno})", path.display()),
                format!("sudo install -d -m 700 -o \"$USER\" {}", path.display()),
            ),
        };
    }
    match Directory::open(&path).and_then(|directory| directory.instances()) {
        Ok(running) => good(format!("in {}; {} running", path.display(), running.len())),
        Err(error) => missing(error.to_string(), format!("sudo rm -r {}   (it is made anew)", path.display())),
    }
}

fn remains(left: Result<Vec<Leftover>, CgroupError>, strays: &[Stray]) -> Finding {
    match left {
        Ok(left) if left.is_empty() && strays.is_empty() => good("none"),
        Ok(left) if left.is_empty() => {
            let pids: Vec<_> = strays.iter().map(|stray| stray.pid.as_raw_nonzero().to_string()).collect();
            let named = match pids.get(..NAMED) {
                Some(some) if pids.len() > NAMED => format!("{}, …", some.join(", ")),
                _ => pids.join(", "),
            };
            let found = format!("{} processes of dead Maxwells that no group held: {named}", pids.len());
            weaker(found, format!("kill -9 {}", pids.join(" ")))
        }
        Ok(left) => {
            let processes: usize = left.iter().map(|one| one.processes).sum();
            let mut paths: Vec<_> = left.iter().take(NAMED).map(|one| one.path.display().to_string()).collect();
            if left.len() > NAMED {
                paths.push("…".to_owned());
            }
            let found = format!("{} groups with {processes} processes: {}", left.len(), paths.join(", "));
            weaker(found, "maxwell exec --budget 1J -- true   (whoever starts next sweeps up)")
        }
        Err(error) => weaker(format!("groups of dead Maxwells cannot be looked for: {error}"), "sudo maxwell doctor"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn none(error: CgroupError) -> Finding {
        groups(&Err(error), None)
    }

    #[test]
    fn without_groups_it_says_what_happens_instead_and_how_to_have_them() {
        let (verdict, found, fix) = none(CgroupError::NoVersion2 { version_1: true });
        assert_eq!(verdict, Verdict::Weaker);
        assert!(found.contains("version 1") && found.contains("signals"), "{found}");
        assert!(fix.unwrap().contains("mount -t cgroup2"));
        let (_, found, fix) = none(CgroupError::NotDelegated { path: "/sys/fs/cgroup/user.slice".into() });
        assert!(found.contains("user.slice"), "{found}");
        assert!(fix.unwrap().contains("Delegate=yes"));
        assert!(core_time(None).1.contains("10 ms"));
    }

    #[test]
    fn each_part_of_the_sandbox_is_told() {
        let of = |abi| sandbox(abi, Ok(()));
        assert_eq!(of(Some(7)).0, Verdict::Good);
        assert!(of(Some(3)).1.contains("signals to others are not refused"));
        assert!(of(None).2.unwrap().contains("lsm="));
        assert!(sandbox(Some(7), Err(io::ErrorKind::Unsupported.into())).1.contains("--sandbox no-seccomp"));
    }

    #[test]
    fn a_meter_that_is_forbidden_is_told_with_the_line_that_permits_it() {
        let (verdict, found, fix) = ebpf(Err(EbpfError::Forbidden(io::Error::from_raw_os_error(libc::EPERM))));
        assert_eq!(verdict, Verdict::Weaker);
        assert!(found.contains("smaps") && fix.unwrap().contains("cap_bpf"), "{found}");
        assert_eq!(ebpf(Ok(Attachment::BtfTracepoint)).0, Verdict::Good);
        assert_eq!(ebpf(Ok(Attachment::RawTracepointWithoutBtf)).0, Verdict::Weaker);
    }

    #[test]
    fn leftovers_are_counted_and_some_are_named() {
        let one = |name: &str| Leftover { path: Path::new("/x/maxwell").join(name), processes: 2 };
        let (verdict, found, fix) = remains(Ok(["1-a", "2-b", "3-c", "4-d"].map(one).to_vec()), &[]);
        assert_eq!(verdict, Verdict::Weaker);
        assert!(found.contains("4 groups with 8 processes: /x/maxwell/1-a") && !found.contains("4-d"), "{found}");
        assert!(fix.unwrap().contains("maxwell exec"));
        assert_eq!(remains(Ok(Vec::new()), &[]).0, Verdict::Good);
        let three = [1, 2, 3].map(|maxwell| Stray { pid: rustix::process::getpid(), maxwell });
        assert!(!remains(Ok(Vec::new()), &three).1.ends_with('…'));
        let stray = Stray { pid: rustix::process::getpid(), maxwell: 1 };
        let (verdict, found, fix) = remains(Ok(Vec::new()), &[stray.clone(), stray.clone(), stray.clone(), stray]);
        assert_eq!(verdict, Verdict::Weaker);
        assert!(found.contains("4 processes") && found.ends_with('…'), "{found}");
        assert!(fix.unwrap().starts_with("kill -9 "));
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused_and_one_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(control(Ok(open)).0, Verdict::Missing);
        let absent = folder.path().join("absent");
        assert_eq!(control(Ok(absent.clone())).0, Verdict::Good);
        assert!(!absent.exists());
        assert_eq!(control(Err(ControlError::NoDirectory)).0, Verdict::Missing);
    }

    #[test]
    fn a_dead_maxwells_group_is_found() {
        let Ok(hierarchy) = Hierarchy::find(Path::new("/")) else {
            println!("skipped: no group can be made here");
            return;
        };
        let home = hierarchy.parent().join("maxwell");
        // Any Maxwell that starts meanwhile sweeps it up, or takes away its parent.
        let found = (0..200).any(|_| {
            let dead = home.join(format!("0-doctor-{}", std::process::id()));
            let made = std::fs::create_dir_all(&dead).is_ok();
            let seen = leftovers(&hierarchy).is_ok_and(|left| left.iter().any(|one| one.path == dead));
            let _ = std::fs::remove_dir(&dead);
            made && seen
        });
        let _ = std::fs::remove_dir(&home);
        assert!(found);
    }
}
