//! What process cells are made with, and what becomes of them: groups, meters, the broker, the census, the reaper.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use maxwell_core::AgentId;
use maxwell_ebpf::{Attachment, AuditedCalls, EbpfError, ErasureMeter, SyscallAudit};

use super::census::{Census, Counted, MOST, Newborn};
use super::cgroup::{CgroupError, Subtree};
use super::command::{Command, temporary};
use super::keeper::Keeper;
use super::life::{Clock, Holder, Life, Proof};
use super::sandbox::{SandboxError, Surroundings};
use super::spawn::{SpawnError, spawn};
use super::stop::{StopError, TOKEN, Tree};
use crate::lock;
use crate::protocol::account::{Account, Board};
use crate::protocol::broker::{self, Broker, Rate, SOCKET_VARIABLE};

/// Why a process cell cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Its group.
    #[error(transparent)]
    Group(#[from] CgroupError),
    /// Its command.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// Its sandbox.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// Its user.
    #[error("{0}")]
    User(std::io::Error),
    /// Its meters, sockets or threads.
    #[error("a process cell cannot be set up: {0}")]
    Io(#[from] std::io::Error),
    /// Neither a group nor signals can hold it.
    #[error("there is no cgroup v2 to write to, and its processes cannot be stopped by signals: {0}")]
    Stop(#[from] StopError),
}

/// The descriptor under which a command inherits its socket.
const SOCKET: RawFd = 3;
/// The longest wait for the remains of an agent.
const BURIAL: Duration = Duration::from_secs(5);

/// What holds agents' processes together on this machine.
#[derive(Debug)]
pub(super) enum Ground {
    /// Groups.
    Groups(Subtree),
    /// Signals.
    Signals {
        /// Why.
        why: String,
        /// What its tokens begin with.
        prefix: String,
        /// Ends them if we are killed.
        _keeper: Keeper,
    },
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(super) struct Workshop {
    ground: Ground,
    meter: Result<Arc<Mutex<ErasureMeter>>, EbpfError>,
    /// Opened when it is first asked for: it slows down everybody's system calls.
    audit: Mutex<Option<SyscallAudit>>,
    broker: Broker,
    census: Census,
    morgue: mpsc::Sender<Life>,
    cores: u64,
    lives: AtomicU64,
    /// Where no sandbox lets agents write: cgroups.
    forbidden: Vec<PathBuf>,
}

impl Workshop {
    pub(super) fn new(ground: Ground, forbidden: Vec<PathBuf>, board: Arc<Board>) -> Result<Arc<Self>, ProcessError> {
        let meter = match &ground {
            Ground::Groups(subtree) => ErasureMeter::open(subtree.level() + 1).map(|meter| Arc::new(Mutex::new(meter))),
            Ground::Signals { why, .. } => Err(EbpfError::Unsupported(why.clone())),
        };
        let (morgue, dead) = mpsc::channel::<Life>();
        std::thread::Builder::new().name("maxwell-reaper".into()).spawn(move || {
            for mut life in dead {
                life.finish(BURIAL);
            }
        })?;
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        Ok(Arc::new(Self {
            ground,
            audit: Mutex::new(None),
            broker: Broker::start(board, Rate::default())?,
            census: Census::start(meter.as_ref().ok().cloned())?,
            morgue,
            cores,
            lives: AtomicU64::new(0),
            forbidden,
            meter,
        }))
    }

    /// Cores that processes can use at once.
    pub(super) fn cores(&self) -> u64 {
        self.cores
    }

    pub(super) fn ground(&self) -> &Ground {
        &self.ground
    }

    /// How erased bytes are proved; `None` where they are estimated.
    pub(super) fn attachment(&self) -> Result<Attachment, &EbpfError> {
        self.meter.as_ref().map(|meter| lock(meter).attachment())
    }

    /// A new life: a group with the command frozen in it.
    pub(super) fn conceive(
        &self,
        id: AgentId,
        command: &Command,
        account: &Arc<Account>,
    ) -> Result<Life, ProcessError> {
        let (ours, theirs) = broker::pair()?;
        let mut program = command.program.clone();
        program.environment.retain(|(name, _)| name != SOCKET_VARIABLE);
        program.environment.push((SOCKET_VARIABLE.into(), SOCKET.to_string().into()));
        let files = command.streams.open()?;
        let mut streams: Vec<(RawFd, BorrowedFd<'_>)> =
            files.iter().map(|(target, file)| (*target, file.as_fd())).collect();
        streams.push((SOCKET, theirs.as_fd()));
        let here = std::env::current_dir()?;
        let descriptors: Vec<BorrowedFd<'_>> = streams.iter().map(|(_, stream)| *stream).collect();
        let around = Surroundings {
            directory: program.directory.as_deref().unwrap_or(&here),
            temporary: temporary(&program),
            forbidden: &self.forbidden,
            streams: &descriptors,
        };
        let sandbox = command.sandbox.prepare(&around)?;
        let mut unavailable = Vec::new();
        let mut life = match &self.ground {
            Ground::Groups(subtree) => {
                let life = self.lives.fetch_add(1, Ordering::Relaxed);
                let group = subtree.group(&format!("agent-{}-{life}", id.0), &command.limits)?;
                unavailable.extend(group.unavailable().iter().map(ToString::to_string));
                group.freezer().begin_freeze().map_err(|error| std::io::Error::other(error.to_string()))?;
                let clock = Clock::of(group.path())?;
                let procs = group.path().join("cgroup.procs");
                let proof = self.meter.as_ref().ok().and_then(|meter| lock(meter).watch(group.id()).ok());
                let estimate = proof.is_none();
                let child = spawn(&program, &streams, &sandbox, Some(&group))?;
                let mut newborn = Newborn::new(child.pid());
                let counted = Counted::new(group.id(), Box::new(move || newborn.leave_out(pids(&procs))), estimate);
                self.census.add(&counted);
                let proof = proof.map_or(Proof::Census, Proof::Kernel);
                Life::new(Holder::Group { group, clock, child }, proof, counted, command.wait_all)
            }
            Ground::Signals { prefix, .. } => {
                let limits = &command.limits;
                if limits.memory_bytes.is_some() || limits.tasks.is_some() {
                    unavailable.push("no limits of memory and processes: they take a cgroup".to_owned());
                }
                let token = format!("{prefix}{}-{}", id.0, self.lives.fetch_add(1, Ordering::Relaxed));
                program.environment.push((TOKEN.into(), token.clone().into()));
                let child = spawn(&program, &streams, &sandbox, None)?;
                let mut newborn = Newborn::new(child.pid());
                let tree = Tree::new(child, &token)?;
                let known = Arc::new(Mutex::new(tree.pids()));
                let theirs = Arc::clone(&known);
                let counted = Counted::new(0, Box::new(move || newborn.leave_out(lock(&theirs).clone())), true);
                self.census.add(&counted);
                let mut life = Life::new(Holder::Tree { tree, known }, Proof::Census, counted, command.wait_all);
                // What it did until here is on its first bill.
                life.freeze().map_err(std::io::Error::other)?;
                life
            }
        };
        if command.audit {
            match self.audited(life.group_id()) {
                Ok(calls) => life.audit(calls),
                Err(why) => unavailable.push(format!("system calls are not counted: {why}")),
            }
        }
        life.note(sandbox.enforced().clone(), unavailable);
        self.broker.add(ours, Arc::clone(account));
        Ok(life)
    }

    /// Begins to count the system calls of a group.
    fn audited(&self, group: Option<u64>) -> Result<AuditedCalls, String> {
        let (Some(group), Ground::Groups(subtree)) = (group, &self.ground) else {
            return Err("that takes a cgroup".to_owned());
        };
        let mut audit = lock(&self.audit);
        if audit.is_none() {
            *audit = Some(SyscallAudit::open(subtree.level() + 1).map_err(|error| error.to_string())?);
        }
        audit.as_ref().expect("just opened").watch(group).map_err(|error| error.to_string())
    }

    /// Tells an agent that it ends.
    pub(super) fn announce(&self, account: &Account, grace: Duration) {
        self.broker.condemn(account.agent(), account.standing().reason, grace);
    }

    /// Takes the newest samples of who erased.
    pub(super) fn sample(&self) {
        if let Ok(meter) = &self.meter {
            self.census.sample(meter);
        }
    }

    /// An agent is gone: nobody listens to it any more.
    pub(super) fn part(&self, agent: AgentId) {
        self.broker.remove(agent);
    }

    /// Waits for a dead life's remains, elsewhere.
    pub(super) fn bury(&self, life: Life) {
        // If the reaper is gone the life comes back in the error and is dropped here.
        let _ = self.morgue.send(life);
    }
}

/// The processes of a group, at most [`MOST`].
fn pids(procs: &std::path::Path) -> Vec<u32> {
    let Ok(file) = std::fs::File::open(procs) else { return Vec::new() };
    let mut text = String::new();
    // A pid has at most seven digits, and a line feed.
    let _ = file.take(MOST as u64 * 8).read_to_string(&mut text);
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(|line| line.parse().ok()).take(MOST).collect()
}
