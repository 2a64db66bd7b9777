//! From what a scenario says of a process to what its cell is made of.

use std::ffi::OsString;

use maxwell_hypervisor::process::cgroup::Limits;
use maxwell_hypervisor::process::spawn::Program;
use maxwell_hypervisor::process::{Command, identity};

use crate::scenario::ProcessSpec;

/// The command of a process agent that may hold at most `slots` slots.
///
/// # Errors
///
/// There is no such user.
pub(super) fn command(spec: &ProcessSpec, slots: u16) -> std::io::Result<Command> {
    let mut environment: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(name, _)| name.to_str().is_none_or(|name| !spec.env.contains_key(name))).collect();
    environment.extend(spec.env.iter().map(|(name, value)| (name.into(), value.into())));
    let mut sandbox = spec.sandbox.clone();
    sandbox.rlimits.nofile = spec.files.or(sandbox.rlimits.nofile);
    Ok(Command {
        program: Program {
            argv: spec.command.clone(),
            environment,
            directory: spec.cwd.clone(),
            identity: spec.user.as_deref().map(identity).transpose()?,
        },
        sandbox,
        limits: Limits { memory_bytes: spec.memory.map(|bytes| bytes.0), tasks: spec.pids, millicores: None },
        slots,
        grace: spec.grace,
        wait_all: spec.wait_all,
        streams: spec.streams.clone(),
        audit: spec.audit,
    })
}
