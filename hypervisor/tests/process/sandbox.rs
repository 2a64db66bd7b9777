//! What the sandbox refuses is refused, and every word widens what it names.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use maxwell_hypervisor::process::sandbox::{Sandbox, SandboxError, Surroundings, landlock};
use maxwell_hypervisor::process::spawn::Program;

use crate::arena::{run, run_hostile, start};

/// The error number of an attempt, 0 if it succeeds.
fn attempt_in(directory: &Path, words: &[&str], sandbox: &str) -> i32 {
    let program = Program { directory: Some(directory.to_owned()), ..run_hostile(&[&["attempt"], words].concat()) };
    let (said, ended) = start(&program, &sandbox.parse().unwrap(), None).unwrap().finish();
    said.parse().unwrap_or_else(|_| panic!("{words:?} in {sandbox:?}: {said} {ended:?}"))
}

fn attempt(words: &[&str], sandbox: &str) -> i32 {
    attempt_in(Path::new("/tmp"), words, sandbox)
}

const CALLS: [&str; 31] = [
    "mount",
    "umount",
    "pivot_root",
    "chroot",
    "open_tree",
    "fsopen",
    "swapon",
    "reboot",
    "kexec_load",
    "init_module",
    "bpf",
    "perf_event_open",
    "ptrace",
    "process_vm",
    "pidfd_getfd",
    "keyctl",
    "userfaultfd",
    "io_uring",
    "setns",
    "namespaces",
    "open_by_handle_at",
    "settimeofday",
    "acct",
    "quotactl",
    "sethostname",
    "realtime",
    "nice",
    "terminal",
    "vsock",
    "clone-namespace",
    "terminal-wide",
];

#[test]
fn each_call_is_refused_and_each_can_be_allowed() {
    for call in CALLS {
        assert_eq!(attempt(&[call], ""), libc::EPERM, "{call}");
        let word = match call {
            "clone-namespace" => "namespaces",
            "terminal-wide" => "terminal",
            other => other,
        };
        // Without privileges the kernel itself says EPERM to some.
        if rustix::process::geteuid().is_root() {
            let allowed = attempt(&[call], &format!("allow={word}"));
            // A kernel may be built without it; and keys, modules and clocks may be locked to root in a container.
            println!("{call}: allowed, it gives {allowed}");
            assert_ne!(allowed, libc::EPERM, "{call}");
        }
    }
    assert_eq!(attempt(&["clone3"], ""), libc::ENOSYS);
    assert_ne!(attempt(&["clone3"], "allow=namespaces"), libc::ENOSYS);
    assert_ne!(attempt(&["mount"], "no-seccomp"), libc::EPERM);
    // Threads, which the C library makes by `clone3`, work all the same.
    assert_eq!(attempt(&["thread"], ""), 0);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn other_architectures_are_no_way_around() {
    assert_eq!(attempt(&["iopl"], ""), libc::EPERM);
    assert_eq!(attempt(&["x32"], ""), libc::EPERM);
    let here = run_hostile(&["attempt", "32-bit"]);
    if start(&here, &Sandbox::off(), None).unwrap().finish().0 == "0" {
        assert_eq!(attempt(&["32-bit"], ""), libc::EPERM);
    } else {
        println!("skipped: this kernel runs no 32-bit calls");
    }
}

#[test]
fn it_writes_to_its_directory_and_nowhere_else() {
    if landlock::abi().is_none() {
        println!("skipped: no Landlock");
        return;
    }
    let (cwd, other) = (tempfile::tempdir_in("/tmp").unwrap(), tempfile::tempdir_in("/tmp").unwrap());
    let file = |folder: &tempfile::TempDir, name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let precious = file(&other, "precious");
    std::fs::write(&precious, "1").unwrap();
    let attempt = |words: &[&str], sandbox: &str| attempt_in(cwd.path(), words, sandbox);
    assert_eq!(attempt(&["write", &file(&cwd, "mine")], ""), 0);
    assert_eq!(attempt(&["make-directory", &file(&cwd, "folder")], ""), 0);
    assert_eq!(attempt(&["remove", &file(&cwd, "mine")], ""), 0);
    for device in ["/dev/null", "/dev/full"] {
        assert_eq!(attempt(&["append", device], ""), if device == "/dev/full" { libc::ENOSPC } else { 0 });
    }
    assert_eq!(attempt(&["write", "/dev/shm/maxwell-test"], ""), 0);
    std::fs::remove_file("/dev/shm/maxwell-test").unwrap();
    assert_eq!(attempt(&["append", "/proc/self/comm"], ""), 0);
    for refused in ["write", "append", "remove"] {
        assert_eq!(attempt(&[refused, &precious], ""), libc::EACCES, "{refused}");
    }
    assert_eq!(attempt(&["make-directory", &file(&other, "new")], ""), libc::EACCES);
    for system in ["/proc/sys/kernel/hostname", "/proc/1/comm", "/etc/passwd", "/sys/kernel/mm/ksm/run"] {
        assert_eq!(attempt(&["append", system], ""), libc::EACCES, "{system}");
    }
    assert_eq!(attempt(&["read", &precious], ""), 0);
    let named = format!("write={}", other.path().display());
    assert_eq!(attempt(&["write", &file(&other, "named")], &named), 0);
    assert_eq!(attempt(&["write", &precious], "no-landlock"), 0);
}

#[test]
fn a_cell_never_holds_its_own_switches() {
    let forbidden = [PathBuf::from("/sys/fs/cgroup")];
    let around = |directory: &'static str| Surroundings {
        directory: Path::new(directory),
        temporary: Path::new("/tmp"),
        forbidden: &forbidden,
        streams: &[],
    };
    for path in ["/", "/sys", "/sys/fs/cgroup", "/proc/self/root/sys/fs"] {
        let sandbox = Sandbox { write: vec![path.into()], ..Sandbox::default() };
        if landlock::abi().is_some() && Path::new(path).exists() {
            let error = sandbox.prepare(&around("/tmp")).unwrap_err();
            assert!(matches!(error, SandboxError::Forbidden { .. }), "{path}: {error}");
        }
    }
    if landlock::abi().is_none() || !Path::new("/sys/fs/cgroup").exists() {
        println!("skipped: no Landlock, or no cgroups");
        return;
    }
    // A working directory that holds them is no error; it is not writable, and that is said.
    let prepared = Sandbox::default().prepare(&around("/")).unwrap();
    assert!(prepared.enforced().to_string().contains("/ is not writable"), "{}", prepared.enforced());
    assert_eq!(attempt_in(Path::new("/"), &["write", "/maxwell-test"], ""), libc::EACCES);
    for file in ["/sys/fs/cgroup/unified/cgroup.procs", "/sys/fs/cgroup/cgroup.procs"] {
        if Path::new(file).exists() {
            assert_eq!(attempt(&["append", file], "write=/var/tmp"), libc::EACCES);
        }
    }
    let missing = Sandbox { write: vec!["/no/such/place".into()], ..Sandbox::default() };
    assert!(matches!(missing.prepare(&around("/tmp")), Err(SandboxError::Path { .. })));
}

#[test]
fn it_signals_and_talks_to_its_own_kind_only() {
    if landlock::abi().is_none_or(|version| version < 6) {
        println!("skipped: Landlock ABI 6 is needed");
        return;
    }
    let us = std::process::id().to_string();
    assert_eq!(attempt(&["signal", &us], ""), libc::EPERM);
    assert_eq!(attempt(&["signal", "0"], ""), 0);
    assert_eq!(attempt(&["signal", &us], "no-scope"), 0);
    let name = format!("maxwell-test-{us}");
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    assert_eq!(attempt(&["abstract", &name], ""), libc::EPERM);
    assert_eq!(attempt(&["abstract", &name], "no-scope"), 0);
    assert_eq!(attempt(&["listen-abstract", &format!("{name}-own")], ""), 0);
}

#[test]
fn privileges_limits_and_session_are_as_said() {
    let status = |sandbox: &str| start(&run_hostile(&["status"]), &sandbox.parse().unwrap(), None).unwrap().finish().0;
    let says = |status: &str, line: &str| status.lines().any(|said| said == line);
    assert!(says(&status(""), "NoNewPrivs:\t1") && says(&status(""), "Seccomp:\t2"));
    assert!(says(&status("off"), "NoNewPrivs:\t0") && says(&status("off"), "Seccomp:\t0"));
    let limit = |sandbox: &str, which: &str| {
        let program = run(&["sh", "-c", &format!("ulimit -{which}; ulimit -H{which}")]);
        start(&program, &sandbox.parse().unwrap(), None).unwrap().finish().0
    };
    assert_eq!(limit("", "c"), "0\n0");
    assert_eq!(limit("nofile=64", "n"), "64\n64");
    let session = |sandbox: &str| {
        let program = run(&["sh", "-c", "ps -o sid= -p $$ || cut -d' ' -f6 /proc/$$/stat"]);
        let mut running = start(&program, &sandbox.parse().unwrap(), None).unwrap();
        let line = running.line();
        (line.trim().parse::<i32>().unwrap(), running.child.pid().as_raw_nonzero().get())
    };
    let (own, pid) = session("");
    assert_eq!(own, pid);
    let (ours, pid) = session("no-session");
    assert_ne!(ours, pid);
}

#[test]
fn what_holds_is_said_and_can_be_stored() {
    let streams = [];
    let around = Surroundings {
        directory: Path::new("/tmp"),
        temporary: Path::new("/var/tmp"),
        forbidden: &[],
        streams: &streams,
    };
    let prepared = Sandbox::default().prepare(&around).unwrap();
    let said = prepared.enforced().to_string();
    assert!(
        said.contains("no-new-privs") && said.contains("seccomp refuses") && said.contains("own session"),
        "{said}"
    );
    if landlock::abi().is_some() {
        assert!(said.contains("writes only to /tmp, /var/tmp"), "{said}");
    }
    assert_eq!(Sandbox::off().prepare(&around).unwrap().enforced().to_string(), "no sandbox");
}
