//! One agent's whole life as a future that owns its store.
//!
//! ```text
//!  instantiate ─► _initialize ─► step ─► step ─► … ─► done
//!       │              │          │
//!       └──── trap ────┴──────────┘            condemned, at any await ─► apoptosis ─► done
//! ```
//!
//! Polling it once runs the guest for one fuel interval, or to the end of a step. Not polling it freezes the agent;
//! dropping it kills the agent. At every step boundary the store is free: fuel is read exactly, and the stack is empty.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use maxwell_core::reason::Trap;
use wasmtime::{CallHook, Instance, Memory, Store, StoreContextMut, TypedFunc};

use super::abi::{Exchange, Host, LAST_WORDS, Pace, StepEnd};
use super::engine::{Program, one_line};
use crate::lock;

/// How a life ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The agent said it was done.
    Done,
    /// Its code failed, and how, in words.
    Trapped(Trap, String),
    /// It was condemned, and has said what it had to say.
    Condemned,
}

/// What runs an agent.
pub(super) type Life = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// A guest call either finished or was given up because the agent is condemned.
enum Call<T> {
    Finished(T),
    GivenUp,
}

/// Polls `call` until it ends, or until the agent is condemned. Dropping the call unwinds its fiber, and the store can
/// be used again.
async fn unless_condemned<T>(exchange: &Exchange, call: impl Future<Output = T>) -> Call<T> {
    let mut call = pin!(call);
    std::future::poll_fn(|context| {
        if exchange.condemned.load(Ordering::Relaxed) {
            return Poll::Ready(Call::GivenUp);
        }
        match call.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Call::Finished(result)),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Hands control back to the worker once.
async fn boundary() {
    let mut yielded = false;
    std::future::poll_fn(|_| if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Runs wherever guest and host meet, fuel yields included: before, fuel has just been spilled and is exact; after, the
/// guest reloads it, so a new yield interval takes effect.
fn at_the_border(mut store: StoreContextMut<'_, Host>, hook: CallHook) -> wasmtime::Result<()> {
    match hook {
        CallHook::CallingHost => {
            let left = store.get_fuel()?;
            store.data().exchange.fuel.store(u64::MAX - left, Ordering::Relaxed);
        }
        CallHook::ReturningFromHost => {
            let wished = store.data().exchange.interval.load(Ordering::Relaxed);
            if wished != store.data().interval {
                store.data_mut().interval = wished;
                store.fuel_async_yield_interval(Some(wished))?;
            }
        }
        CallHook::CallingWasm | CallHook::ReturningFromWasm => {}
    }
    Ok(())
}

/// The life of an agent made from `program`.
pub(super) fn life(program: Program, host: Host) -> Life {
    let exchange = Arc::clone(&host.exchange);
    Box::pin(async move {
        let mut store = Store::new(program.instance.module().engine(), host);
        store.limiter(|host| host);
        let metered = store.set_fuel(u64::MAX).and_then(|()| store.fuel_async_yield_interval(Some(Pace::FIRST)));
        metered.expect("the engine consumes fuel");
        store.call_hook(at_the_border);
        let mut guest = match unless_condemned(&exchange, program.instance.instantiate_async(&mut store)).await {
            Call::GivenUp => return Ended::Condemned,
            Call::Finished(Err(error)) => {
                let (trap, why) = classify(&store, &error, Trap::Instantiation);
                return Ended::Trapped(trap, why);
            }
            Call::Finished(Ok(instance)) => Guest::new(&mut store, &instance),
        };
        guest.settle_fuel(&store, &exchange);
        guest.publish_memory(&store, &exchange);
        if let Err(ended) = guest.initialize(&mut store, &exchange).await {
            return match ended {
                Ended::Condemned => guest.last_words(&mut store, &exchange).await,
                ended => ended,
            };
        }
        loop {
            let stepped = unless_condemned(&exchange, guest.step.call_async(&mut store, ())).await;
            guest.settle_fuel(&store, &exchange);
            guest.publish_memory(&store, &exchange);
            match stepped {
                Call::GivenUp => return guest.last_words(&mut store, &exchange).await,
                Call::Finished(Err(error)) => {
                    let (trap, why) = classify(&store, &error, Trap::Other);
                    return guest.fail(&mut store, &exchange, trap, why).await;
                }
                Call::Finished(Ok(outcome)) => {
                    let step = match outcome {
                        0 => StepEnd::More,
                        1 => StepEnd::Idle,
                        _ => return Ended::Done,
                    };
                    lock(&exchange.slot).step = Some(step);
                    boundary().await;
                }
            }
        }
    })
}

/// The exports of an instance.
struct Guest {
    memory: Memory,
    step: TypedFunc<(), i32>,
    initialize: Option<TypedFunc<(), ()>>,
    apoptosis: Option<Apoptosis>,
}

#[derive(Clone)]
enum Apoptosis {
    /// Says its last words by `log`.
    Silent(TypedFunc<(), ()>),
    /// Returns where its last words lie: pointer in the high half, length in the low.
    Spoken(TypedFunc<(), i64>),
}

impl Guest {
    fn new(store: &mut Store<Host>, instance: &Instance) -> Self {
        const CHECKED: &str = "exports were checked when the module was registered";
        let apoptosis = instance
            .get_typed_func(&mut *store, "apoptosis")
            .map(Apoptosis::Spoken)
            .or_else(|_| instance.get_typed_func(&mut *store, "apoptosis").map(Apoptosis::Silent))
            .ok();
        Self {
            memory: instance.get_memory(&mut *store, "memory").expect(CHECKED),
            step: instance.get_typed_func(&mut *store, "step").expect(CHECKED),
            initialize: instance.get_typed_func(&mut *store, "_initialize").ok(),
            apoptosis,
        }
    }

    /// At a step boundary fuel is exact.
    fn settle_fuel(&self, store: &Store<Host>, exchange: &Exchange) {
        let left = store.get_fuel().expect("the engine consumes fuel");
        exchange.fuel.store(u64::MAX - left, Ordering::Relaxed);
    }

    fn publish_memory(&self, store: &Store<Host>, exchange: &Exchange) {
        exchange.memory_base.store(self.memory.data_ptr(store) as usize, Ordering::Relaxed);
        exchange.memory_len.store(self.memory.data_size(store), Ordering::Relaxed);
    }

    async fn initialize(&mut self, store: &mut Store<Host>, exchange: &Exchange) -> Result<(), Ended> {
        let Some(initialize) = self.initialize.take() else { return Ok(()) };
        let called = unless_condemned(exchange, initialize.call_async(&mut *store, ())).await;
        self.settle_fuel(store, exchange);
        self.publish_memory(store, exchange);
        match called {
            Call::GivenUp => Err(Ended::Condemned),
            Call::Finished(Err(error)) => {
                let (trap, why) = classify(store, &error, Trap::Other);
                Err(Ended::Trapped(trap, why))
            }
            Call::Finished(Ok(())) => Ok(()),
        }
    }

    /// A step failed. The market answers with a death sentence; what the agent wants to say before, it may.
    async fn fail(&mut self, store: &mut Store<Host>, exchange: &Exchange, trap: Trap, why: String) -> Ended {
        if self.apoptosis.is_none() {
            return Ended::Trapped(trap, why);
        }
        lock(&exchange.slot).step = Some(StepEnd::Failed(trap, why));
        boundary().await;
        self.last_words(store, exchange).await
    }

    async fn last_words(&mut self, store: &mut Store<Host>, exchange: &Exchange) -> Ended {
        // From here on the agent is condemned for good, and nothing interrupts its call but the end of its lease.
        let spoken = match self.apoptosis.take() {
            None => return Ended::Condemned,
            Some(Apoptosis::Silent(apoptosis)) => apoptosis.call_async(&mut *store, ()).await.map(|()| None),
            Some(Apoptosis::Spoken(apoptosis)) => apoptosis.call_async(&mut *store, ()).await.map(Some),
        };
        self.settle_fuel(store, exchange);
        match spoken {
            Ok(None) => {}
            Ok(Some(place)) => lock(&exchange.slot).last_words = self.read(store, place),
            Err(error) => {
                let (trap, why) = classify(store, &error, Trap::Other);
                lock(&exchange.slot).said.push(format!("(last words failed, {}: {why})", trap.code()));
            }
        }
        Ended::Condemned
    }

    /// The bytes at a packed pointer and length; `None` if they do not all lie in memory.
    fn read(&self, store: &Store<Host>, place: i64) -> Option<Vec<u8>> {
        let place = place.cast_unsigned();
        let at = usize::try_from(place >> 32).ok()?;
        let len = usize::try_from(place & u64::from(u32::MAX)).ok()?.min(LAST_WORDS);
        self.memory.data(store).get(at..at.checked_add(len)?).map(<[u8]>::to_vec)
    }
}

/// What kind of failure an error is, and the error in words.
fn classify(store: &Store<Host>, error: &wasmtime::Error, otherwise: Trap) -> (Trap, String) {
    use wasmtime::Trap as W;
    let trap = match error.downcast_ref::<W>() {
        Some(W::UnreachableCodeReached) if store.data().refused_memory => Trap::MemoryLimit,
        Some(W::UnreachableCodeReached) => Trap::Unreachable,
        Some(W::MemoryOutOfBounds | W::TableOutOfBounds | W::HeapMisaligned | W::ArrayOutOfBounds) => Trap::OutOfBounds,
        Some(W::IntegerOverflow | W::IntegerDivisionByZero | W::BadConversionToInteger) => Trap::Arithmetic,
        Some(W::StackOverflow) => Trap::StackOverflow,
        Some(W::IndirectCallToNull | W::BadSignature | W::NullReference | W::CastFailure) => Trap::BadCall,
        Some(W::AllocationTooLarge) => Trap::MemoryLimit,
        _ => otherwise,
    };
    // A trap's root cause reads better than the backtrace that wasmtime puts before it.
    (trap, error.downcast_ref::<W>().map_or_else(|| one_line(error), ToString::to_string))
}
