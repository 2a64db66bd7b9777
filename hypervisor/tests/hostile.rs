//! Hostile agents: contained, charged, explained by a reason; never a panic, never free compute. Every test runs a
//! well-behaved neighbour beside the attacker, which must not notice.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests work with small numbers, and a failure to unwrap is a failure of the test"
)]

mod machine;

use machine::{Machine, module, usage};
use maxwell_core::agent::{LeaseKind, SlotId};
use maxwell_core::bounty::{SponsorId, Verifier};
use maxwell_core::market::Stop;
use maxwell_core::reason::Trap;
use maxwell_core::{AgentId, Bytes, Joule, Micros, Price};
use maxwell_hypervisor::Offer;
use maxwell_hypervisor::wasm::{WasmConfig, WasmError};

/// A machine with a neighbour that counts its own steps in its bid.
struct Siege {
    machine: Machine,
    neighbour: AgentId,
    turns: u64,
}

impl Siege {
    fn new() -> Self {
        Self::with(WasmConfig { max_memory: Bytes(16 << 20), ..WasmConfig::default() })
    }

    fn with(config: WasmConfig) -> Self {
        let mut machine = Machine::with(config);
        let neighbour = machine.agent(&module(
            "(global.set $n (i64.add (global.get $n) (i64.const 1))) (call $bid (global.get $n)) (i32.const 1)",
            "(global $n (mut i64) (i64.const 0))",
        ));
        Self { machine, neighbour, turns: 0 }
    }

    /// Runs the attacker on one slot and the neighbour on the other.
    fn attack(&mut self, attacker: AgentId, ms: u64) -> (maxwell_core::market::Usage, maxwell_hypervisor::Report) {
        let leases = [(attacker, LeaseKind::Slot(SlotId(0))), (self.neighbour, LeaseKind::Slot(SlotId(1)))];
        let report = self.machine.tick(ms, &leases);
        self.turns += 1;
        let neighbour = usage(&report, self.neighbour);
        assert_eq!((neighbour.stop, neighbour.bid), (Stop::Idle, Some(Price(self.turns))), "the neighbour noticed");
        (usage(&report, attacker), report)
    }
}

#[test]
fn an_endless_loop_is_stopped_and_billed() {
    let mut siege = Siege::new();
    let leech = siege.machine.agent(maxwell_agents::builtin("leech").unwrap().text);
    for _ in 0..3 {
        let (usage, _) = siege.attack(leech, 10);
        assert_eq!(usage.stop, Stop::SlotEnd);
        assert!(usage.core > Micros(500) && usage.fuel > 100_000, "{usage:?}");
    }
}

#[test]
fn a_memory_bomb_stops_at_its_limit() {
    let mut siege = Siege::new();
    let bomb =
        siege.machine.step("(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)");
    let (usage, report) = siege.attack(bomb, 50);
    assert_eq!(usage.stop, Stop::Trapped(Trap::MemoryLimit), "{report:?}");
    assert!(usage.held <= Bytes(16 << 20), "{usage:?}");
    assert!(usage.core > Micros(0));
}

#[test]
fn unbounded_recursion_ends_the_agent_only() {
    let mut siege = Siege::new();
    let agent = siege.machine.agent(&module("(call $f) (i32.const 0)", "(func $f (call $f) (call $f))"));
    let (usage, _) = siege.attack(agent, 20);
    assert_eq!(usage.stop, Stop::Trapped(Trap::StackOverflow));
}

#[test]
fn every_kind_of_trap_has_its_reason_and_the_work_before_it_is_billed() {
    let traps = [
        ("(unreachable)", Trap::Unreachable),
        ("(drop (i32.load (i32.const -8))) (i32.const 0)", Trap::OutOfBounds),
        ("(i32.div_u (i32.const 1) (i32.const 0))", Trap::Arithmetic),
        ("(i32.trunc_f64_s (f64.const 1e300))", Trap::Arithmetic),
        ("(call_indirect (result i32) (i32.const 0))", Trap::BadCall),
    ];
    for (body, expected) in traps {
        let mut siege = Siege::new();
        // A few milliseconds of work first.
        let work = "(local $i i32) (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5000000))))";
        let agent = siege.machine.agent(&module(&format!("{work} {body}"), "(table 1 funcref)"));
        let (mut core, mut fuel) = (0, 0);
        loop {
            let (usage, report) = siege.attack(agent, 50);
            core += usage.core.0;
            fuel += usage.fuel;
            if usage.stop == Stop::Trapped(expected) {
                assert_eq!(report.failures.len(), 1, "explained in words");
                break;
            }
            assert_eq!(usage.stop, Stop::SlotEnd, "{body}");
        }
        assert!(core > 500, "{body}: {core} µs for five million rounds");
        // At least four operations a round; what a trap may hide is less than one fuel interval.
        assert!(fuel + 100_000 >= 4 * 5_000_000, "{body}: {fuel}");
    }
}

#[test]
fn a_trap_in_initialize_ends_the_agent_before_its_first_step() {
    let mut siege = Siege::new();
    let agent = siege.machine.agent(&module("(i32.const 0)", r#"(func (export "_initialize") (unreachable))"#));
    assert_eq!(siege.attack(agent, 10).0.stop, Stop::Trapped(Trap::Unreachable));
    assert_eq!(siege.attack(agent, 10).0.stop, Stop::NotRun);
}

#[test]
fn a_trap_in_last_words_is_the_end_of_them() {
    let mut siege = Siege::new();
    let agent = siege.machine.agent(&module("(i32.const 0)", r#"(func (export "apoptosis") (unreachable))"#));
    siege.attack(agent, 5);
    let (_, report) = siege.machine.last_words(agent, 10);
    assert!(report.utterances[0].text.contains("last words failed"), "{report:?}");
    assert_eq!(siege.attack(agent, 5).0.stop, Stop::NotRun);
}

#[test]
fn a_failed_agent_still_has_its_last_words() {
    let mut siege = Siege::new();
    let agent = siege.machine.agent(&module(
        "(unreachable)",
        r#"(data (i32.const 0) "sorry") (func (export "apoptosis") (drop (call $log (i32.const 0) (i32.const 5))))"#,
    ));
    assert_eq!(siege.attack(agent, 10).0.stop, Stop::Trapped(Trap::Unreachable));
    let (_, report) = siege.machine.last_words(agent, 10);
    assert_eq!(report.utterances[0].text, "sorry");
}

#[test]
fn endless_last_words_are_cut_off() {
    let mut siege = Siege::new();
    let agent = siege.machine.agent(&module("(i32.const 0)", r#"(func (export "apoptosis") (loop $l (br $l)))"#));
    siege.attack(agent, 5);
    let (usage, _) = siege.machine.last_words(agent, 10);
    assert!(usage.core <= Micros(11_000), "{usage:?}");
    assert_eq!(siege.attack(agent, 5).0.stop, Stop::NotRun);
}

#[test]
fn a_start_function_that_never_returns_pays_for_every_slot() {
    let mut siege = Siege::new();
    let agent = siege.machine.agent(&module("(i32.const 0)", "(func $s (loop $l (br $l))) (start $s)"));
    for _ in 0..3 {
        let (usage, _) = siege.attack(agent, 10);
        assert_eq!(usage.stop, Stop::SlotEnd);
        assert!(usage.core > Micros(500) && usage.fuel > 0, "{usage:?}");
    }
    // Condemned before it was ever born: it has no last words, and goes quietly.
    let (usage, report) = siege.machine.last_words(agent, 10);
    assert_eq!((usage.stop, report.utterances.len()), (Stop::Done, 0));
}

#[test]
fn a_start_function_may_call_imports_before_there_is_a_memory_to_point_into() {
    let mut siege = Siege::new();
    let agent = siege.machine.agent(&module(
        "(i32.const 1)",
        "(func $s (drop (call $log (i32.const 0) (i32.const 4))) (drop (call $recv (i32.const 0) (i32.const 4) (i32.const 0)))) (start $s)",
    ));
    assert!(matches!(siege.attack(agent, 10).0.stop, Stop::Idle | Stop::SlotEnd));
}

#[test]
fn pointers_and_lengths_out_of_range_get_a_negative_answer_from_every_import() {
    let mut siege = Siege::new();
    siege.machine.offers.add(Offer {
        sponsor: SponsorId(0),
        verifier: Verifier::Prime { least: 2 },
        reward: Joule(1),
        funded: true,
    });
    let bad = [(-1, 1), (65_536, 1), (0, 65_537), (65_535, 2), (-1, -1), (0, -1), (i32::MIN, i32::MIN), (1, i32::MAX)];
    let mut body = String::new();
    for (at, len) in bad {
        body += &format!(
            "(if (i32.ne (call $log (i32.const {at}) (i32.const {len})) (i32.const -1)) (then (unreachable)))
             (if (i32.ne (call $send (i64.const 0) (i32.const {at}) (i32.const {len})) (i32.const -1)) (then (unreachable)))
             (if (i64.ne (call $submit (i32.const 1) (i32.const {at}) (i32.const {len})) (i64.const -1)) (then (unreachable)))"
        );
    }
    body += "(if (i32.ne (call $send (i64.const 99) (i32.const 0) (i32.const 1)) (i32.const -4)) (then (unreachable)))
             (if (i32.ne (call $send (i64.const -1) (i32.const 0) (i32.const 1)) (i32.const -4)) (then (unreachable)))
             (if (i32.ne (call $send (i64.const 0) (i32.const 0) (i32.const 5000)) (i32.const -3)) (then (unreachable)))
             (drop (call $send (i64.const 1) (i32.const 0) (i32.const 8)))";
    // Now there is a message for itself: bad places to put it.
    for (at, room) in bad {
        body += &format!(
            "(if (i32.ne (call $recv (i32.const {at}) (i32.const {room}) (i32.const 0)) (i32.const -1)) (then (unreachable)))"
        );
    }
    body +=
        "(if (i32.ne (call $recv (i32.const 0) (i32.const 8) (i32.const 65529)) (i32.const -1)) (then (unreachable)))
             (if (i32.ne (call $recv (i32.const 0) (i32.const 7) (i32.const 0)) (i32.const -3)) (then (unreachable)))
             (if (i32.ne (call $recv (i32.const 0) (i32.const 8) (i32.const 0)) (i32.const 8)) (then (unreachable)))
             (i32.const 1)";
    let agent = siege.machine.step(&body);
    assert_eq!(agent, AgentId(1));
    let (usage, report) = siege.attack(agent, 20);
    assert_eq!(usage.stop, Stop::Idle, "{:?}", report.failures);
}

#[test]
fn a_log_flood_is_cut_to_a_few_lines_a_slot() {
    let mut siege = Siege::new();
    let agent =
        siege.machine.step("(loop $l (drop (call $log (i32.const 0) (i32.const 65536))) (br $l)) (unreachable)");
    let (usage, report) = siege.attack(agent, 10);
    let lines: Vec<_> = report.utterances.iter().filter(|u| u.agent == agent).collect();
    assert_eq!(lines.len(), 9, "eight lines and the count of the rest");
    assert!(lines.iter().all(|line| line.text.len() <= 1_024));
    assert!(lines[8].text.contains("more lines"));
    assert!(usage.core > Micros(500), "and every call was paid for: {usage:?}");
}

#[test]
fn a_million_bids_in_a_step_are_one_order() {
    let mut siege = Siege::new();
    let agent = siege.machine.step(
        "(local $i i64)
         (loop $l
           (call $bid (local.get $i))
           (br_if $l (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 1))) (i64.const 1000000))))
         (call $bid (i64.const -1))
         (i32.const 1)",
    );
    let mut core = 0;
    loop {
        let (usage, _) = siege.attack(agent, 20);
        core += usage.core.0;
        if usage.stop == Stop::Idle {
            assert_eq!(usage.bid, Some(Price(u64::MAX)), "the last one counts");
            break;
        }
    }
    assert!(core > 1_000, "a million calls took {core} µs");
}

#[test]
fn a_flood_of_claims_is_bounded_and_pays_for_its_own_verification() {
    let mut siege = Siege::new();
    siege.machine.offers.add(Offer {
        sponsor: SponsorId(0),
        verifier: Verifier::Prime { least: 2 },
        reward: Joule(1),
        funded: true,
    });
    let agent = siege.machine.step(
        "(i64.store (i32.const 0) (i64.const 1000003))
         (loop $l (drop (call $submit (i32.const 1) (i32.const 0) (i32.const 8))) (br $l)) (unreachable)",
    );
    let (usage, report) = siege.attack(agent, 10);
    assert_eq!(report.claims.len(), 256);
    assert!(usage.core > Micros(500));
}

#[test]
fn a_bulk_operation_overruns_its_slot_but_is_billed_in_full() {
    let mut siege = Siege::with(WasmConfig { max_memory: Bytes(256 << 20), ..WasmConfig::default() });
    // One instruction that writes 255 MiB again and again; the slot is one millisecond.
    let agent = siege.machine.agent(
        r#"(module (memory (export "memory") 4096)
             (func (export "step") (result i32) (loop $l (memory.fill (i32.const 0) (i32.const 7) (i32.const 267386880)) (br $l)) (unreachable)))"#,
    );
    let (mut core, mut fuel, mut longest) = (0, 0, 0);
    for _ in 0..6 {
        let (usage, _) = siege.attack(agent, 1);
        assert_eq!(usage.stop, Stop::SlotEnd);
        core += usage.core.0;
        fuel += usage.fuel;
        longest = longest.max(usage.core.0);
    }
    // The fuel of an instruction is charged before it, its time when it is over.
    assert!(longest > 2_000, "it cannot be interrupted inside the instruction: {longest} µs");
    assert!(core > 4_000, "and all of it is billed: {core} µs");
    assert!(fuel >= 2 * 267_386_880, "a byte is a unit of fuel: {fuel}");
}

#[test]
fn what_is_not_a_proper_module_is_refused_with_a_reason() {
    let machine = Machine::with(WasmConfig { max_memory: Bytes(16 << 20), ..WasmConfig::default() });
    let refuse = |bytes: &[u8]| machine.wasm.register(bytes).expect_err("must be refused");
    assert!(matches!(refuse(b"\x7fELF\x02\x01\x01"), WasmError::Invalid(_)));
    assert!(matches!(refuse(b""), WasmError::Invalid(_)));
    // An empty module in binary form is understood, and lacks everything.
    assert!(matches!(refuse(b"\0asm\x01\0\0\0"), WasmError::Missing { name: "memory", .. }));
    assert!(matches!(refuse(b"(module (func (export \"step\")"), WasmError::Invalid(_)));
    assert!(matches!(refuse(&vec![0; 100 << 20]), WasmError::TooLarge { .. }), "a module of 100 MB");
    let declared =
        refuse(br#"(module (memory (export "memory") 65536) (func (export "step") (result i32) (i32.const 0)))"#);
    let WasmError::Memory { declared, .. } = declared else { panic!("{declared}") };
    assert_eq!(declared, Bytes(4 << 30), "4 GiB of declared memory");
    let import =
        refuse(br#"(module (import "wasi_snapshot_preview1" "fd_write" (func)) (memory (export "memory") 1))"#);
    assert!(import.to_string().contains("wasi_snapshot_preview1.fd_write"), "{import}");
    let wrong = refuse(br#"(module (import "maxwell" "bid" (func (param f32))) (memory (export "memory") 1) (func (export "step") (result i32) (i32.const 0)))"#);
    assert!(matches!(wrong, WasmError::Type { .. }), "{wrong}");
    assert!(matches!(refuse(br#"(module (memory (export "memory") 1))"#), WasmError::Missing { name: "step", .. }));
    assert!(matches!(
        refuse(br#"(module (func (export "step") (result i32) (i32.const 0)))"#),
        WasmError::Missing { name: "memory", .. }
    ));
    let typed = refuse(br#"(module (memory (export "memory") 1) (func (export "step") (param i32)))"#);
    assert!(typed.to_string().contains("() -> i32"), "{typed}");
    let start = refuse(br#"(module (memory (export "memory") 1) (func (export "step") (result i32) (i32.const 0)) (func (export "_initialize") (param i32)))"#);
    assert!(matches!(start, WasmError::Type { .. }), "{start}");
}

#[test]
fn segments_that_do_not_fit_end_the_agent_when_it_is_born() {
    let mut siege = Siege::new();
    let agent = siege.machine.agent(&module("(i32.const 0)", r#"(data (i32.const 65530) "too long")"#));
    assert!(matches!(siege.attack(agent, 10).0.stop, Stop::Trapped(_)));
}
