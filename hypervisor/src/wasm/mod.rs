//! WebAssembly cells: the embedded default, which needs no privileges.
//!
//! * [`Wasm::register`] checks and compiles a module once, off the tick; [`Wasm::spawn`] makes a cell of it.
//! * Each agent is a future that owns its store (`agent.rs`); **freezing is not polling, killing is dropping**.
//! * Metering is by fuel, which is deterministic: after some fuel the guest yields and the slot's thread looks at the clock.
//!   How much is adapted to the guest, so that a yield comes every few tens of microseconds. Billing is by thread CPU time
//!   around the polls (`cell.rs`), so work that ends in a trap is billed like any other.
//! * Erased bytes are what the kernel proves (`dirty.rs`); imports are in `abi.rs`; `engine.rs` says what a module must
//!   look like.

mod abi;
mod agent;
mod cell;
mod dirty;
mod engine;

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, mpsc};
use std::thread::JoinHandle;

pub use dirty::Method;
pub use engine::{Program, WasmConfig, WasmError};
use maxwell_core::AgentId;

use self::abi::{Commons, Exchange, Host, Inbox, Pace, SplitMix64};
use self::cell::WasmCell;
use self::dirty::Kernel;
use crate::{Cell, Offers};

/// What all cells are made with.
#[derive(Debug)]
struct Workshop {
    config: WasmConfig,
    /// How erased bytes are proved; `None` where the kernel cannot.
    kernel: Option<Kernel>,
    commons: Arc<Commons>,
}

impl Workshop {
    /// An agent's life, before its first instruction.
    fn conceive(&self, id: AgentId, program: &Program, exchange: &Arc<Exchange>, inbox: &Arc<Inbox>) -> agent::Life {
        let mut seeder = SplitMix64(self.config.seed ^ id.0.wrapping_mul(0xA076_1D64_78BD_642F));
        let host = Host {
            id,
            exchange: Arc::clone(exchange),
            inbox: Arc::clone(inbox),
            commons: Arc::clone(&self.commons),
            random: SplitMix64(seeder.next()),
            max_memory: usize::try_from(self.config.max_memory.0).unwrap_or(usize::MAX),
            interval: Pace::FIRST,
            refused_memory: false,
        };
        exchange.interval.store(Pace::FIRST, Ordering::Relaxed);
        agent::life(program.clone(), host)
    }
}

/// What makes WebAssembly cells. See the [module documentation](self).
pub struct Wasm {
    linker: wasmtime::Linker<Host>,
    workshop: Arc<Workshop>,
    agents: u32,
    morgue: Option<mpsc::Sender<agent::Life>>,
    reaper: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Wasm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wasm").field("workshop", &self.workshop).field("agents", &self.agents).finish_non_exhaustive()
    }
}

impl Wasm {
    /// Sets up the engine. Agents will see `offers`.
    ///
    /// # Errors
    ///
    /// [`WasmError::Engine`] or [`WasmError::Thread`].
    pub fn new(config: WasmConfig, offers: Arc<Offers>) -> Result<Self, WasmError> {
        let engine = engine::engine(&config)?;
        let mut linker = wasmtime::Linker::new(&engine);
        abi::define(&mut linker)?;
        let kernel = if config.force_checksum { None } else { Kernel::open().ok() };
        let (morgue, dead) = mpsc::channel::<agent::Life>();
        let reaper = std::thread::Builder::new().name("maxwell-reaper".into()).spawn(move || {
            for life in dead {
                drop(life);
            }
        })?;
        let commons = Arc::new(Commons::new(offers));
        let workshop = Arc::new(Workshop { config, kernel, commons });
        Ok(Self { linker, workshop, agents: 0, morgue: Some(morgue), reaper: Some(reaper) })
    }

    /// How erased bytes are counted here.
    #[must_use]
    pub fn method(&self) -> Method {
        if self.workshop.kernel.is_some() { Method::PagemapScan } else { Method::Checksum }
    }

    /// Checks and compiles a module, binary or text. Takes milliseconds to seconds: not for the tick thread.
    ///
    /// # Errors
    ///
    /// What is wrong with the module, and what to do about it.
    pub fn register(&self, bytes: &[u8]) -> Result<Program, WasmError> {
        engine::program(&self.workshop.config, &self.linker, bytes)
    }

    /// Makes the cell of agent `id`. Its code runs for the first time in its first slot: instantiating is paid for too.
    ///
    /// # Errors
    ///
    /// [`WasmError::Full`].
    ///
    /// # Panics
    ///
    /// Never: the morgue is open as long as this lives.
    pub fn spawn(&mut self, id: AgentId, program: &Program) -> Result<Arc<dyn Cell>, WasmError> {
        if self.agents >= self.workshop.config.agents {
            return Err(WasmError::Full(self.workshop.config.agents));
        }
        self.agents += 1;
        let inbox = Arc::new(Inbox::open());
        let mut inboxes = self.workshop.commons.inboxes.write().unwrap_or_else(PoisonError::into_inner);
        inboxes.insert(id, Arc::clone(&inbox));
        let morgue = self.morgue.clone().expect("open until this is dropped");
        Ok(Arc::new(WasmCell::new(id, program.clone(), Arc::clone(&self.workshop), inbox, morgue)))
    }
}

impl Drop for Wasm {
    fn drop(&mut self) {
        self.morgue = None;
        // Cells may outlive this and hold senders of their own, so the reaper cannot be joined: it ends with the last.
        drop(self.reaper.take());
    }
}
