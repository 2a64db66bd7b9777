//! How quickly cells start and stop, what counting erased bytes costs, and what metering costs; prints Markdown tables.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use maxwell_core::agent::{LeaseKind, SlotId};
use maxwell_core::market::Grant;
use maxwell_core::{AgentId, Bytes, Joule, Micros, Price, Tick};
use maxwell_hypervisor::slots::Slots;
use maxwell_hypervisor::wasm::{Wasm, WasmConfig};
use maxwell_hypervisor::{Assignment, Cells, Offers, Quote, Report};

fn main() {
    reaction();
    metering();
}

fn quantile(samples: &mut [u32], q: f64) -> String {
    samples.sort_unstable();
    let at = ((samples.len() - 1) as f64 * q) as usize;
    format!("{:.1} µs", f64::from(samples[at]) / 1_000.0)
}

/// A tick of `ms` in which agents 0, 1, … hold the slots.
fn dispatch(machine: &mut Slots, slots: u16, tick: u64, ends: Instant) {
    let assignments: Vec<Assignment> = (0..slots)
        .map(|slot| Assignment {
            grant: Grant {
                agent: AgentId(u64::from(slot)),
                kind: LeaseKind::Slot(SlotId(slot)),
                price: Price(1),
                length: Micros(10_000),
                worst_case: Micros(10_000),
                erasable: Bytes(0),
            },
            slots: 1,
            balance: Joule(0),
            spare: maxwell_core::Bytes(0),
        })
        .collect();
    machine.dispatch(Quote { tick: Tick(tick), spot: Price(1), now_us: tick * 10_000 }, ends, &assignments);
}

/// Start and stop, for three kinds of guests that would rather go on.
fn reaction() {
    println!("### Cells: from decision to effect\n");
    println!(
        "One slot on an otherwise idle machine; each row is 1,500 slots of 5 ms, a third of them revoked in the middle. \
         Start: from the decision to the first poll. Stop: from the end of the slot, or its revocation, to the cell being \
         stopped (one fuel yield).\n"
    );
    println!("| guest | start p50 | p99 | stop p50 | p99 | max |");
    println!("|---|---|---|---|---|---|");
    let divide = "(local $n i64) (local.set $n (i64.const 987654321987654321))
        (loop $l (local.set $n (i64.add (i64.rem_u (i64.const 0x7fffffffffffff01) (local.get $n)) (i64.const 3))) (br $l))";
    // Steps through 32 MiB in an order that no prefetcher foresees.
    let chase = "(local $at i32)
        (loop $l
          (local.set $at (i32.and (i32.add (i32.mul (local.get $at) (i32.const 1664525)) (i32.const 1013904223)) (i32.const 0x1fffffc)))
          (i32.store (local.get $at) (local.get $at)) (br $l))";
    for (name, body) in
        [("empty loop", "(loop $l (br $l))"), ("64-bit divisions", divide), ("random stores, 32 MiB", chase)]
    {
        let text = format!(
            r#"(module (memory (export "memory") 512) (func (export "step") (result i32) {body} (unreachable)))"#
        );
        let mut wasm = Wasm::new(WasmConfig::default(), Arc::new(Offers::default())).unwrap();
        let program = wasm.register(text.as_bytes()).unwrap();
        let mut slots = Slots::new(1, true).unwrap();
        slots.add(wasm.spawn(slots.next_id(), &program).unwrap());
        let mut report = Report::default();
        for tick in 0..1_500 {
            let ends = Instant::now() + Duration::from_millis(5);
            dispatch(&mut slots, 1, tick, ends);
            if tick % 3 == 0 {
                std::thread::sleep(Duration::from_millis(2));
                slots.revoke();
            }
            std::thread::sleep(ends.saturating_duration_since(Instant::now()));
            // Long enough that the worker goes to sleep: the next start finds an idle slot.
            std::thread::sleep(Duration::from_millis(1));
            report.clear();
            slots.collect(Duration::from_secs(1), &mut report);
        }
        let mut reaction = slots.take_reaction();
        println!(
            "| {name} | {} | {} | {} | {} | {} |",
            quantile(&mut reaction.start_ns, 0.5),
            quantile(&mut reaction.start_ns, 0.99),
            quantile(&mut reaction.stop_ns, 0.5),
            quantile(&mut reaction.stop_ns, 0.99),
            quantile(&mut reaction.stop_ns, 1.0),
        );
    }
    println!();
}

/// Three programs, each by itself: a call-heavy, a loop-heavy and a memory-heavy one.
const PROGRAMS: [(&str, &str); 3] = [
    (
        "calls: fib(32), recursive",
        r#"(func $fib (param $n i32) (result i32)
             (if (result i32) (i32.lt_s (local.get $n) (i32.const 2))
               (then (local.get $n))
               (else (i32.add (call $fib (i32.sub (local.get $n) (i32.const 1))) (call $fib (i32.sub (local.get $n) (i32.const 2)))))))
           (func (export "step") (result i32) (call $fib (i32.const 32)))"#,
    ),
    (
        "loops: 50 M rounds of a generator",
        r#"(func (export "step") (result i32)
             (local $i i32) (local $x i64)
             (loop $l
               (local.set $x (i64.add (i64.mul (local.get $x) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
               (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 50000000))))
             (i32.wrap_i64 (local.get $x)))"#,
    ),
    (
        "memory: sieve of 16 M bytes",
        r#"(func (export "step") (result i32)
             (local $p i32) (local $m i32) (local $count i32)
             (memory.fill (i32.const 0) (i32.const 1) (i32.const 16777216))
             (local.set $p (i32.const 2))
             (loop $primes
               (if (i32.load8_u (local.get $p))
                 (then
                   (local.set $count (i32.add (local.get $count) (i32.const 1)))
                   (local.set $m (i32.shl (local.get $p) (i32.const 1)))
                   (block $done
                     (loop $strike
                       (br_if $done (i32.ge_u (local.get $m) (i32.const 16777216)))
                       (i32.store8 (local.get $m) (i32.const 0))
                       (local.set $m (i32.add (local.get $m) (local.get $p)))
                       (br $strike)))))
               (br_if $primes (i32.lt_u (local.tee $p (i32.add (local.get $p) (i32.const 1))) (i32.const 16777216))))
             (local.get $count))"#,
    ),
];

/// The same engine settings as cells use, with and without fuel.
fn metering() {
    println!("### Metering: fuel against nothing\n");
    println!(
        "The same program, engine settings of the cells, run in turns (median of 11 pairs): without fuel; with fuel; with \
         fuel and a yield every 100,000 units, which is where cells settle for fast code.\n"
    );
    println!("| program | unmetered | fuel | fuel and yields | overhead of fuel | of fuel and yields |");
    println!("|---|---|---|---|---|---|");
    for (name, body) in PROGRAMS {
        let text = format!(r#"(module (memory (export "memory") 257) {body})"#);
        let mut runs = [run(&text, None), run(&text, Some(None)), run(&text, Some(Some(100_000)))];
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..11 {
            for (run, times) in runs.iter_mut().zip(&mut times) {
                times.push(run());
            }
        }
        let [plain, fuel, yields] = times.map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2].as_secs_f64() * 1e3
        });
        println!(
            "| {name} | {plain:.1} ms | {fuel:.1} ms | {yields:.1} ms | {:+.1} % | {:+.1} % |",
            (fuel / plain - 1.0) * 100.0,
            (yields / plain - 1.0) * 100.0
        );
    }
    println!();
}

/// A closure that runs the program's step once and returns how long it took. `fuel`: metered, and yielding how often.
fn run(text: &str, fuel: Option<Option<u64>>) -> impl FnMut() -> Duration + use<> {
    let mut config = wasmtime::Config::new();
    config.consume_fuel(fuel.is_some()).cranelift_nan_canonicalization(true).memory_init_cow(false);
    let engine = wasmtime::Engine::new(&config).unwrap();
    let module = wasmtime::Module::new(&engine, text).unwrap();
    let mut store = wasmtime::Store::new(&engine, ());
    if let Some(yields) = fuel {
        store.set_fuel(u64::MAX).unwrap();
        store.fuel_async_yield_interval(yields).unwrap();
    }
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut finish = move |future: std::pin::Pin<&mut dyn Future<Output = wasmtime::Result<i32>>>| {
        let mut future = future;
        loop {
            if let std::task::Poll::Ready(result) = future.as_mut().poll(&mut context) {
                return result.unwrap();
            }
        }
    };
    let mut instance = None;
    move || {
        let instance = instance.get_or_insert_with(|| {
            let mut made = std::pin::pin!(wasmtime::Instance::new_async(&mut store, &module, &[]));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            loop {
                if let std::task::Poll::Ready(instance) = made.as_mut().poll(&mut context) {
                    break instance.unwrap();
                }
            }
        });
        let step = instance.get_typed_func::<(), i32>(&mut store, "step").unwrap();
        let from = Instant::now();
        finish(std::pin::pin!(step.call_async(&mut store, ())));
        from.elapsed()
    }
}
