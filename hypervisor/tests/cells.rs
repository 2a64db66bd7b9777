//! What cells do for agents that behave.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests work with small numbers, and a failure to unwrap is a failure of the test"
)]

mod machine;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use machine::{Machine, module, usage};
use maxwell_core::agent::{LeaseKind, SlotId};
use maxwell_core::bounty::{ClaimFault, SponsorId, Verifier};
use maxwell_core::market::Stop;
use maxwell_core::{Bytes, Joule, Micros, Price};
use maxwell_hypervisor::slots::{Cell, Ran, Turn};
use maxwell_hypervisor::wasm::WasmConfig;
use maxwell_hypervisor::{Cells, Offer, Report};

#[test]
fn an_idle_agent_uses_almost_nothing_and_a_busy_one_its_whole_slot() {
    let mut machine = Machine::new();
    let idle = machine.step("(i32.const 1)");
    let busy = machine.step("(i32.const 0)");
    let (idle, _) = machine.run(idle, 10);
    assert_eq!(idle.stop, Stop::Idle);
    assert!(idle.core < Micros(5_000), "{idle:?}");
    let (busy, _) = machine.run(busy, 10);
    assert_eq!(busy.stop, Stop::SlotEnd);
    // The machine may be shared: core time can be less than the slot, never more.
    assert!((500..=11_000).contains(&busy.core.0), "{busy:?}");
    assert!(busy.fuel > idle.fuel);
}

#[test]
fn an_agent_may_say_it_is_done() {
    let mut machine = Machine::new();
    let agent = machine.step("(i32.const 2)");
    assert_eq!(machine.run(agent, 10).0.stop, Stop::Done);
    assert_eq!(machine.run(agent, 10).0.stop, Stop::NotRun, "there is nothing left to run");
}

#[test]
fn state_survives_being_frozen() {
    let mut machine = Machine::new();
    let agent = machine.agent(&module(
        "(global.set $n (i64.add (global.get $n) (i64.const 1))) (call $bid (global.get $n)) (i32.const 1)",
        "(global $n (mut i64) (i64.const 0))",
    ));
    for turn in 1..=5 {
        assert_eq!(machine.run(agent, 2).0.bid, Some(Price(turn)));
        machine.tick(2, &[]);
    }
}

#[test]
fn a_step_that_outlasts_its_slot_goes_on_in_the_next() {
    let mut machine = Machine::new();
    // 200 million rounds, then a bid: many slots of 5 ms.
    let agent = machine.step(
        "(local $i i32) (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 200000000))))
         (call $bid (i64.const 42)) (i32.const 1)",
    );
    let mut slots = 0;
    loop {
        slots += 1;
        let (usage, _) = machine.run(agent, 5);
        if usage.stop == Stop::Idle {
            assert_eq!(usage.bid, Some(Price(42)));
            break;
        }
        assert_eq!(usage.stop, Stop::SlotEnd);
        assert!(slots < 10_000);
    }
    assert!(slots > 3, "took only {slots} slots");
}

#[test]
fn imports_answer() {
    let mut machine = Machine::new();
    let agent = machine.step(
        "(if (i64.ne (call $price) (i64.const 4500)) (then (unreachable)))
         (if (i64.ne (call $balance) (i64.const 77000)) (then (unreachable)))
         (if (i64.ne (call $now (i32.const 0)) (i64.const 10000)) (then (unreachable)))
         (if (i64.lt_s (call $now (i32.const 1)) (i64.const 0)) (then (unreachable)))
         (if (i64.ne (call $now (i32.const 9)) (i64.const -2)) (then (unreachable)))
         (if (i64.eq (call $random) (call $random)) (then (unreachable)))
         (if (i32.ne (call $recv (i32.const 0) (i32.const 10) (i32.const 0)) (i32.const -2)) (then (unreachable)))
         (i32.const 1)",
    );
    assert_eq!(machine.run(agent, 10).0.stop, Stop::Idle);
}

#[test]
fn agents_exchange_messages() {
    let mut machine = Machine::new();
    let sender = machine.agent(&module(
        "(drop (call $send (i64.const 1) (i32.const 8) (i32.const 5))) (i32.const 1)",
        r#"(data (i32.const 8) "hello")"#,
    ));
    let receiver = machine.step(
        "(local $len i32)
         (local.set $len (call $recv (i32.const 0) (i32.const 64) (i32.const 100)))
         (if (i32.gt_s (local.get $len) (i32.const 0)) (then (drop (call $log (i32.const 0) (local.get $len)))))
         (call $bid (i64.load (i32.const 100)))
         (i32.const 1)",
    );
    machine.run(sender, 5);
    let (usage, report) = machine.run(receiver, 5);
    assert_eq!(report.utterances[0].text, "hello");
    assert_eq!(usage.bid, Some(Price(sender.0)));
}

#[test]
fn what_is_random_is_the_same_in_every_run() {
    let draw = || {
        let mut machine = Machine::new();
        let agent = machine.step("(call $bid (call $random)) (i32.const 1)");
        let first = machine.run(agent, 5).0.bid;
        (first, machine.run(agent, 5).0.bid)
    };
    let (first, second) = draw();
    assert_ne!(first, second);
    assert_eq!((first, second), draw());
}

#[test]
fn the_same_work_burns_the_same_fuel() {
    let burn = |ms| {
        let mut machine = Machine::new();
        let agent = machine.step(
            "(local $i i32) (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 30000000))))
             (i32.const 1)",
        );
        let mut fuel = 0;
        loop {
            let (usage, _) = machine.run(agent, ms);
            fuel += usage.fuel;
            if usage.stop == Stop::Idle {
                return fuel;
            }
        }
    };
    assert_eq!(burn(3), burn(50), "however it is cut into slots");
}

#[test]
fn only_overwritten_memory_is_erased() {
    for force_checksum in [false, true] {
        let mut machine = Machine::with(WasmConfig { force_checksum, ..WasmConfig::default() });
        // Fills the same ten pages with a new value at every step.
        let agent = machine.agent(&module(
            "(global.set $v (i32.add (global.get $v) (i32.const 1)))
             (memory.fill (i32.const 4096) (global.get $v) (i32.const 40960)) (i32.const 1)",
            "(global $v (mut i32) (i32.const 0))",
        ));
        let mut erased = Vec::new();
        for _ in 0..4 {
            // Long enough for the whole step on a busy machine; it ends when the step does.
            erased.push(machine.run(agent, 1_000).0.erased);
        }
        assert_eq!(
            erased,
            [Bytes(0), Bytes(0), Bytes(40_960), Bytes(40_960)],
            "the watch begins with the first slot, checksum: {force_checksum}"
        );
    }
}

#[test]
fn a_slot_that_ends_early_passes_to_the_standbys_in_order() {
    let mut machine = Machine::with(WasmConfig { ..WasmConfig::default() });
    let brief = machine.step("(i32.const 1)");
    let second = machine.step("(i32.const 1)");
    let hungry = machine.step("(i32.const 0)");
    let late = machine.step("(i32.const 1)");
    let report = machine.tick(
        30,
        &[
            (brief, LeaseKind::Slot(SlotId(0))),
            (second, LeaseKind::Standby),
            (hungry, LeaseKind::Standby),
            (late, LeaseKind::Standby),
        ],
    );
    assert_eq!(usage(&report, brief).stop, Stop::Idle);
    assert_eq!(usage(&report, second).stop, Stop::Idle);
    assert_eq!(usage(&report, hungry).stop, Stop::SlotEnd);
    let late = usage(&report, late);
    assert_eq!((late.stop, late.core), (Stop::NotRun, Micros(0)));
}

#[test]
fn last_words_interrupt_an_endless_step_and_are_heard() {
    let mut machine = Machine::new();
    let agent = machine.agent(&module(
        "(loop $l (br $l)) (unreachable)",
        r#"(data (i32.const 8) "tell my sponsor\1b[31m")
           (func (export "apoptosis") (drop (call $log (i32.const 8) (i32.const 20))))"#,
    ));
    machine.run(agent, 5);
    let (_, report) = machine.last_words(agent, 10);
    assert_eq!(report.utterances[0].text, "tell my sponsor·[31m", "escape sequences do not reach a terminal");
    assert!(report.utterances[0].last);
    assert_eq!(machine.run(agent, 5).0.stop, Stop::NotRun, "it is gone");
}

#[test]
fn a_revived_agent_finds_its_last_words_in_its_inbox() {
    let mut machine = Machine::new();
    let agent = machine.agent(&module(
        "(local $len i32)
         (local.set $len (call $recv (i32.const 0) (i32.const 64) (i32.const 72)))
         (if (i32.gt_s (local.get $len) (i32.const 0))
           (then (call $bid (i64.load (i32.const 72))) (drop (call $log (i32.const 0) (local.get $len)))))
         (i32.const 1)",
        r#"(data (i32.const 200) "state 17")
           (func (export "apoptosis") (result i64) (i64.const 0xC800000008))"#,
    ));
    machine.run(agent, 5);
    machine.last_words(agent, 10);
    machine.slots.end(agent);
    machine.slots.respawn(agent);
    let (usage, report) = machine.run(agent, 5);
    assert_eq!(report.utterances.first().map(|u| u.text.as_str()), Some("state 17"));
    assert_eq!(usage.bid, Some(Price(u64::MAX)), "from nobody");
}

#[test]
fn claims_are_verified_in_the_claimants_slot() {
    let mut machine = Machine::new();
    machine.offers.add(Offer {
        sponsor: SponsorId(0),
        verifier: Verifier::Prime { least: 2 },
        reward: Joule(500),
        funded: true,
    });
    let agent = machine.step(
        "(i64.store (i32.const 0) (i64.const 101))
         (if (i64.ne (call $submit (i32.const 1) (i32.const 0) (i32.const 8)) (i64.const 500)) (then (unreachable)))
         (i64.store (i32.const 0) (i64.const 100))
         (if (i64.ne (call $submit (i32.const 1) (i32.const 0) (i32.const 8)) (i64.const -5)) (then (unreachable)))
         (if (i64.ne (call $submit (i32.const 1) (i32.const 0) (i32.const 7)) (i64.const -5)) (then (unreachable)))
         (if (i64.ne (call $submit (i32.const 1) (i32.const -4) (i32.const 8)) (i64.const -1)) (then (unreachable)))
         (if (i64.ne (call $submit (i32.const 2) (i32.const 0) (i32.const 8)) (i64.const -2)) (then (unreachable)))
         (i32.const 1)",
    );
    let (usage, report) = machine.run(agent, 10);
    assert_eq!(usage.stop, Stop::Idle, "{:?}", report.failures);
    let verdicts: Vec<_> = report.claims.iter().map(|claim| claim.verdict).collect();
    use ClaimFault::{Malformed, Wrong};
    assert_eq!(verdicts, [Ok(101), Err(Wrong), Err(Malformed), Err(Malformed)]);
}

#[test]
fn the_miners_sha256_is_the_real_one() {
    let mut machine = Machine::new();
    machine.offers.add(Offer {
        sponsor: SponsorId(0),
        verifier: Verifier::Hash { bits: 12 },
        reward: Joule(1),
        funded: true,
    });
    let agent = machine.agent(maxwell_agents::builtin("miner").unwrap().text);
    let mut claims = Vec::new();
    for _ in 0..400 {
        claims.extend(machine.run(agent, 10).1.claims);
        if claims.len() >= 5 {
            break;
        }
    }
    assert!(claims.len() >= 5, "one nonce in 4,096 should do");
    assert!(claims.iter().all(|claim| claim.verdict.is_ok()), "{claims:?}");
}

#[test]
fn the_scientist_finds_primes_and_bids_what_they_earn() {
    let mut machine = Machine::new();
    machine.offers.add(Offer {
        sponsor: SponsorId(0),
        verifier: Verifier::Prime { least: 1 << 39 },
        reward: Joule(50_000_000),
        funded: true,
    });
    let agent = machine.agent(maxwell_agents::builtin("scientist").unwrap().text);
    let (mut found, mut core, mut bid) = (0, 0, None);
    for _ in 0..400 {
        let (usage, report) = machine.run(agent, 10);
        assert!(report.claims.iter().all(|claim| claim.verdict.is_ok()), "{:?}", report.claims);
        found += report.claims.len() as u64;
        core += usage.core.0;
        bid = usage.bid.or(bid);
        if found >= 40 {
            break;
        }
    }
    assert!(found >= 40, "found {found}");
    let worth = found * 50_000_000 / core;
    let bid = bid.expect("it bids after twenty").0;
    assert!(bid.abs_diff(worth) < worth / 4, "bids {bid} mW, a core-second earned {worth} mW");
}

#[test]
fn the_example_of_the_documentation_works() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/agent-abi.md")).unwrap();
    let (_, rest) = page.split_once("```wat\n").expect("the page has an example");
    let (example, _) = rest.split_once("```").unwrap();
    let mut machine = Machine::new();
    let agent = machine.agent(example);
    for _ in 0..3 {
        let (usage, report) = machine.run(agent, 5);
        assert_eq!((usage.stop, usage.bid), (Stop::SlotEnd, Some(Price(6_000))), "{:?}", report.failures);
    }
    let (_, report) = machine.last_words(agent, 10);
    let words = &report.utterances[0].text;
    let steps: u32 = words.strip_prefix("longest chain: ").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((100..1_000).contains(&steps), "{words}");
}

/// A cell whose code has a fault, or that counts how often it was ended.
#[derive(Debug, Default)]
struct Faulty {
    panics: bool,
    ended: AtomicU32,
}

impl Cell for Faulty {
    fn run(&self, _: &Turn<'_>, _: &mut Report) -> Ran {
        assert!(!self.panics, "a fault in a cell (expected by this test)");
        Ran::default()
    }

    fn end(&self) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    fn respawn(&self) {}
}

/// Nobody would be frozen, billed or ended any more if the others went on.
#[test]
fn a_fault_on_a_slot_ends_every_agent_instead_of_hanging() {
    let mut machine = Machine::new();
    let others = [false, true].map(|panics| Arc::new(Faulty { panics, ..Faulty::default() }));
    let [_, faulty] = [0, 1].map(|at| machine.slots.add(Arc::clone(&others[at]) as Arc<dyn Cell>));
    let since = std::time::Instant::now();
    let fallen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        // It can be noticed a tick late.
        (0..2).for_each(|_| drop(machine.run(faulty, 5)));
    }));
    assert!(fallen.is_err());
    assert!(since.elapsed() < std::time::Duration::from_secs(20));
    assert!(others.iter().all(|cell| cell.ended.load(Ordering::SeqCst) == 1), "{others:?}");
}
