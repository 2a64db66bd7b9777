//! Cells driven by hand, one slot at a time.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use maxwell_core::agent::{LeaseKind, SlotId};
use maxwell_core::market::{Grant, Usage};
use maxwell_core::{AgentId, Bytes, Joule, Micros, Price, Tick};
use maxwell_hypervisor::slots::Slots;
use maxwell_hypervisor::wasm::{Wasm, WasmConfig};
use maxwell_hypervisor::{Assignment, Cells, Offers, Quote, Report};

/// Machines of parallel tests would starve each other of the cores that they bill.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub struct Machine {
    pub slots: Slots,
    pub offers: Arc<Offers>,
    pub wasm: Wasm,
    pub tick: u64,
    pub report: Report,
    _alone: MutexGuard<'static, ()>,
}

impl Machine {
    pub fn new() -> Self {
        Self::with(WasmConfig::default())
    }

    pub fn with(config: WasmConfig) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let offers = Arc::new(Offers::default());
        let wasm = Wasm::new(config, Arc::clone(&offers)).unwrap();
        Self { slots: Slots::new(2, false).unwrap(), offers, wasm, tick: 0, report: Report::default(), _alone: alone }
    }

    /// Makes an agent from WebAssembly text.
    pub fn agent(&mut self, text: &str) -> AgentId {
        let program = self.wasm.register(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let cell = self.wasm.spawn(self.slots.next_id(), &program).unwrap();
        self.slots.add(cell)
    }

    /// Makes an agent whose step has this body, with every import and one page of memory.
    pub fn step(&mut self, body: &str) -> AgentId {
        self.agent(&module(body, ""))
    }

    /// Runs one tick of at most `ms` milliseconds in which `agents` hold leases of these kinds; returns its report.
    pub fn tick(&mut self, ms: u64, leases: &[(AgentId, LeaseKind)]) -> Report {
        self.tick += 1;
        let quote = Quote { tick: Tick(self.tick), spot: Price(4_500), now_us: self.tick * 10_000 };
        let assignments: Vec<Assignment> = leases
            .iter()
            .map(|(agent, kind)| Assignment {
                grant: Grant {
                    agent: *agent,
                    kind: *kind,
                    price: Price(4_500),
                    length: Micros(ms * 1_000),
                    worst_case: Micros(10_000),
                    erasable: Bytes(64 << 20),
                },
                slots: 1,
                balance: Joule(77_000),
                spare: Bytes(0),
            })
            .collect();
        let ends = Instant::now() + Duration::from_millis(ms);
        self.slots.dispatch(quote, ends, &assignments);
        let mut report = Report::default();
        self.slots.collect(Duration::from_millis(ms) + Duration::from_secs(5), &mut report);
        report
    }

    /// Runs one agent for a slot of `ms` milliseconds.
    pub fn run(&mut self, agent: AgentId, ms: u64) -> (Usage, Report) {
        let report = self.tick(ms, &[(agent, LeaseKind::Slot(SlotId(0)))]);
        (usage(&report, agent), report)
    }

    /// Gives one agent its last words.
    pub fn last_words(&mut self, agent: AgentId, ms: u64) -> (Usage, Report) {
        let report = self.tick(ms, &[(agent, LeaseKind::LastWords(SlotId(0)))]);
        (usage(&report, agent), report)
    }
}

pub fn usage(report: &Report, agent: AgentId) -> Usage {
    let mut found = report.usages.iter().filter(|usage| usage.agent == agent);
    let usage = *found.next().unwrap_or_else(|| panic!("no report of {agent}: {report:?}"));
    assert!(found.next().is_none(), "{agent} is reported twice: {report:?}");
    usage
}

/// A module with every import, one page of memory, a step with this body, and `more` beside it.
pub fn module(body: &str, more: &str) -> String {
    format!(
        r#"(module
  (import "maxwell" "price" (func $price (result i64)))
  (import "maxwell" "balance" (func $balance (result i64)))
  (import "maxwell" "bid" (func $bid (param i64)))
  (import "maxwell" "submit" (func $submit (param i32 i32 i32) (result i64)))
  (import "maxwell" "recv" (func $recv (param i32 i32 i32) (result i32)))
  (import "maxwell" "send" (func $send (param i64 i32 i32) (result i32)))
  (import "maxwell" "log" (func $log (param i32 i32) (result i32)))
  (import "maxwell" "now" (func $now (param i32) (result i64)))
  (import "maxwell" "random" (func $random (result i64)))
  (memory (export "memory") 1)
  {more}
  (func (export "step") (result i32) {body}))"#
    )
}
