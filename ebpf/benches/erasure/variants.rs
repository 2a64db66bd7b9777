//! What can be attached while the worker works.

use aya::maps::{PerCpuHashMap, PerCpuValues};
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf, EbpfLoader, include_bytes_aligned};
use maxwell_ebpf::{Attachment, AuditedCalls, ErasureMeter, SyscallAudit, Watched};

use crate::group::Group;

static RIVALS: &[u8] = include_bytes_aligned!("../../src/bpf/rivals.bpf.o");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    Nothing,
    NothingAgain,
    Meter,
    MeterOfOthers,
    RawMeter,
    RssStat,
    SysEnterExit,
    Audit,
}

pub(crate) const VARIANTS: [Variant; 8] = [
    Variant::Nothing,
    Variant::NothingAgain,
    Variant::Meter,
    Variant::MeterOfOthers,
    Variant::RawMeter,
    Variant::RssStat,
    Variant::SysEnterExit,
    Variant::Audit,
];

/// Stays attached until it is dropped.
#[allow(dead_code, reason = "held, not read")]
pub(crate) enum Attached {
    Nothing,
    Meter(ErasureMeter, Option<Watched>),
    Audit(SyscallAudit, AuditedCalls),
    Rival(Ebpf),
}

impl Variant {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::NothingAgain => "nothing, again (noise)",
            Self::Meter => "**the meter**; the worker is an agent",
            Self::MeterOfOthers => "**the meter**; the worker is no agent",
            Self::RawMeter => "the meter by raw tracepoint; an agent",
            Self::RssStat => "rival: `rss_stat`, only counts",
            Self::SysEnterExit => "rival: `sys_enter` and `sys_exit`, only count",
            Self::Audit => "the syscall audit",
        }
    }

    pub(crate) fn attach(self, group: &Group) -> Attached {
        let (level, id) = (group.level(), group.id());
        match self {
            Self::Nothing | Self::NothingAgain => Attached::Nothing,
            Self::Meter | Self::RawMeter | Self::MeterOfOthers => {
                let way = if self == Self::RawMeter { Attachment::RawTracepoint } else { Attachment::BtfTracepoint };
                let meter = ErasureMeter::open_as(level, way).unwrap();
                let watched = (self != Self::MeterOfOthers).then(|| meter.watch(id).unwrap());
                Attached::Meter(meter, watched)
            }
            Self::RssStat => rival(level, id, &[("rss_stat", "rss_stat")]),
            Self::SysEnterExit => rival(level, id, &[("enter", "sys_enter"), ("leave", "sys_exit")]),
            Self::Audit => {
                let audit = SyscallAudit::open(level).unwrap();
                let calls = audit.watch(id).unwrap();
                Attached::Audit(audit, calls)
            }
        }
    }
}

fn rival(level: u32, cgroup: u64, programs: &[(&str, &str)]) -> Attached {
    let btf = Btf::from_sys_fs().unwrap();
    let mut rival = EbpfLoader::new().btf(Some(&btf)).override_global("LEVEL", &level, true).load(RIVALS).unwrap();
    for (name, tracepoint) in programs {
        let program: &mut BtfTracePoint = rival.program_mut(name).unwrap().try_into().unwrap();
        program.load(tracepoint, &btf).unwrap();
        program.attach().unwrap();
    }
    let mut seen: PerCpuHashMap<_, u64, u64> = PerCpuHashMap::try_from(rival.map_mut("SEEN").unwrap()).unwrap();
    let zeros = vec![0u64; aya::util::nr_cpus().unwrap()];
    seen.insert(cgroup, PerCpuValues::try_from(zeros).unwrap(), 0).unwrap();
    Attached::Rival(rival)
}
