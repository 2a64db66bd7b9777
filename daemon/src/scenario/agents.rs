//! `[[agent]]`: who runs, in what kind of cell.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maxwell_core::agent::OnInsolvency;
use maxwell_core::{Bytes, Joule, Micros, Price};
use maxwell_hypervisor::process::Streams;
use maxwell_hypervisor::process::sandbox::Sandbox;
use toml::Spanned;

use super::file::{CellName, RawAgent, RawCommand, RawLimits};
use super::{ScenarioError, Source, printable};

/// Some equal agents.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentGroup {
    /// The name; agents of a group of several are numbered.
    pub name: String,
    /// How many.
    pub count: u32,
    /// What they run, and in what.
    pub program: Program,
    /// First money of each.
    pub wallet: Joule,
    /// The limit of each one's order.
    pub limit: Price,
    /// The most slots each wants at once.
    pub slots: u16,
    /// How long each keeps a slot against equals.
    pub hold: Micros,
    /// How long its money must last; `None` for a fixed bid.
    pub lifetime: Option<Micros>,
    /// What happens to who cannot pay.
    pub insolvency: OnInsolvency,
    /// Their owner's name.
    pub principal: String,
    /// Power class in thousandths.
    pub power_class: u16,
}

/// What an agent runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Program {
    /// A WebAssembly module.
    Wasm(Module),
    /// A command.
    Process(Box<ProcessSpec>),
}

/// A WebAssembly module.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// Binary or text.
    pub bytes: Vec<u8>,
    /// Where it came from, for errors.
    pub name: String,
    /// The scenario's text position of the module, for errors found when it is compiled.
    pub at: (usize, usize),
}

/// A command, and what it may do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessSpec {
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// Variables beside those of Maxwell's own environment.
    pub env: BTreeMap<String, String>,
    /// Where it runs; where Maxwell runs if `None`.
    pub cwd: Option<PathBuf>,
    /// As whom; as Maxwell if `None`.
    pub user: Option<String>,
    /// What it may not do.
    pub sandbox: Sandbox,
    /// Where its standard streams go.
    pub streams: Streams,
    /// The most memory, where the host can limit it.
    pub memory: Option<Bytes>,
    /// The most processes and threads, where the host can limit it.
    pub pids: Option<u32>,
    /// The most open files of one process.
    pub files: Option<u64>,
    /// How long it has for its last words, by the clock on the wall.
    pub grace: Duration,
    /// Its descendants go on when its first process has ended.
    pub wait_all: bool,
    /// Count its system calls by class.
    pub audit: bool,
    /// The scenario's text position of the command, for errors found when it is started.
    pub at: (usize, usize),
}

/// How long a process has for its last words unless told otherwise.
pub const GRACE: Duration = Duration::from_secs(1);

impl AgentGroup {
    /// The names of its agents, in order.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let width = self.count.saturating_sub(1).max(1).ilog10() as usize + 1;
        (0..self.count)
            .map(move |n| if self.count == 1 { self.name.clone() } else { format!("{}-{n:0width$}", self.name) })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names().any(|mine| mine == name)
    }

    /// The error for a program that was found bad when it was compiled or started.
    #[must_use]
    pub fn bad_program(&self, path: &Path, why: &dyn fmt::Display) -> ScenarioError {
        let ((line, column), message) = match &self.program {
            Program::Wasm(module) => (module.at, format!("module `{}`: {why}", module.name)),
            Program::Process(process) => (process.at, format!("agent `{}`: {why}", self.name)),
        };
        ScenarioError::Wrong { path: path.to_owned(), line, column, message }
    }
}

pub(super) fn agent(source: &Source<'_>, raw: RawAgent, machine_slots: u16) -> Result<AgentGroup, ScenarioError> {
    let program = program(source, &raw)?;
    let name = printable(source, raw.name, "an agent's name")?;
    let principal =
        raw.principal.map_or_else(|| Ok(name.clone()), |owner| printable(source, owner, "a principal's name"))?;
    let count = match &raw.count {
        None => 1,
        Some(count) if *count.get_ref() > 0 => *count.get_ref(),
        Some(count) => return Err(source.wrong(count.span(), "count must be at least 1")),
    };
    let power_class = raw.power_class.map_or(Ok(1.0), |v| source.within(v, 0.1..=10.0, "power_class"))?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 100 and 10,000")]
    let power_class = (power_class * 1000.0).round() as u16;
    let slots = match (&raw.order.slots, &program) {
        (None, Program::Wasm(_)) => 1,
        (None, Program::Process(_)) => machine_slots,
        (Some(slots), Program::Wasm(_)) if *slots.get_ref() != 1 => {
            let message = "a WebAssembly agent runs on one core at a time: leave `slots` away";
            return Err(source.wrong(slots.span(), message));
        }
        (Some(slots), _) if *slots.get_ref() == 0 => {
            return Err(source.wrong(slots.span(), "an order is for one slot at least"));
        }
        (Some(slots), _) => *slots.get_ref(),
    };
    Ok(AgentGroup {
        principal,
        name,
        count,
        program,
        wallet: raw.wallet.0,
        limit: raw.order.limit.0,
        slots,
        hold: raw.order.hold.map_or(Micros::ZERO, |q| q.0),
        lifetime: raw.pacing.0,
        insolvency: raw.insolvency,
        power_class,
    })
}

fn program(source: &Source<'_>, raw: &RawAgent) -> Result<Program, ScenarioError> {
    match (raw.cell, &raw.module, &raw.command) {
        (None | Some(CellName::Wasm), Some(module), None) => {
            if let Some(span) = only_for_processes(raw) {
                let message = "this is for processes only: a WebAssembly agent has no environment, directory or user";
                return Err(source.wrong(span, message));
            }
            Ok(Program::Wasm(self::module(source, module)?))
        }
        (Some(CellName::Process), None, Some(command)) => {
            Ok(Program::Process(Box::new(process(source, raw, command)?)))
        }
        (Some(CellName::Process), _, None) => Err(source.wrong(
            raw.name.span(),
            "a process needs a `command`: a list such as [\"python3\", \"agent.py\"], or one string for the shell",
        )),
        (Some(CellName::Process), Some(module), Some(_)) => {
            Err(source.wrong(module.span(), "a process has a `command` and no `module`"))
        }
        (_, _, Some(command)) => Err(source.wrong(command.span(), "only `cell = \"process\"` runs a `command`")),
        (_, None, None) => Err(source
            .wrong(raw.name.span(), "missing field `module`: say what runs, or `cell = \"process\"` and a `command`")),
    }
}

fn only_for_processes(raw: &RawAgent) -> Option<std::ops::Range<usize>> {
    let spans = [
        raw.env.as_ref().map(Spanned::span),
        raw.cwd.as_ref().map(Spanned::span),
        raw.user.as_ref().map(Spanned::span),
        raw.sandbox.as_ref().map(Spanned::span),
        raw.output.as_ref().map(Spanned::span),
        raw.limits.as_ref().map(Spanned::span),
        raw.grace.as_ref().map(Spanned::span),
        raw.wait_all.as_ref().map(Spanned::span),
    ];
    spans.into_iter().flatten().next()
}

fn module(source: &Source<'_>, named: &Spanned<String>) -> Result<Module, ScenarioError> {
    let name = named.get_ref().clone();
    let bytes = match maxwell_agents::builtin(&name) {
        Some(builtin) => builtin.text.as_bytes().to_vec(),
        None => {
            let file = source.path.parent().unwrap_or_else(|| Path::new("")).join(&name);
            std::fs::read(&file).map_err(|error| {
                let builtins: Vec<&str> = maxwell_agents::BUILTINS.iter().map(|b| b.name).collect();
                let message = format!(
                    "module `{name}`: {} cannot be read ({error}): give a .wat or .wasm file beside the scenario, or one of {}",
                    file.display(),
                    builtins.join(", ")
                );
                source.wrong(named.span(), message)
            })?
        }
    };
    Ok(Module { bytes, name, at: source.place(named.span().start) })
}

fn process(source: &Source<'_>, raw: &RawAgent, command: &Spanned<RawCommand>) -> Result<ProcessSpec, ScenarioError> {
    let words = match command.get_ref() {
        RawCommand::Shell(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
        RawCommand::Words(words) => words.clone(),
    };
    if words.first().is_none_or(String::is_empty) || words.iter().any(|word| word.contains('\0')) {
        return Err(source.wrong(command.span(), "a command needs a name, and no word of it may hold a zero byte"));
    }
    let env = raw.env.as_ref().map(|env| env.get_ref().clone()).unwrap_or_default();
    if let Some(name) =
        env.iter().find(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0'))
    {
        let message = format!("`{}` cannot be in an environment", name.0.escape_debug());
        return Err(source.wrong(raw.env.as_ref().map_or(0..0, Spanned::span), message));
    }
    let limits = raw.limits.as_ref().map(|limits| *limits.get_ref()).unwrap_or_default();
    let RawLimits { memory, pids, files } = limits;
    if pids == Some(0) || files == Some(0) || memory.is_some_and(|memory| memory.0 == Bytes::ZERO) {
        let span = raw.limits.as_ref().map_or(0..0, Spanned::span);
        return Err(source.wrong(span, "a limit of zero lets nothing run: leave it away for no limit"));
    }
    // Relative to the scenario, as modules are.
    let beside = |path: &Spanned<PathBuf>| source.path.parent().unwrap_or_else(|| Path::new("")).join(path.get_ref());
    let cwd = raw.cwd.as_ref().map(beside);
    let output = raw.output.as_ref().map(beside);
    let sandbox = match &raw.sandbox {
        None => Sandbox::default(),
        Some(words) => {
            words.get_ref().parse().map_err(|error: maxwell_hypervisor::process::sandbox::SandboxError| {
                source.wrong(words.span(), error.to_string())
            })?
        }
    };
    let grace = raw.grace.as_ref().map_or(GRACE, |grace| Duration::from_micros(grace.get_ref().0.0));
    if grace > Duration::from_secs(60) {
        let span = raw.grace.as_ref().map_or(0..0, Spanned::span);
        return Err(source.wrong(span, "last words may take a minute at most: a slot waits for them"));
    }
    Ok(ProcessSpec {
        command: words.into_iter().map(OsString::from).collect(),
        env,
        cwd,
        user: raw.user.as_ref().map(|user| user.get_ref().clone()),
        sandbox,
        streams: output.map_or(Streams::Deaf, Streams::File),
        memory: memory.map(|memory| memory.0),
        pids,
        files,
        grace,
        wait_all: raw.wait_all.as_ref().is_some_and(|wait| *wait.get_ref()),
        audit: false,
        at: source.place(command.span().start),
    })
}
