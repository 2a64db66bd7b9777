//! Trees of files that stand for machines.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// A machine with these mounts, and this `/proc/self/cgroup`.
fn machine(mounts: &[&str], groups: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
    std::fs::write(root.path().join("proc/self/mountinfo"), mounts.join("\n") + "\n").unwrap();
    std::fs::write(root.path().join("proc/self/cgroup"), groups).unwrap();
    root
}

/// A group with the one file that decides whether processes may be moved.
fn group(root: &Path, path: &str) -> PathBuf {
    let path = root.join(path);
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("cgroup.procs"), "").unwrap();
    path
}

const DISK: &str = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw";
const UNIFIED: &str = "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";

#[test]
fn root_on_a_unified_host_makes_groups_at_the_top() {
    let root = machine(&[DISK, UNIFIED], "0::/system.slice/ssh.service\n");
    let mount = group(root.path(), "sys/fs/cgroup");
    let found = Hierarchy::find_as(root.path(), true).unwrap();
    assert_eq!((found.layout(), found.level(), found.delegated()), (Layout::Unified, 0, false));
    assert_eq!((found.mount(), found.parent()), (mount.as_path(), mount.as_path()));
    assert_eq!(found.limits(), []);
    std::fs::write(mount.join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
    assert_eq!(found.limits(), Controller::ALL);
}

#[test]
fn a_hybrid_host_has_its_controllers_in_version_1() {
    let v2 = "31 22 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw";
    let cpu = "32 22 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:8 - cgroup cgroup rw,cpu,cpuacct";
    let memory = "33 22 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
    let systemd = "34 22 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd";
    let pids = "35 22 0:31 / /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids";
    let groups = "9:name=systemd:/\n8:pids:/\n4:memory:/box/7\n2:cpu,cpuacct:/\n0::/\n";
    let root = machine(&[DISK, v2, cpu, memory, systemd, pids], groups);
    group(root.path(), "sys/fs/cgroup/unified");
    let found = Hierarchy::find_as(root.path(), true).unwrap();
    assert_eq!(found.layout(), Layout::Hybrid);
    assert_eq!(found.mount(), root.path().join("sys/fs/cgroup/unified"));
    // Below our own group, whose limits hold for us; and the read-only one is none.
    assert_eq!(
        found.version_1(),
        [
            (Controller::Memory, root.path().join("sys/fs/cgroup/memory/box/7")),
            (Controller::Cpu, root.path().join("sys/fs/cgroup/cpu,cpuacct")),
        ]
    );
    assert_eq!(found.limits(), [], "their directories are not there");
    group(root.path(), "sys/fs/cgroup/memory/box/7");
    assert_eq!(found.limits(), [Controller::Memory]);
}

#[test]
fn version_1_alone_is_refused_with_what_to_do() {
    let memory = "33 22 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
    let root = machine(&[DISK, memory], "4:memory:/\n");
    let error = Hierarchy::find_as(root.path(), true).unwrap_err();
    assert!(matches!(error, CgroupError::NoVersion2 { version_1: true }));
    assert!(error.to_string().contains("mount -t cgroup2"), "{error}");
    let root = machine(&[DISK], "");
    assert!(matches!(Hierarchy::find_as(root.path(), true), Err(CgroupError::NoVersion2 { version_1: false })));
}

#[test]
fn without_privileges_groups_are_made_in_the_delegated_one() {
    let own = "user.slice/user-1000.slice/user@1000.service/app.slice/run-7.scope";
    let root = machine(&[DISK, UNIFIED], &format!("0::/{own}\n"));
    group(root.path(), "sys/fs/cgroup");
    let path = group(root.path(), &format!("sys/fs/cgroup/{own}"));
    let found = Hierarchy::find_as(root.path(), false).unwrap();
    assert_eq!((found.parent(), found.level(), found.delegated()), (path.as_path(), 5, true));
    // We live in it, so it hands out no controller that it does not already.
    std::fs::write(path.join("cgroup.controllers"), "memory pids\n").unwrap();
    assert_eq!(found.limits(), []);
    std::fs::write(path.join("cgroup.subtree_control"), "pids\n").unwrap();
    assert_eq!(found.limits(), [Controller::Pids]);
}

#[test]
fn a_group_that_was_not_delegated_is_refused() {
    let root = machine(&[DISK, UNIFIED], "0::/user.slice/session-3.scope\n");
    // Even root could not write to what is not there.
    group(root.path(), "sys/fs/cgroup");
    assert!(matches!(Hierarchy::find_as(root.path(), false), Err(CgroupError::NotDelegated { .. })));
    // A group outside what the mount shows.
    let root = machine(&[DISK, UNIFIED], "0::/../other\n");
    group(root.path(), "sys/fs/cgroup");
    assert!(matches!(Hierarchy::find_as(root.path(), false), Err(CgroupError::NotDelegated { .. })));
}

#[test]
fn a_read_only_mount_is_refused_and_a_writable_one_beside_it_taken() {
    let read_only = "30 22 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw";
    let root = machine(&[DISK, read_only], "0::/\n");
    group(root.path(), "sys/fs/cgroup");
    assert!(matches!(Hierarchy::find_as(root.path(), true), Err(CgroupError::ReadOnly { .. })));
    let other = "31 22 0:26 / /run/my\\040cgroups rw - cgroup2 cgroup2 rw";
    let root = machine(&[DISK, read_only, other], "0::/\n");
    let mount = group(root.path(), "run/my cgroups");
    assert_eq!(Hierarchy::find_as(root.path(), true).unwrap().mount(), mount);
}

#[test]
fn what_is_mounted_over_a_mount_covers_it() {
    let read_only = "68 30 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw";
    let root = machine(&[DISK, UNIFIED, read_only], "0::/\n");
    group(root.path(), "sys/fs/cgroup");
    assert!(matches!(Hierarchy::find_as(root.path(), true), Err(CgroupError::ReadOnly { .. })));
    let hidden = "69 30 0:40 / /sys/fs/cgroup rw - tmpfs tmpfs rw";
    let root = machine(&[DISK, UNIFIED, hidden], "0::/\n");
    assert!(matches!(Hierarchy::find_as(root.path(), true), Err(CgroupError::NoVersion2 { .. })));
}

#[test]
fn a_mount_of_a_part_counts_levels_from_the_top() {
    // A container without a cgroup namespace of its own.
    let part = "30 22 0:26 /docker/ab12 /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
    let root = machine(&[DISK, part], "0::/docker/ab12/inner\n");
    group(root.path(), "sys/fs/cgroup");
    let path = group(root.path(), "sys/fs/cgroup/inner");
    assert_eq!(Hierarchy::find_as(root.path(), true).unwrap().level(), 2);
    let found = Hierarchy::find_as(root.path(), false).unwrap();
    assert_eq!((found.parent(), found.level()), (path.as_path(), 3));
}

#[test]
fn an_explicit_parent_is_taken_if_it_lies_in_the_hierarchy() {
    let root = machine(&[DISK, UNIFIED], "0::/\n");
    let mount = group(root.path(), "sys/fs/cgroup");
    let path = group(root.path(), "sys/fs/cgroup/a/b");
    let found = Hierarchy::below(root.path(), &path).unwrap();
    assert_eq!((found.parent(), found.level(), found.mount()), (path.as_path(), 2, mount.as_path()));
    assert!(Hierarchy::below(root.path(), Path::new("/tmp")).unwrap_err().to_string().contains("not below"));
    assert!(matches!(Hierarchy::below(root.path(), &mount.join("gone")), Err(CgroupError::NotDelegated { .. })));
}

#[test]
fn rubbish_is_no_mount() {
    let lines =
        ["", "-", "1 2 3", "30 22 0:26 / /x rw - cgroup2", "30 22 0:26 / /x rw cgroup2 cgroup2 rw", "\u{0} \\777 \\"];
    let root = machine(&lines, ":::\n0\n");
    assert!(matches!(Hierarchy::find_as(root.path(), true), Err(CgroupError::NoVersion2 { version_1: false })));
    let gone = tempfile::tempdir().unwrap();
    assert!(matches!(Hierarchy::find_as(gone.path(), true), Err(CgroupError::Io { doing: "read", .. })));
    // Permissions that a mode can express, for whoever is not root.
    if !rustix::process::geteuid().is_root() {
        let root = machine(&[DISK, UNIFIED], "0::/mine\n");
        let mine = group(root.path(), "sys/fs/cgroup/mine");
        std::fs::set_permissions(&mine, std::fs::Permissions::from_mode(0o555)).unwrap();
        assert!(matches!(Hierarchy::find_as(root.path(), false), Err(CgroupError::NotDelegated { .. })));
    }
}
