//! Agents outside the market: each in a group of its own, born frozen.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use maxwell_hypervisor::process::cgroup::{Cgroup, Controller, Limits, Subtree};
use maxwell_hypervisor::process::child::Child;
use maxwell_hypervisor::process::sandbox::{Sandbox, Surroundings};
use maxwell_hypervisor::process::spawn::{Program, SpawnError, spawn};
use maxwell_physics::TaskClock;

use super::output::Lines;
use super::roster::{Member, Role};
use super::watch::Seen;
use super::{Real, RealError};
use crate::experiment::arm::Arm;

/// How long freezing and thawing may take, and a group to die: with five hundred processes on a busy machine not at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// The least weight that the kernel knows, in version 1 (`MIN_SHARES`, `kernel/sched/sched.h`) and 2.
const LEAST: (&str, &str) = ("2", "1");

/// An agent's group and its first process.
#[derive(Debug)]
pub(super) struct Body {
    group: Cgroup,
    child: Child,
    pub(super) thawed: bool,
    pub(super) alive: bool,
}

/// All of them. Dropping ends everything in them.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) bodies: Vec<Body>,
    _weights: Vec<Weight>,
    // After the groups in it.
    _subtree: Subtree,
}

impl Fleet {
    /// Makes everybody, frozen.
    pub(super) fn new(real: &Real, arm: Arm, members: &[Member]) -> Result<(Self, Vec<Seen>), RealError> {
        let subtree = Subtree::new(&real.hierarchy)?;
        let (mut bodies, mut seen) = (Vec::new(), Vec::new());
        // A quota of all cores limits nothing; what is wanted is the group in the cpu controller.
        let millicores = (arm != Arm::Nice).then(|| u32::from(real.machine().slots) * 1_000);
        let limits = Limits { millicores, ..Limits::default() };
        for member in members {
            let group = subtree.group(&member.name, &limits)?;
            group.freezer().begin_freeze()?;
            let clock = TaskClock::of_cgroup(group.path())?;
            let lines = Lines::create(real.lines.join(format!("{}.lines", member.name)))?;
            let child = start(real, arm, member, &lines, &group)?;
            if member.role == Role::Leech {
                handicap(arm, &group, &child)?;
            }
            bodies.push(Body { group, child, thawed: false, alive: true });
            seen.push(Seen::new(member, lines, clock));
        }
        // Under the market no more of them run at a time than there are cores.
        let running = members.len().min(usize::from(real.machine().slots));
        let weights = bodies.first().map_or_else(Vec::new, |body| Weight::of(&body.group, running));
        Ok((Self { bodies, _weights: weights, _subtree: subtree }, seen))
    }

    /// Lets one run.
    pub(super) fn thaw(&mut self, at: usize) -> Result<(), RealError> {
        let body = &mut self.bodies[at];
        if body.alive && !std::mem::replace(&mut body.thawed, true) {
            body.group.freezer().thaw(PATIENCE)?;
        }
        Ok(())
    }

    /// Freezes one; how long that took.
    pub(super) fn freeze(&mut self, at: usize) -> Result<Option<Duration>, RealError> {
        let body = &mut self.bodies[at];
        if !body.alive || !std::mem::replace(&mut body.thawed, false) {
            return Ok(None);
        }
        let began = Instant::now();
        body.group.freezer().freeze(PATIENCE)?;
        Ok(Some(began.elapsed()))
    }

    /// Ends one. Does not wait until it is gone: two hundred Sybils would keep the watch from looking for as long.
    pub(super) fn kill(&mut self, at: usize) -> Result<(), RealError> {
        let body = &mut self.bodies[at];
        if std::mem::replace(&mut body.alive, false) {
            body.group.freezer().kill()?;
        }
        Ok(())
    }

    /// Whether its first process has ended by itself, and how, in words.
    pub(super) fn ended(&mut self, at: usize) -> Option<String> {
        let body = &mut self.bodies[at];
        let ended = body.child.try_wait().ok().flatten()?;
        Some(format!("{:?}", ended.exit))
    }
}

impl Drop for Fleet {
    /// Ends everybody, and waits for those who are our children: nobody else would, and a long series of Sybils would use up the
    /// kernel's process numbers.
    fn drop(&mut self) {
        for body in &self.bodies {
            // Where it cannot be ended now, its group is ended with the tree.
            let _ = body.group.freezer().kill();
        }
        for body in &mut self.bodies {
            let _ = body.child.wait_timeout(PATIENCE);
        }
    }
}

/// The weight of a group above the agents', until it is dropped. Together they weigh beside everything else on the host what as many
/// tasks weigh as there are cores: that is what the market's agents weigh, which are in no group of this controller and of which no
/// more run at a time. With more, whoever else computes would take more from the market than from the other arms.
#[derive(Debug)]
struct Weight {
    path: PathBuf,
    before: String,
}

impl Weight {
    /// Of the instance's group and the one above it.
    fn of(agent: &Cgroup, running: usize) -> Vec<Self> {
        let above = agent.limited_in(Controller::Cpu).into_iter().flat_map(|folder| folder.ancestors().skip(1).take(2));
        let files = above.map(|folder| folder.join("cpu.shares"));
        // Where it is not to be had (version 2 counts otherwise) the host is as it is.
        files.filter_map(|path| Self::set(path, running * 1_024)).collect()
    }

    fn set(path: PathBuf, shares: usize) -> Option<Self> {
        let before = std::fs::read_to_string(&path).ok()?;
        std::fs::write(&path, shares.to_string()).ok()?;
        Some(Self { path, before })
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        // It may be gone: then there is nothing to set back.
        let _ = std::fs::write(&self.path, self.before.trim());
    }
}

/// Starts a program in its frozen group.
fn start(real: &Real, arm: Arm, member: &Member, lines: &Lines, group: &Cgroup) -> Result<Child, RealError> {
    let program = Program {
        argv: member.command.iter().map(Into::into).collect(),
        environment: std::env::vars_os().filter(|(name, _)| name != "MAXWELL_SOCKET").collect(),
        directory: Some(real.lines.clone()),
        identity: None,
    };
    // Between sessions the kernel shares by sessions, not by niceness (`sched_autogroup`, sched(7)).
    let sandbox = Sandbox { session: arm != Arm::Nice, ..Sandbox::default() };
    let output = OpenOptions::new().append(true).open(lines.path()).map_err(RealError::io("open", lines.path()))?;
    let input = std::fs::File::open("/dev/null").map_err(RealError::io("open", Path::new("/dev/null")))?;
    let streams: [(RawFd, BorrowedFd<'_>); 2] = [(0, input.as_fd()), (1, output.as_fd())];
    let descriptors = [input.as_fd(), output.as_fd()];
    let around = Surroundings {
        directory: &real.lines,
        temporary: &real.lines,
        forbidden: &real.hierarchy.mounts(),
        streams: &descriptors,
    };
    let prepared = sandbox.prepare(&around).map_err(SpawnError::from)?;
    Ok(spawn(&program, &streams, &prepared, Some(group))?)
}

/// What the arms that know the leeches do to them.
fn handicap(arm: Arm, group: &Cgroup, child: &Child) -> Result<(), RealError> {
    match arm {
        Arm::Nice => rustix::process::setpriority_process(Some(child.pid()), 19)
            .map_err(|errno| RealError::NoWeights(format!("nice: {errno}"))),
        Arm::Weight => {
            let Some(folder) = group.limited_in(Controller::Cpu) else {
                let why = group.unavailable().first().map_or_else(String::new, ToString::to_string);
                return Err(RealError::NoWeights(why));
            };
            let (file, least) = match folder.join("cpu.shares") {
                path if path.exists() => (path, LEAST.0),
                _ => (folder.join("cpu.weight"), LEAST.1),
            };
            std::fs::write(&file, least).map_err(RealError::io("write", &file))
        }
        _ => Ok(()),
    }
}
