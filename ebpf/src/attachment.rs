//! How a program is attached: the best way that the kernel allows.
//!
//! ```text
//!  tp_btf ──refused──► raw tracepoint ──refused──► raw tracepoint without BTF ──refused──► error
//!  5.11, BTF           5.8, BTF                     5.8, no BTF
//! ```
//!
//! There is no fentry above these. Nothing that a trampoline could stand at has the tracepoint's meaning: a page is known to
//! be free only inside `free_pages_prepare`, which compilers put inline, and whose callers free all kinds of memory. There
//! is no classic tracepoint below: what perf shows of `kmem:mm_page_free` is a frame number, which does not say whether
//! the page held anything, and it takes a mounted tracefs. The raw tracepoint is the same place with the page in hand.

use std::path::Path;

use aya::programs::{BtfTracePoint, RawTracePoint};
use aya::{Btf, Ebpf, EbpfLoader};

use crate::error::{EbpfError, forbidden, in_a_line};

/// How the programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A typed tracepoint: the program reads the kernel's structures as directly as the kernel does.
    BtfTracepoint,
    /// A raw tracepoint: every look into a structure is a call.
    RawTracepoint,
    /// A raw tracepoint on a kernel that does not describe itself: only anonymous memory is recognised.
    RawTracepointWithoutBtf,
}

impl Attachment {
    /// Best first.
    pub const LADDER: [Self; 3] = [Self::BtfTracepoint, Self::RawTracepoint, Self::RawTracepointWithoutBtf];

    /// What it is called where people read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BtfTracepoint => "typed tracepoint (tp_btf)",
            Self::RawTracepoint => "raw tracepoint",
            Self::RawTracepointWithoutBtf => "raw tracepoint, anonymous memory only (this kernel has no BTF)",
        }
    }
}

/// An object and what is in it.
pub(crate) struct Object {
    pub(crate) bytes: &'static [u8],
    /// The tracepoint, and the programs that stand at it: typed and raw.
    pub(crate) tracepoint: &'static str,
    pub(crate) typed: &'static str,
    pub(crate) raw: &'static str,
    /// Constants other than the level.
    pub(crate) constants: &'static [(&'static str, Constant)],
}

/// A constant that is decided at load.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Constant {
    /// This.
    Is(u32),
    /// 1 if the kernel describes itself, else 0.
    KernelKnown,
}

impl Object {
    /// Loads and attaches the best way that works.
    pub(crate) fn attach_best(&self, level: u32) -> Result<(Ebpf, Attachment), EbpfError> {
        let mut refused = Vec::new();
        for way in Attachment::LADDER {
            // A kernel that describes itself, and is refused for what it says, must not be guessed at.
            if way == Attachment::RawTracepointWithoutBtf && Path::new("/sys/kernel/btf/vmlinux").exists() {
                continue;
            }
            match self.attach(level, way) {
                Ok(running) => return Ok((running, way)),
                Err(EbpfError::Unsupported(why)) => refused.push(format!("{}: {why}", way.name())),
                Err(other) => return Err(other),
            }
        }
        Err(EbpfError::Unsupported(refused.join("; ")))
    }

    /// Loads and attaches one way. The program runs until the result is dropped.
    pub(crate) fn attach(&self, level: u32, way: Attachment) -> Result<Ebpf, EbpfError> {
        self.try_attach(level, way).map_err(|error| match forbidden(error.as_ref()) {
            Some(source) => EbpfError::Forbidden(source),
            None => EbpfError::Unsupported(in_a_line(error.as_ref())),
        })
    }

    fn try_attach(&self, level: u32, way: Attachment) -> Result<Ebpf, Box<dyn std::error::Error>> {
        let known = way != Attachment::RawTracepointWithoutBtf;
        let btf = if known { Some(Btf::from_sys_fs()?) } else { None };
        let mut loader = EbpfLoader::new();
        loader.btf(btf.as_ref()).override_global("LEVEL", &level, true);
        let (yes, no) = (&1u32, &0u32);
        for (name, constant) in self.constants {
            let value = match constant {
                Constant::Is(value) => value,
                Constant::KernelKnown if known => yes,
                Constant::KernelKnown => no,
            };
            loader.override_global(name, value, true);
        }
        let mut running = loader.load(self.bytes)?;
        if way == Attachment::BtfTracepoint {
            let program: &mut BtfTracePoint =
                running.program_mut(self.typed).ok_or("the object lacks its typed program")?.try_into()?;
            program.load(self.tracepoint, btf.as_ref().ok_or("no BTF")?)?;
            program.attach()?;
        } else {
            let program: &mut RawTracePoint =
                running.program_mut(self.raw).ok_or("the object lacks its raw program")?.try_into()?;
            program.load()?;
            program.attach(self.tracepoint)?;
        }
        Ok(running)
    }
}
