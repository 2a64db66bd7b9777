//! How much memory agents hold, looked at now and then by a thread of its own: reading it takes some ten microseconds a
//! process, which a slot has better uses for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use maxwell_ebpf::{ErasureMeter, Held, Smaps};
use rustix::process::Pid;

use crate::lock;

/// The shortest time between two looks.
const LEAST: Duration = Duration::from_millis(200);
/// Looking takes at most one part in this many of a core.
const SHARE: u32 = 100;
/// The most processes of one agent that are looked at.
pub(super) const MOST: usize = 4_096;

/// The most names of programs that are kept for one agent; what others erase is kept under the last.
const NAMES: usize = 32;

/// What the census found of one agent.
#[derive(Debug, Default)]
pub(super) struct Counted {
    held: AtomicU64,
    erased: AtomicU64,
    /// What the kernel calls its group; zero if it has none.
    cgroup: u64,
    /// Which of its programs erased how much, as far as samples tell.
    erasers: Mutex<BTreeMap<String, u64>>,
    /// The agent's `cgroup.procs`, or whatever lists its processes.
    source: Mutex<Option<Source>>,
}

/// An agent's first process before it executes its program: a copy of Maxwell, whose memory is not the agent's.
pub(super) struct Newborn(Option<u32>);

impl Newborn {
    pub(super) fn new(first: Pid) -> Self {
        Self(u32::try_from(first.as_raw_nonzero().get()).ok())
    }

    /// These processes without it.
    pub(super) fn leave_out(&mut self, mut pids: Vec<u32>) -> Vec<u32> {
        if let Some(first) = self.0 {
            if is_copy(first) {
                pids.retain(|pid| *pid != first);
            } else {
                self.0 = None;
            }
        }
        pids
    }
}

/// Whether a process was forked and has not executed anything: `PF_FORKNOEXEC` in the ninth field of `/proc/PID/stat`.
fn is_copy(pid: u32) -> bool {
    const FORKED: u64 = 0x40;
    let text = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name ends with the last parenthesis.
    let fields = text.rsplit(|byte| *byte == b')').next().and_then(|rest| std::str::from_utf8(rest).ok());
    let flags = fields.and_then(|fields| fields.split_ascii_whitespace().nth(6)?.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & FORKED != 0)
}

/// What lists an agent's processes.
type List = Box<dyn FnMut() -> Vec<u32> + Send>;

struct Source {
    pids: List,
    held: Held,
    /// Estimates erased bytes too, where the kernel does not count them.
    smaps: Option<Smaps>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("smaps", &self.smaps).finish_non_exhaustive()
    }
}

impl Counted {
    /// An agent whose processes `pids` lists. `estimate` says whether erased bytes are estimated.
    pub(super) fn new(cgroup: u64, pids: List, estimate: bool) -> Arc<Self> {
        let source = Source { pids, held: Held::default(), smaps: estimate.then(Smaps::default) };
        Arc::new(Self { cgroup, source: Mutex::new(Some(source)), ..Self::default() })
    }

    /// What it held when it was last looked at.
    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn erased(&self) -> u64 {
        self.erased.load(Ordering::Relaxed)
    }

    /// Which of its programs erased how much, by samples; most first.
    pub(super) fn erasers(&self) -> Vec<(String, u64)> {
        let mut all: Vec<_> = lock(&self.erasers).iter().map(|(name, bytes)| (name.clone(), *bytes)).collect();
        all.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        all
    }

    fn note(&self, name: String, bytes: u64) {
        let mut erasers = lock(&self.erasers);
        let name = if erasers.len() < NAMES || erasers.contains_key(&name) { name } else { "(others)".to_owned() };
        *erasers.entry(name).or_default() += bytes;
    }

    /// Looks at it now.
    fn look(&self) {
        let mut source = lock(&self.source);
        let Some(source) = source.as_mut() else { return };
        let pids = (source.pids)();
        self.held.store(source.held.bytes(&pids), Ordering::Relaxed);
        if let Some(smaps) = &mut source.smaps {
            self.erased.store(smaps.look(&pids), Ordering::Relaxed);
        }
    }

    /// Its processes are gone: it holds nothing, and is not looked at again.
    pub(super) fn close(&self) {
        *lock(&self.source) = None;
        self.held.store(0, Ordering::Relaxed);
    }
}

/// The thread that looks.
#[derive(Debug)]
pub(super) struct Census {
    agents: Arc<Mutex<Vec<Weak<Counted>>>>,
    quit: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Census {
    pub(super) fn start(meter: Option<Arc<Mutex<ErasureMeter>>>) -> std::io::Result<Self> {
        let (agents, quit) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (theirs, stop) = (Arc::clone(&agents), Arc::clone(&quit));
        let thread = std::thread::Builder::new()
            .name("maxwell-census".into())
            .spawn(move || look(&theirs, meter.as_deref(), &stop))?;
        Ok(Self { agents, quit, thread: Some(thread) })
    }

    pub(super) fn add(&self, agent: &Arc<Counted>) {
        lock(&self.agents).push(Arc::downgrade(agent));
    }

    /// Takes the samples that have come since the last look.
    pub(super) fn sample(&self, meter: &Mutex<ErasureMeter>) {
        sample(&self.agents, meter);
    }
}

impl Drop for Census {
    fn drop(&mut self) {
        self.quit.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A census that panicked has already said so on stderr.
            let _ = thread.join();
        }
    }
}

fn sample(agents: &Mutex<Vec<Weak<Counted>>>, meter: &Mutex<ErasureMeter>) {
    let all: Vec<Arc<Counted>> = lock(agents).iter().filter_map(Weak::upgrade).collect();
    lock(meter).samples(|sample| {
        if let Some(agent) = all.iter().find(|agent| agent.cgroup == sample.cgroup) {
            agent.note(sample.name(), sample.bytes);
        }
    });
}

fn look(agents: &Mutex<Vec<Weak<Counted>>>, meter: Option<&Mutex<ErasureMeter>>, quit: &AtomicBool) {
    while !quit.load(Ordering::Acquire) {
        let began = Instant::now();
        let all: Vec<Arc<Counted>> = {
            let mut agents = lock(agents);
            agents.retain(|agent| agent.strong_count() > 0);
            agents.iter().filter_map(Weak::upgrade).collect()
        };
        all.iter().for_each(|agent| agent.look());
        drop(all);
        if let Some(meter) = meter {
            sample(agents, meter);
        }
        std::thread::park_timeout(LEAST.max(began.elapsed() * SHARE));
    }
}
