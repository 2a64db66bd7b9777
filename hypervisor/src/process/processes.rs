//! What makes process cells.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use maxwell_core::AgentId;

use super::cell::ProcessCell;
use super::cgroup::{CgroupError, Hierarchy, Subtree, sweep};
use super::command::Command;
use super::keeper::Keeper;
use super::stop;
use super::workshop::{Ground, ProcessError, Workshop};
use crate::protocol::account::Board;

/// How long a sweep waits for what a dead Maxwell left behind.
const SWEEP: Duration = Duration::from_secs(2);

/// What makes process cells, and ends everything in them when it and they are dropped.
#[derive(Debug)]
pub struct Processes {
    workshop: Arc<Workshop>,
}

impl Processes {
    /// Sets up groups, meters and the threads that serve process agents, after sweeping up what dead Maxwells left behind.
    /// Where groups cannot be made, process trees are stopped by signals.
    ///
    /// # Errors
    ///
    /// [`ProcessError`]: too many descriptors or threads.
    pub fn open(board: Arc<Board>) -> Result<Self, ProcessError> {
        let root = Path::new("/");
        let groups = Hierarchy::find(root).and_then(|hierarchy| {
            // What cannot be swept up is in nobody's way: `maxwell doctor` shows it.
            let _ = sweep(&hierarchy, SWEEP);
            let mounts = hierarchy.mounts();
            Subtree::new(&hierarchy).map(|subtree| (subtree, mounts))
        });
        let (ground, forbidden) = match groups {
            Ok((subtree, mounts)) => (Ground::Groups(subtree), mounts),
            Err(why) => (signals(&why)?, Vec::<PathBuf>::new()),
        };
        Ok(Self { workshop: Workshop::new(ground, forbidden, board)? })
    }

    /// Makes the cell of agent `id`, with its command frozen in it until its first turn.
    ///
    /// # Errors
    ///
    /// [`ProcessError`]: what is wrong with the command, or with this machine.
    pub fn spawn(&self, id: AgentId, command: Command) -> Result<Arc<ProcessCell>, ProcessError> {
        ProcessCell::new(id, command, Arc::clone(&self.workshop)).map(Arc::new)
    }

    /// How agents are held, in words.
    #[must_use]
    pub fn held_by(&self) -> String {
        match self.workshop.ground() {
            Ground::Groups(_) => "a cgroup each".to_owned(),
            Ground::Signals { why, .. } => format!("signals, which is weaker ({why})"),
        }
    }

    /// How the bytes that they erase are counted, in words.
    #[must_use]
    pub fn erased_by(&self) -> String {
        match self.workshop.attachment() {
            _ if matches!(self.workshop.ground(), Ground::Signals { .. }) => {
                "estimated from smaps (the kernel counts for cgroups only)".to_owned()
            }
            Ok(attachment) => format!("counted by the kernel ({})", attachment.name()),
            Err(why) => format!("estimated from smaps ({why})"),
        }
    }
}

fn signals(why: &CgroupError) -> Result<Ground, ProcessError> {
    stop::sweep(SWEEP);
    let prefix = stop::prefix();
    let keeper = stop::Marked::with(&prefix).and_then(|marked| Keeper::start(&marked));
    let keeper = keeper.map_err(|errno| ProcessError::Group(CgroupError::Keeper(errno.into())))?;
    Ok(Ground::Signals { why: why.to_string(), prefix, _keeper: keeper })
}
