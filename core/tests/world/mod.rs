//! A market with a modelled machine and scripted agents, in virtual time.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use maxwell_core::agent::{AgentSpec, CellKind, LeaseKind, OnInsolvency, Order};
use maxwell_core::market::{
    CellAction, Claim, Command, Event, Grant, Market, MarketPolicy, Outcome, Stop, TickInput, Usage,
};
use maxwell_core::pacing::Pacing;
use maxwell_core::sensor::{
    Activity, Counter, CounterReading, CounterSpec, Domain, Quality, Reading, Source, Temperature,
};
use maxwell_core::thermal::{Plant, ThermalPolicy};
use maxwell_core::{AgentId, Bytes, Celsius, Joule, Micros, Price, PrincipalId, Tick, Watts};

/// What an agent does with a lease.
pub struct Run {
    pub core: Micros,
    pub erased: Bytes,
    pub held: Bytes,
    pub erasable: Bytes,
    pub bid: Option<Price>,
    pub stop: Stop,
    pub claims: Vec<Claim>,
}

impl Run {
    /// Uses a whole slot of 10 ms.
    pub fn full() -> Self {
        Self {
            core: Micros(10_000),
            erased: Bytes(0),
            held: Bytes(0),
            erasable: Bytes(0),
            bid: None,
            stop: Stop::SlotEnd,
            claims: Vec::new(),
        }
    }
}

pub type Behaviour = Box<dyn FnMut(&Grant) -> Run>;

pub struct World {
    pub market: Market,
    pub input: TickInput,
    pub out: Outcome,
    pub plant: Plant,
    pub behaviours: Vec<Behaviour>,
    pub events: Vec<(u64, Event)>,
    /// Slots each agent ran from the start of a tick.
    pub ran: Vec<u64>,
    counts: u128,
    power: f64,
    pub core_power: f64,
    pub heat: bool,
    /// The thermometer gives nothing.
    pub blind: bool,
    /// Ticks that are lost before the next one.
    pub lost: u64,
}

pub fn policy(slots: u16) -> MarketPolicy {
    MarketPolicy {
        thermal: ThermalPolicy { slots, par: Price(4_000), idle: Watts(2.0), ..ThermalPolicy::default() },
        resting_fee_ppm: 0,
        ..MarketPolicy::default()
    }
}

pub fn spec(principal: &str, limit: u64) -> AgentSpec {
    AgentSpec {
        principal: PrincipalId::named(principal),
        order: Order { limit: Price(limit), slots: 1, hold: 0 },
        pacing: Pacing::Fixed,
        on_insolvency: OnInsolvency::Apoptosis,
        cell: CellKind::Wasm,
        last_words: Micros::ZERO,
        held: Bytes(0),
        erasable: Bytes(0),
        power_class: 1000,
    }
}

/// The machine's one energy counter.
pub fn counter() -> Vec<Counter> {
    let (domain, spec) = (Domain::Package(0), CounterSpec::rapl(16));
    let (source, quality) = (Source::Powercap, Quality::Measured);
    vec![Counter { domain, source, quality, spec, max_power: Watts(10_000.0), refresh_ms: 1 }]
}

/// Joules as counts of a 2⁻¹⁶ J counter.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
fn counts(joules: f64) -> u128 {
    (joules * 65_536.0) as u128
}

impl World {
    pub fn new(policy: MarketPolicy) -> Self {
        let plant = Plant::settled(policy.thermal.model, policy.thermal.idle);
        let power = policy.thermal.idle.0;
        Self {
            market: Market::new(policy),
            input: TickInput::default(),
            out: Outcome::default(),
            plant,
            behaviours: Vec::new(),
            events: Vec::new(),
            ran: Vec::new(),
            counts: 0,
            power,
            core_power: 4.0,
            heat: false,
            blind: false,
            lost: 0,
        }
    }

    /// Adds an agent that uses every slot it gets.
    pub fn spinner(&mut self, spec: AgentSpec, wallet: u64) -> AgentId {
        let held = spec.held;
        self.agent(spec, wallet, Box::new(move |_| Run { held, ..Run::full() }))
    }

    pub fn agent(&mut self, spec: AgentSpec, wallet: u64, behaviour: Behaviour) -> AgentId {
        self.input.commands.push(Command::Spawn { spec, wallet: Joule(wallet) });
        self.behaviours.push(behaviour);
        self.ran.push(0);
        AgentId(self.behaviours.len() as u64 - 1)
    }

    pub fn command(&mut self, command: Command) {
        self.input.commands.push(command);
    }

    pub fn tick(&mut self) {
        let policy = self.market.policy().clone();
        self.counts += counts(self.power * 0.01);
        let celsius = if self.heat { Celsius(self.plant.temperature().0.floor()) } else { Celsius(40.0) };
        self.input.tick = self.market.now().after(1 + std::mem::take(&mut self.lost));
        self.input.counters = (self.input.tick == Tick(1)).then(counter);
        let raw = u64::try_from(self.counts & u128::from(u32::MAX)).unwrap();
        self.input.reading = Reading {
            counters: vec![CounterReading { raw: Some(raw), age_ms: 0 }],
            temperature: (!self.blind).then_some(Temperature::fresh(celsius, Source::Msr, Quality::Measured)),
        };
        let agents_us: u64 = self.input.usages.iter().map(|u| u.core.0).sum();
        self.input.activity = Activity {
            elapsed_us: policy.tick.0,
            agents_us,
            agents_weighted_us: agents_us,
            daemon_us: 50,
            others_us: 0,
        };
        self.market.tick(&self.input, &mut self.out).unwrap();
        self.events.extend(self.out.events.iter().map(|e| (self.out.tick.0, *e)));
        self.input.reset(Tick(0));
        self.run_grants(&policy);
        let busy: u64 = self.input.usages.iter().map(|u| u.core.0).sum();
        self.power = policy.thermal.idle.0 + self.core_power * busy as f64 / policy.tick.0 as f64;
        self.plant.step(Watts(self.power), policy.tick.0 as f64 * 1e-6);
    }

    /// Runs the leases; a slot that ends early goes to the standbys in order.
    fn run_grants(&mut self, policy: &MarketPolicy) {
        let mut left: Vec<u64> = Vec::new();
        for grant in self.out.grants.clone() {
            let index = usize::try_from(grant.agent.0).unwrap();
            let run = match grant.kind {
                LeaseKind::Slot(_) | LeaseKind::LastWords(_) => {
                    let mut run = (self.behaviours[index])(&grant);
                    if grant.length < policy.tick {
                        run.core = run.core.min(grant.length);
                    }
                    left.push(policy.tick.0.saturating_sub(run.core.0));
                    if matches!(grant.kind, LeaseKind::Slot(_)) {
                        self.ran[index] += 1;
                    }
                    run
                }
                LeaseKind::Standby => match left.iter_mut().find(|left| **left > 1_000) {
                    Some(left) => {
                        let mut run = (self.behaviours[index])(&grant);
                        run.core = Micros(run.core.0.min(*left).min(grant.length.0));
                        *left -= run.core.0;
                        run
                    }
                    None => Run { core: Micros(0), stop: Stop::NotRun, ..Run::full() },
                },
            };
            self.input.claims.extend(run.claims);
            // One lease, several slots: one usage.
            if let Some(usage) = self.input.usages.iter_mut().find(|usage| usage.agent == grant.agent) {
                usage.core = usage.core.saturating_add(run.core);
                continue;
            }
            self.input.usages.push(Usage {
                agent: grant.agent,
                core: run.core,
                fuel: run.core.0 * 1_000,
                erased: run.erased,
                held: run.held,
                erasable: run.erasable,
                bid: run.bid,
                demand: None,
                stop: run.stop,
            });
        }
    }

    pub fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick();
        }
    }

    pub fn happened(&self, wanted: impl Fn(&Event) -> bool) -> Option<u64> {
        self.events.iter().find(|(_, event)| wanted(event)).map(|(tick, _)| *tick)
    }

    pub fn ended(&self, agent: AgentId) -> bool {
        self.out.actions.contains(&CellAction::End(agent))
    }
}
