//! The Wasmtime engine: deterministic, metered by fuel, pooled; and what a module must look like.

use maxwell_core::Bytes;
use wasmtime::{
    Config, Engine, ExternType, InstanceAllocationStrategy, InstancePre, Linker, Module, PoolingAllocationConfig,
    ValType,
};

use super::abi::{self, Host};

/// Limits and sizes of the WASM cells of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WasmConfig {
    /// Agents that can exist at once.
    pub agents: u32,
    /// The most linear memory one agent may hold.
    pub max_memory: Bytes,
    /// The largest module accepted.
    pub max_module: Bytes,
    /// Watch erased bytes by checksum even where the kernel could do better.
    pub force_checksum: bool,
    /// Seed of every agent's `random`.
    pub seed: u64,
}

impl Default for WasmConfig {
    fn default() -> Self {
        Self { agents: 64, max_memory: Bytes(64 << 20), max_module: Bytes(16 << 20), force_checksum: false, seed: 0 }
    }
}

/// What was wrong with a module or with the machine.
#[derive(Debug, thiserror::Error)]
pub enum WasmError {
    /// Larger than is accepted.
    #[error(
        "the module is {size}, more than the {max} that are accepted: strip it (`wasm-tools strip`), or raise `max_module`"
    )]
    TooLarge {
        /// Its size.
        size: Bytes,
        /// The limit.
        max: Bytes,
    },
    /// Not WebAssembly, or not valid.
    #[error("not a valid WebAssembly module: {0}")]
    Invalid(String),
    /// Imports something that Maxwell does not offer.
    #[error(
        "the module imports `{module}.{name}`, which does not exist: agents may import only {offered} from `maxwell`"
    )]
    Import {
        /// The import's module.
        module: String,
        /// Its name.
        name: String,
        /// What there is.
        offered: String,
    },
    /// An import or export has the wrong type.
    #[error("{what} must have the type `{wanted}`: see docs/agent-abi.md")]
    Type {
        /// Which.
        what: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// A required export is missing.
    #[error("the module does not export `{name}` ({wanted}): see docs/agent-abi.md")]
    Missing {
        /// Its name.
        name: &'static str,
        /// Its type.
        wanted: &'static str,
    },
    /// Wants more memory from the start than an agent may hold.
    #[error(
        "the module declares {declared} of memory, more than the {max} an agent may hold: lower its memory, or raise `max_memory`"
    )]
    Memory {
        /// What it declares.
        declared: Bytes,
        /// The limit.
        max: Bytes,
    },
    /// The engine could not be set up.
    #[error("the WebAssembly engine could not be set up: {0}")]
    Engine(String),
    /// A thread could not be started.
    #[error("a worker thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
    /// No room for another agent.
    #[error("there is room for {0} agents and all of it is taken: raise `agents`")]
    Full(u32),
}

/// A module that was checked and compiled.
#[derive(Clone)]
pub struct Program {
    pub(super) instance: InstancePre<Host>,
    /// Whether it has last words to say.
    pub has_last_words: bool,
    /// Linear memory at birth.
    pub initial_memory: Bytes,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program")
            .field("has_last_words", &self.has_last_words)
            .field("initial_memory", &self.initial_memory)
            .finish_non_exhaustive()
    }
}

const WASM_PAGE: u64 = 65_536;
/// Virtual address space given to each memory while there is enough of it: 4 GiB lets the compiler leave out bounds
/// checks. 47 bits hold 2¹⁵ of them; half is left for everything else.
const FULL_RESERVATION: u64 = 4 << 30;
const MOST_FULL_RESERVATIONS: u32 = 16_384;

/// The engine for `config`.
pub(super) fn engine(config: &WasmConfig) -> Result<Engine, WasmError> {
    let max_memory =
        usize::try_from(config.max_memory.0).map_err(|_| WasmError::Engine("max_memory is too large".into()))?;
    let mut pool = PoolingAllocationConfig::default();
    pool.total_core_instances(config.agents)
        .total_memories(config.agents)
        .total_tables(config.agents)
        .total_stacks(config.agents)
        .max_memories_per_module(1)
        .max_tables_per_module(1)
        .max_memory_size(max_memory)
        .table_elements(10_000)
        .max_core_instance_size(1 << 20)
        .max_unused_warm_slots(0);

    let mut engine = Config::new();
    engine
        // Determinism (docs/examples-deterministic-wasm-execution.md of Wasmtime): fuel, never epochs; one NaN; no
        // instruction whose result depends on the processor; no shared memory.
        .consume_fuel(true)
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_function_references(false)
        .wasm_gc(false)
        .wasm_tail_call(true)
        .max_wasm_stack(256 << 10)
        .async_stack_size(512 << 10)
        // Write-protection watches anonymous memory; images mapped over it would be replaced at every start.
        .memory_init_cow(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    if config.agents > MOST_FULL_RESERVATIONS {
        engine.memory_reservation(config.max_memory.0.next_multiple_of(WASM_PAGE));
    } else {
        engine.memory_reservation(FULL_RESERVATION);
    }
    Engine::new(&engine).map_err(|error| WasmError::Engine(format!("{error:#}")))
}

/// Checks and compiles a module given as bytes or as text.
pub(super) fn program(config: &WasmConfig, linker: &Linker<Host>, bytes: &[u8]) -> Result<Program, WasmError> {
    let size = Bytes(bytes.len() as u64);
    if size > config.max_module {
        return Err(WasmError::TooLarge { size, max: config.max_module });
    }
    let module = Module::new(linker.engine(), bytes).map_err(|error| {
        // The limit on memory is checked by the pool while it validates; say it in our own words.
        match declared_memory(bytes) {
            Some(declared) if declared > config.max_memory => WasmError::Memory { declared, max: config.max_memory },
            _ => WasmError::Invalid(one_line(&error)),
        }
    })?;
    for import in module.imports() {
        if import.module() != "maxwell" || !abi::IMPORTS.contains(&import.name()) {
            return Err(WasmError::Import {
                module: crate::offers::printable(import.module().as_bytes()),
                name: crate::offers::printable(import.name().as_bytes()),
                offered: abi::IMPORTS.join(", "),
            });
        }
    }
    let initial_memory = match module.get_export("memory") {
        Some(ExternType::Memory(memory)) => Bytes(memory.minimum() * WASM_PAGE),
        _ => return Err(WasmError::Missing { name: "memory", wanted: "a memory" }),
    };
    if initial_memory > config.max_memory {
        return Err(WasmError::Memory { declared: initial_memory, max: config.max_memory });
    }
    expect_function(&module, "step", "() -> i32", &[&[Kind::I32]])?;
    let has_last_words = optional_function(&module, "apoptosis", "() or () -> i64", &[&[], &[Kind::I64]])?;
    optional_function(&module, "_initialize", "()", &[&[]])?;
    let instance = linker.instantiate_pre(&module).map_err(|error| WasmError::Type {
        what: format!("an import ({})", one_line(&error)),
        wanted: "that of docs/agent-abi.md",
    })?;
    Ok(Program { instance, has_last_words, initial_memory })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    I32,
    I64,
}

fn optional_function(
    module: &Module,
    name: &str,
    wanted: &'static str,
    results: &[&[Kind]],
) -> Result<bool, WasmError> {
    let Some(export) = module.get_export(name) else { return Ok(false) };
    let good = match &export {
        ExternType::Func(function) => {
            let given: Option<Vec<Kind>> = function
                .results()
                .map(|result| match result {
                    ValType::I32 => Some(Kind::I32),
                    ValType::I64 => Some(Kind::I64),
                    _ => None,
                })
                .collect();
            function.params().len() == 0 && given.is_some_and(|given| results.contains(&given.as_slice()))
        }
        _ => false,
    };
    if good { Ok(true) } else { Err(WasmError::Type { what: format!("the export `{name}`"), wanted }) }
}

fn expect_function(
    module: &Module,
    name: &'static str,
    wanted: &'static str,
    results: &[&[Kind]],
) -> Result<(), WasmError> {
    if optional_function(module, name, wanted, results)? { Ok(()) } else { Err(WasmError::Missing { name, wanted }) }
}

/// The memory that a module declares, if it can be compiled at all without a limit on memory.
fn declared_memory(bytes: &[u8]) -> Option<Bytes> {
    let engine = Engine::default();
    let module = Module::new(&engine, bytes).ok()?;
    match module.get_export("memory")? {
        ExternType::Memory(memory) => Some(Bytes(memory.minimum().saturating_mul(WASM_PAGE))),
        _ => None,
    }
}

/// An error with its causes on one line, short enough to read. It may quote names from the module, so control characters
/// do not pass.
pub(super) fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text: String = text.chars().map(|c| if c.is_control() { '·' } else { c }).collect();
    match text.char_indices().nth(300) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
