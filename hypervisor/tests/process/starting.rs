//! Starting programs: where they are born, what they inherit, what is said when they cannot be.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maxwell_hypervisor::process::exec::Stage;
use maxwell_hypervisor::process::sandbox::{Sandbox, Surroundings};
use maxwell_hypervisor::process::spawn::{Entry, Identity, Program, SpawnError, enter, spawn};
use rustix::process::Signal;

use crate::arena::{Arena, PATIENCE, run, run_hostile, start, until, usage_us};

fn around(streams: &'static [std::os::fd::BorrowedFd<'static>]) -> Surroundings<'static> {
    Surroundings { directory: Path::new("/tmp"), temporary: Path::new("/tmp"), forbidden: &[], streams }
}

#[test]
fn a_child_of_a_frozen_group_is_born_frozen_and_runs_when_thawed() {
    let Some(arena) = Arena::new() else { return };
    for entry in [Entry::Born, Entry::Moved] {
        let group = arena.group(if entry == Entry::Born { "born" } else { "moved" });
        group.freezer().freeze(PATIENCE).unwrap();
        let prepared = Sandbox::default().prepare(&around(&[])).unwrap();
        let mut child = enter(&run(&["true"]), &[], &prepared, Some(&group), entry).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        assert!(child.started().is_none() && child.try_wait().unwrap().is_none(), "{entry:?}");
        until("it is in its group", || group.freezer().pids(9).unwrap() == [child.pid()]);
        group.freezer().freeze(PATIENCE).unwrap();
        if entry == Entry::Born {
            // Not an instruction of it ran, so nothing is owed.
            assert!(usage_us(&group) < 1_000, "{}", usage_us(&group));
        }
        group.freezer().thaw(PATIENCE).unwrap();
        let ended = child.wait_timeout(PATIENCE).unwrap().expect("it ends");
        assert_eq!(ended.exit.code(), 0);
        assert!(matches!(child.started(), Some(Ok(()))));
    }
}

#[test]
fn a_child_without_a_group_needs_no_clone3() {
    for entry in [Entry::Born, Entry::Moved] {
        let prepared = Sandbox::default().prepare(&around(&[])).unwrap();
        let mut child = enter(&run(&["true"]), &[], &prepared, None, entry).unwrap();
        assert_eq!(child.wait_timeout(PATIENCE).unwrap().expect("it ends").exit.code(), 0, "{entry:?}");
    }
}

#[test]
fn a_frozen_child_holds_no_descriptors_of_ours() {
    let Some(arena) = Arena::new() else { return };
    let group = arena.group("holds");
    group.freezer().freeze(PATIENCE).unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let prepared = Sandbox::default().prepare(&around(&[])).unwrap();
    let child = spawn(&run(&["true"]), &[], &prepared, Some(&group)).unwrap();
    drop(writer);
    // Would wait for ever if the child had a copy.
    assert_eq!(std::io::Read::read(&mut reader, &mut [0]).unwrap(), 0);
    let open = std::fs::read_dir(format!("/proc/{}/fd", child.pid().as_raw_nonzero())).unwrap().count();
    assert!(open <= 7, "{open}");
}

#[test]
fn errors_are_those_of_env() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "not a program").unwrap();
    let outcome = |program: &Program| match start(program, &Sandbox::default(), None) {
        Ok(mut running) => {
            running.child.wait().unwrap();
            match running.child.started() {
                Some(Err(error)) => (error.to_string(), error.exit_code()),
                other => panic!("{other:?}"),
            }
        }
        Err(error) => (error.to_string(), error.exit_code()),
    };
    assert_eq!(outcome(&run(&["no-such-program"])), ("'no-such-program': No such file or directory".to_owned(), 127));
    assert_eq!(outcome(&run(&["./none/such"])).1, 127);
    assert_eq!(outcome(&run(&[plain.to_str().unwrap()])), (format!("'{}': Permission denied", plain.display()), 126));
    assert_eq!(outcome(&run(&["/tmp"])).1, 126);
    assert_eq!(outcome(&run(&[""])).1, 127);
    assert!(matches!(start(&run(&["a\0b"]), &Sandbox::default(), None), Err(SpawnError::Nul(_))));
    // A file without rights hides none that comes later in the PATH, as in every shell.
    let second = tempfile::tempdir().unwrap();
    std::fs::write(second.path().join("plain"), "#!/bin/sh\necho second $1\n").unwrap();
    std::fs::set_permissions(second.path().join("plain"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut program = run(&["plain", "x"]);
    let path = format!("{}:{}", folder.path().display(), second.path().display());
    program.environment = vec![("PATH".into(), path.into())];
    assert_eq!(start(&program, &Sandbox::default(), None).unwrap().finish().0, "second x");
    program.environment = vec![("PATH".into(), folder.path().into())];
    assert_eq!(outcome(&program).1, 126);
    let nowhere = Program { directory: Some(PathBuf::from("/no/such/place")), ..run(&["true"]) };
    let mut child = spawn(&nowhere, &[], &Sandbox::off().prepare(&around(&[])).unwrap(), None).unwrap();
    child.wait().unwrap();
    let Some(Err(error)) = child.started() else { panic!() };
    assert_eq!((error.stage, error.exit_code()), (Stage::Directory, 125));
}

#[test]
fn a_script_without_an_interpreter_line_is_run_by_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    std::fs::write(&script, "echo \"$0 $1 $2\"\nexit 7\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = run(&[script.to_str().unwrap(), "one", "two three"]);
    let (said, ended) = start(&program, &Sandbox::default(), None).unwrap().finish();
    assert_eq!((said, ended.exit.code()), (format!("{} one two three", script.display()), 7));
}

#[test]
fn it_inherits_what_is_named_and_nothing_else() {
    let program = run_hostile(&["fds"]);
    // Open in us without the flag that closes it.
    let leaky = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&leaky, rustix::io::FdFlags::empty()).unwrap();
    let (said, _) = start(&program, &Sandbox::default(), None).unwrap().finish();
    assert_eq!(said, "[0, 1, 2]");
    let (reader, writer) = std::io::pipe().unwrap();
    let prepared = Sandbox::default().prepare(&around(&[])).unwrap();
    // Numbers that are in use here, in an order that overwrites if done naively.
    let streams =
        [(0, leaky.as_fd()), (4, writer.as_fd()), (3, leaky.as_fd()), (1, writer.as_fd()), (2, leaky.as_fd())];
    let mut child = spawn(&program, &streams, &prepared, None).unwrap();
    drop(writer);
    assert_eq!(std::io::read_to_string(reader).unwrap(), "[0, 1, 2, 3, 4]\n");
    assert_eq!(child.wait().unwrap().exit.code(), 0);
    let bad = spawn(&program, &[(300, leaky.as_fd())], &prepared, None);
    assert!(matches!(bad, Err(SpawnError::Target(300))));
}

#[test]
fn its_signals_are_as_a_shell_would_have_them() {
    // This process, a Rust program, ignores SIGPIPE; the child must not.
    let (said, _) = start(&run(&["cat", "/proc/self/status"]), &Sandbox::default(), None).unwrap().finish();
    let mask = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    assert_eq!((mask("SigBlk:"), mask("SigCgt:")), (0, 0));
    assert_eq!(mask("SigIgn:") & (1 << (13 - 1)), 0);
}

#[test]
fn how_it_ended_is_known_to_the_signal_and_the_microsecond() {
    let sandbox = Sandbox::default();
    let mut killed = start(&run_hostile(&["sleep"]), &sandbox, None).unwrap();
    assert!(killed.child.wait_timeout(Duration::from_millis(20)).unwrap().is_none());
    killed.child.signal(Signal::TERM).unwrap();
    let ended = killed.child.wait_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(ended.exit.code(), 128 + 15);
    // Asked again, it says the same; a signal to the dead is no error and hits nobody.
    assert_eq!(killed.child.try_wait().unwrap(), Some(ended));
    killed.child.signal(Signal::KILL).unwrap();
    let (said, ended) = start(&run_hostile(&["burn-ms", "40"]), &sandbox, None).unwrap().finish();
    let burned = Duration::from_nanos(said.parse().unwrap());
    assert!(ended.core_time >= burned && ended.core_time < burned + Duration::from_millis(40), "{ended:?}, {burned:?}");
}

#[test]
fn it_runs_as_somebody_else() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: not root");
        return;
    }
    let identity = Identity { uid: 65_534, gid: 65_533, groups: vec![65_532] };
    let program = Program { identity: Some(identity), ..run(&["sh", "-c", "id -u; id -g; id -G"]) };
    let (said, _) = start(&program, &Sandbox::default(), None).unwrap().finish();
    assert_eq!(said, "65534\n65533\n65533 65532");
}

#[test]
fn hundreds_of_children_leave_no_thread_behind() {
    let Some(arena) = Arena::new() else { return };
    let group = arena.group("many");
    let spawn_one = || {
        let prepared = Sandbox::default().prepare(&around(&[])).unwrap();
        spawn(&run(&["true"]), &[], &prepared, Some(&group)).unwrap()
    };
    for _ in 0..200 {
        assert_eq!(spawn_one().wait().unwrap().exit.code(), 0);
    }
    // One that is born frozen, and dies so.
    group.freezer().freeze(PATIENCE).unwrap();
    let mut unborn = spawn_one();
    group.freezer().kill().unwrap();
    assert_eq!(unborn.wait().unwrap().exit.code(), 137);
    until("the threads that made them have ended", || {
        let names = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        // Those of other tests come and go.
        names
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
            .all(|name| name != "maxwell-spawn\n")
    });
}
