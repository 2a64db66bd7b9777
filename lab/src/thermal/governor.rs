//! The two governors, behind one face: they are shown the sensors and told who wants a core, and say how much core time
//! runs in the next tick.

use maxwell_core::agent::{AgentSpec, LeaseKind, OnInsolvency, Order};
use maxwell_core::market::{Command, Market, MarketPolicy, Outcome, Stop, TickInput, Usage};
use maxwell_core::pacing::Pacing;
use maxwell_core::sensor::{Activity, Counter, Reading};
use maxwell_core::thermal::PlantModel;
use maxwell_core::units::{AgentId, Bytes, Celsius, Joule, Micros, Price, PrincipalId, Tick, Watts};

use super::case::{AGENTS, Case, SLOTS, policy};
use super::power_allocator::PowerAllocator;
use super::rig::TICK_US;

/// Whoever decides how much the cores may work.
pub trait Governor {
    /// What it is called in tables.
    fn name(&self) -> &'static str;

    /// One tick: the sensors, and how many agents want a core. Returns the core time that runs until the next tick, in
    /// microseconds.
    fn tick(&mut self, reading: &Reading, active: u16) -> u64;

    /// What a core-second costs now, in milliwatts, for governors that have prices.
    fn price(&self) -> Option<Price>;

    /// Whether it has stopped everything because of heat.
    fn tripped(&self) -> bool;

    /// How the machine warms, if it has learnt that.
    fn learnt(&self) -> Option<PlantModel> {
        None
    }
}

/// Linux's `power_allocator`, polled every 100 ms as is usual for passive cooling.
#[derive(Debug)]
pub struct Linux {
    governor: PowerAllocator,
    /// Ticks between polls.
    every: u64,
    ticks: u64,
    budget: Watts,
}

/// The first trip point lies this far below the set point, as on most boards that use the governor.
const SWITCH_ON_DISTANCE: f64 = 10.0;

impl Linux {
    /// The governor for the nominal machine, polled every `every` ticks.
    #[must_use]
    pub fn new(every: u64) -> Self {
        let policy = policy();
        let cores = Watts::from(policy.par).0 * f64::from(SLOTS);
        let sustainable = policy.model.sustainable(policy.set).0 - policy.idle.0;
        let switch_on = Celsius(policy.set.0 - SWITCH_ON_DISTANCE);
        let governor = PowerAllocator::new(policy.set, switch_on, Watts(sustainable), Watts(cores));
        Self { governor, every, ticks: 0, budget: Watts(cores) }
    }
}

impl Governor for Linux {
    fn name(&self) -> &'static str {
        if self.every == 1 { "power_allocator, 10 ms" } else { "power_allocator" }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and eight ticks")]
    fn tick(&mut self, reading: &Reading, active: u16) -> u64 {
        if self.ticks.is_multiple_of(self.every)
            && let Some(temperature) = reading.temperature
            && temperature.celsius.0.is_finite()
        {
            self.budget = self.governor.poll(temperature.celsius);
        }
        self.ticks += 1;
        let core = Watts::from(policy().par);
        let requests = vec![core; usize::from(active.min(SLOTS))];
        let granted: f64 = PowerAllocator::divide(self.budget, &requests, core).iter().map(|watts| watts.0).sum();
        (granted / core.0 * TICK_US as f64) as u64
    }

    fn price(&self) -> Option<Price> {
        None
    }

    fn tripped(&self) -> bool {
        false
    }
}

/// What agents bid who pay anything: nine times the highest reserve, and they can afford it.
const ANYTHING: Price = Price(100_000_000);

/// Maxwell's market.
#[derive(Debug)]
pub struct Auction {
    market: Market,
    input: TickInput,
    out: Outcome,
    limits: Vec<Price>,
    active: u16,
}

impl Auction {
    /// The market of the nominal machine, with the agents of a case: sixteen owners with money for any length of time.
    #[must_use]
    pub fn new(case: &Case, counters: &[Counter]) -> Self {
        let mut thermal = policy();
        thermal.model = policy().model;
        let policy = MarketPolicy { thermal, ..MarketPolicy::default() };
        let par = policy.thermal.par.0 as f64;
        let mut input = TickInput { counters: Some(counters.to_vec()), ..TickInput::default() };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "prices far below 2^53")]
        let limits: Vec<Price> = (0..AGENTS)
            .map(|n| {
                // Limits are spread geometrically from 1.1 to 33 times par; who comes first is no order of wealth.
                let rank = f64::from((n * 7) % AGENTS) / f64::from(AGENTS - 1);
                let elastic = Price((par * 1.1 * 30.0_f64.powf(rank)) as u64);
                // Two modest agents stay when those who pay anything have gone.
                if case.elastic {
                    elastic
                } else if n < 2 {
                    Price((par * 1.5) as u64)
                } else {
                    ANYTHING
                }
            })
            .collect();
        for n in 0..AGENTS {
            let spec = AgentSpec {
                principal: PrincipalId::named(&format!("owner {n}")),
                order: Order { limit: Price(1), slots: 1, hold: 5 },
                pacing: Pacing::Fixed,
                on_insolvency: OnInsolvency::Apoptosis,
                cell: maxwell_core::agent::CellKind::Wasm,
                last_words: Micros::ZERO,
                held: Bytes(0),
                erasable: Bytes(0),
                power_class: 1_000,
            };
            input.commands.push(Command::Spawn { spec, wallet: Joule(1_000_000_000_000_000_000) });
        }
        Self { market: Market::new(policy), input, out: Outcome::default(), limits, active: 0 }
    }

    /// What the market decided last.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.out
    }

    fn follow(&mut self, active: u16) {
        let (from, to) = (self.active.min(active), self.active.max(active));
        for n in from..to {
            // Below any reserve: it asks for nothing.
            let limit = if active > self.active { self.limits[usize::from(n)] } else { Price(1) };
            self.input
                .commands
                .push(Command::Order { agent: AgentId(u64::from(n)), order: Order { limit, slots: 1, hold: 5 } });
        }
        self.active = active;
    }
}

impl Governor for Auction {
    fn name(&self) -> &'static str {
        "maxwell"
    }

    fn tick(&mut self, reading: &Reading, active: u16) -> u64 {
        self.follow(active);
        self.input.tick = Tick(self.market.now().0 + 1);
        self.input.reading.clone_from(reading);
        let used: u64 = self.input.usages.iter().map(|usage| usage.core.0).sum();
        self.input.activity =
            Activity { elapsed_us: TICK_US, agents_us: used, agents_weighted_us: used, ..Activity::default() };
        self.market.tick(&self.input, &mut self.out).expect("ticks follow each other");
        self.input.reset(Tick(0));
        let mut core = 0;
        for grant in &self.out.grants {
            let runs = !matches!(grant.kind, LeaseKind::Standby);
            let time = if runs { TICK_US } else { 0 };
            core += time;
            self.input.usages.push(Usage {
                agent: grant.agent,
                core: Micros(time),
                fuel: time,
                erased: Bytes(0),
                held: Bytes(0),
                erasable: Bytes(0),
                bid: None,
                demand: None,
                stop: if runs { Stop::SlotEnd } else { Stop::NotRun },
            });
        }
        core
    }

    fn price(&self) -> Option<Price> {
        Some(self.out.control.reserve)
    }

    fn tripped(&self) -> bool {
        self.out.control.tripped
    }

    fn learnt(&self) -> Option<PlantModel> {
        let (plant, learnt) = self.market.plant();
        learnt.then_some(plant)
    }
}
