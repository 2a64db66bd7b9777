//! Maxwell is killed: its keeper cleans up; the keeper is killed too: the next one sweeps.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maxwell_hypervisor::process::cgroup::{Hierarchy, leftovers, sweep};
use maxwell_hypervisor::process::sandbox::Sandbox;
use maxwell_hypervisor::process::spawn::{Identity, Program};
use rustix::process::{Pid, Signal, kill_process};

use crate::arena::{Arena, PATIENCE, Running, hostile, run, run_hostile, start, until};

/// Another Maxwell, with three agents: running, frozen, and born frozen.
struct Owner {
    running: Running,
    subtree: PathBuf,
    keeper: Pid,
    agents: Vec<Pid>,
    place: Hierarchy,
}

impl Owner {
    /// In a place of its own, so that no sweep of other tests gets there.
    fn new(arena: &Arena, name: &str) -> Self {
        let base = arena.subtree.path().join(name);
        std::fs::create_dir(&base).unwrap();
        let place = Hierarchy::below(Path::new("/"), &base).unwrap();
        let program = run_hostile(&["own", base.to_str().unwrap()]);
        Self::of(start(&program, &Sandbox::off(), None).unwrap(), place)
    }

    fn of(mut running: Running, place: Hierarchy) -> Self {
        let line = running.line();
        if !line.starts_with('/') {
            let (rest, ended) = running.finish();
            panic!("it owns nothing, and ended with {:?}: {line}{rest}", ended.exit);
        }
        let mut words = line.split(' ');
        let subtree = PathBuf::from(words.next().unwrap());
        let pids: Vec<Pid> = words.map(|word| Pid::from_raw(word.parse().expect(&line)).unwrap()).collect();
        let [keeper, agents @ ..] = pids.as_slice() else { panic!("{line}") };
        assert!(agents.len() == 3 && agents.iter().all(|agent| alive(*agent)) && alive(*keeper));
        Self { subtree, keeper: *keeper, agents: agents.to_vec(), running, place }
    }

    fn kill(&mut self) {
        self.running.child.signal(Signal::KILL).unwrap();
        assert_eq!(self.running.child.wait().unwrap().exit.code(), 137);
    }

    /// Directories of ours in version 1 for this subtree.
    fn twins(&self) -> Vec<PathBuf> {
        let name = self.subtree.file_name().unwrap();
        let controllers = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let below = |folder: PathBuf| [folder.join("maxwell").join(name)];
        controllers
            .flat_map(|entry| below(entry.path()))
            .filter(|path| path.exists() && *path != self.subtree)
            .collect()
    }
}

fn alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    // A zombie has ended; it waits for whoever adopted it.
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

#[test]
fn after_kill_9_the_keeper_leaves_nothing() {
    let Some(arena) = Arena::new() else { return };
    let mut owner = Owner::new(&arena, "killed");
    owner.kill();
    until("the keeper removes the subtree", || !owner.subtree.exists() && owner.twins().is_empty());
    until("all are dead, the keeper too", || !owner.agents.iter().chain([&owner.keeper]).any(|pid| alive(*pid)));
    assert_eq!(leftovers(&owner.place).unwrap(), []);
    assert!(!owner.subtree.parent().unwrap().exists(), "maxwell/ is gone too");
}

#[test]
fn with_the_keeper_killed_as_well_the_next_start_sweeps() {
    let Some(arena) = Arena::new() else { return };
    let mut owner = Owner::new(&arena, "both");
    kill_process(owner.keeper, Signal::KILL).unwrap();
    until("the keeper is dead", || !alive(owner.keeper));
    owner.kill();
    std::thread::sleep(Duration::from_millis(50));
    assert!(owner.agents.iter().all(|pid| alive(*pid)), "who killed them?");
    // A child that was born frozen still has copies of all that its Maxwell had open; that must not make it look alive.
    let left = leftovers(&owner.place).unwrap();
    assert_eq!(
        left.iter().map(|left| (left.path.clone(), left.processes)).collect::<Vec<_>>(),
        [(owner.subtree.clone(), 3)]
    );
    assert_eq!(sweep(&owner.place, PATIENCE).unwrap(), left);
    until("all are dead", || !owner.agents.iter().any(|pid| alive(*pid)));
    assert!(!owner.subtree.exists() && owner.twins().is_empty());
}

/// What systemd's `Delegate=yes` gives: a group that belongs to somebody who is not root.
#[test]
fn without_root_a_delegated_group_is_enough() {
    let Some(arena) = Arena::new() else { return };
    if !rustix::process::geteuid().is_root() {
        println!("skipped: not root, so nobody to delegate to");
        return;
    }
    let group = arena.group("delegated");
    let nobody = Some(65_534);
    std::os::unix::fs::chown(group.path(), nobody, nobody).unwrap();
    for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        std::os::unix::fs::chown(group.path().join(file), nobody, nobody).unwrap();
    }
    let place = Hierarchy::below(Path::new("/"), group.path()).unwrap();
    let identity = Identity { uid: 65_534, gid: 65_534, groups: Vec::new() };
    // A copy that nobody may execute, wherever the build is.
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("hostile");
    std::fs::copy(hostile(), &copy).unwrap();
    let program = Program { argv: vec![copy.into(), "own".into(), "".into()], identity: Some(identity), ..run(&[""]) };
    let mut owner = Owner::of(start(&program, &Sandbox::off(), Some(&group)).unwrap(), place);
    assert_eq!(owner.subtree.parent().unwrap().parent().unwrap(), group.path());
    owner.kill();
    until("the keeper removes the subtree", || !owner.subtree.exists());
    until("all are dead, the keeper too", || !owner.agents.iter().chain([&owner.keeper]).any(|pid| alive(*pid)));
}

#[test]
fn a_keeper_that_is_told_that_all_is_well_does_nothing() {
    let Some(arena) = Arena::new() else { return };
    // The keeper has none of our descriptors but its own few, ignores signals, and is no child that others wait for.
    let keeper = arena.subtree.keeper().unwrap().pid();
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", keeper.as_raw_nonzero())).unwrap().count();
    until("it has closed them", || descriptors() <= 12);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        kill_process(keeper, signal).unwrap();
    }
    std::thread::sleep(Duration::from_millis(20));
    assert!(alive(keeper));
    drop(arena);
    assert!(!alive(keeper));
}
