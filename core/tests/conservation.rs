//! Money and energy are conserved after every tick, and after every single posting inside a tick, whatever happens.
//!
//! Inputs are random and partly nonsense: reports about agents that hold no lease, claims for sponsors that do not
//! exist, bids of zero and of `u64::MAX`, usages far beyond a reservation, lost ticks, wrapped counters, and silent
//! sensors.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests work with small numbers, and a failure to unwrap is a failure of the test"
)]

use std::collections::BTreeMap;

use maxwell_core::accounts::{Account, Accounts, Posting, Purpose};
use maxwell_core::agent::{AgentSpec, CellKind, LeaseKind, OnInsolvency, Order, SlotId};
use maxwell_core::bounty::{ClaimFault, SponsorId, Verifier};
use maxwell_core::clearing::PricingRule;
use maxwell_core::market::{Claim, Command, Market, MarketPolicy, Outcome, Stop, TickInput, Usage};
use maxwell_core::pacing::Pacing;
use maxwell_core::reason::Trap;
use maxwell_core::sensor::{
    Activity, Counter, CounterReading, CounterSpec, Domain, Quality, Reading, Source, Temperature,
};
use maxwell_core::thermal::ThermalPolicy;
use maxwell_core::units::{Celsius, Watts};
use maxwell_core::{AgentId, Bytes, Joule, Micros, Price, PrincipalId, Tick};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

/// One random event; several make a tick.
#[derive(Clone, Debug)]
enum Happening {
    /// The n-th outstanding lease ends.
    End {
        nth: usize,
        core: u64,
        erased: u64,
        held: u64,
        bid: Option<u64>,
        stop: Stop,
    },
    /// A report about an agent that may hold no lease, or not exist.
    Lie {
        agent: u64,
    },
    Claim {
        agent: u64,
        sponsor: u16,
        verdict: Result<u64, ClaimFault>,
    },
    Command(Command),
    Busy(u16),
}

fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![0..10u64, 0..1_000_000_000u64, 0..u64::MAX, Just(u64::MAX)]
}

fn small() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..20_000u64, 1 => Just(0), 1 => 0..10_000_000u64, 1 => Just(u64::MAX)]
}

fn stop() -> impl Strategy<Value = Stop> {
    prop_oneof![
        6 => Just(Stop::SlotEnd),
        2 => Just(Stop::Idle),
        2 => Just(Stop::NotRun),
        1 => Just(Stop::Done),
        1 => Just(Stop::Trapped(Trap::Unreachable)),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    let slots = prop_oneof![4 => Just(1), 3 => 0..6u16, 1 => Just(u16::MAX)];
    (prop_oneof![4 => 1_000..20_000u64, 1 => Just(0), 1 => Just(u64::MAX)], slots, 0..5u32)
        .prop_map(|(limit, slots, hold)| Order { limit: Price(limit), slots, hold })
}

fn spec() -> impl Strategy<Value = AgentSpec> {
    (0..6u8, order(), any::<bool>(), any::<bool>(), any::<bool>(), prop_oneof![0..100_000_000u64, Just(u64::MAX)])
        .prop_map(|(principal, order, park, has_last_words, paced, held)| AgentSpec {
            principal: PrincipalId([principal; 32]),
            order,
            pacing: if paced { Pacing::until(Tick(500)) } else { Pacing::Fixed },
            on_insolvency: if park { OnInsolvency::Park } else { OnInsolvency::Apoptosis },
            cell: if held % 2 == 0 { CellKind::Wasm } else { CellKind::Process },
            last_words: if has_last_words { Micros(10_000) } else { Micros::ZERO },
            held: Bytes(held),
            erasable: Bytes(held.wrapping_mul(3)),
            power_class: 1000 + u16::from(principal) * 100,
        })
}

fn command() -> impl Strategy<Value = Command> {
    let agent = || (0..24u64).prop_map(AgentId);
    prop_oneof![
        4 => (spec(), amount()).prop_map(|(spec, wallet)| Command::Spawn { spec, wallet: Joule(wallet) }),
        2 => (agent(), amount()).prop_map(|(agent, amount)| Command::Fund { agent, amount: Joule(amount) }),
        2 => (agent(), order()).prop_map(|(agent, order)| Command::Order { agent, order }),
        1 => agent().prop_map(|agent| Command::Park { agent }),
        1 => agent().prop_map(|agent| Command::Kill { agent }),
        1 => (amount(), amount()).prop_map(|(reward, budget)| Command::Sponsor {
            verifier: Verifier::Prime { least: 2 },
            reward: Joule(reward),
            budget: Joule(budget),
        }),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => (any::<usize>(), small(), small(), amount(), proptest::option::of(amount()), stop())
            .prop_map(|(nth, core, erased, held, bid, stop)| Happening::End { nth, core, erased, held, bid, stop }),
        1 => (0..40u64).prop_map(|agent| Happening::Lie { agent }),
        3 => (0..24u64, 0..4u16, prop_oneof![(0..50u64).prop_map(Ok), Just(Err(ClaimFault::Wrong))])
            .prop_map(|(agent, sponsor, verdict)| Happening::Claim { agent, sponsor, verdict }),
        2 => command().prop_map(Happening::Command),
        1 => (0..5u16).prop_map(Happening::Busy),
    ]
}

/// Applies a tick's postings one by one to a second set of accounts: cut off anywhere, money is conserved.
fn apply(shadow: &mut Accounts, postings: &[Posting]) {
    for posting in postings {
        for account in [posting.from, posting.to] {
            match account {
                Account::Sponsor(index) => shadow.open_sponsor(index),
                Account::Wallet(index) | Account::Escrow(index) | Account::LastWords(index) => shadow.open_agent(index),
                Account::Mint | Account::Grid | Account::Cooling => {}
            }
        }
        shadow.post(*posting).expect("every prefix of a tick is solvent");
        assert_eq!(shadow.supply().error(), 0);
    }
}

fn usage(agent: AgentId, core: u64, stop: Stop) -> Usage {
    Usage {
        agent,
        core: Micros(core),
        fuel: core,
        erased: Bytes(0),
        held: Bytes(0),
        erasable: Bytes(0),
        bid: None,
        demand: None,
        stop,
    }
}

/// The machine's one energy counter.
fn counter() -> Vec<Counter> {
    let (domain, spec) = (Domain::Package(0), CounterSpec::rapl(16));
    let (source, quality) = (Source::Powercap, Quality::Measured);
    vec![Counter { domain, source, quality, spec, max_power: Watts(10_000.0), refresh_ms: 1 }]
}

struct Run {
    market: Market,
    shadow: Accounts,
    input: TickInput,
    out: Outcome,
    leases: BTreeMap<AgentId, Joule>,
    reserved: BTreeMap<u32, u128>,
    counter: u64,
    events: usize,
}

impl Run {
    fn new(pricing: PricingRule) -> Self {
        let policy = MarketPolicy {
            pricing,
            thermal: ThermalPolicy { slots: 3, par: Price(2_000), idle: Watts(1.0), ..ThermalPolicy::default() },
            grace: Micros(100_000),
            quality: if pricing == PricingRule::Uniform { vec![] } else { vec![400, 1000, 700] },
            ..MarketPolicy::default()
        };
        Self {
            market: Market::new(policy),
            shadow: Accounts::default(),
            input: TickInput::default(),
            out: Outcome::default(),
            leases: BTreeMap::new(),
            reserved: BTreeMap::new(),
            counter: u64::from(u32::MAX) - 100_000,
            events: 0,
        }
    }

    fn tick(&mut self, happenings: &[Happening], skip: u64, sensor: u8) {
        for happening in happenings {
            self.events += 1;
            match happening.clone() {
                Happening::End { nth, core, erased, held, bid, stop } => {
                    let Some(agent) = self.leases.keys().nth(nth % self.leases.len().max(1)).copied() else { continue };
                    self.leases.remove(&agent);
                    self.input.usages.push(Usage {
                        agent,
                        core: Micros(core),
                        fuel: core,
                        erased: Bytes(erased),
                        held: Bytes(held),
                        erasable: Bytes(erased.saturating_mul(2)),
                        bid: bid.map(Price),
                        demand: (core % 3 == 0).then(|| u16::try_from(core % 7).expect("less than seven")),
                        stop,
                    });
                }
                Happening::Lie { agent } => self.input.usages.push(usage(AgentId(agent), 7_000, Stop::SlotEnd)),
                Happening::Claim { agent, sponsor, verdict } => {
                    self.input.claims.push(Claim { agent: AgentId(agent), sponsor: SponsorId(sponsor), verdict });
                }
                Happening::Command(command) => self.input.commands.push(command),
                Happening::Busy(slot) => self.input.busy.push(SlotId(slot)),
            }
        }
        self.counter = (self.counter + 3_000 * (1 + skip)) & u64::from(u32::MAX);
        self.input.tick = self.market.now().after(1 + skip);
        let raw = (sensor > 0).then_some(if sensor == 1 { 5 } else { self.counter });
        self.input.counters = self.market.metered().next().is_none().then(counter);
        self.input.reading = Reading {
            counters: vec![CounterReading { raw, age_ms: 0 }],
            temperature: (sensor > 2).then_some(Temperature::fresh(Celsius(50.0), Source::Msr, Quality::Measured)),
        };
        let core: u64 = self.input.usages.iter().map(|u| u.core.0.min(30_000)).sum();
        let nonsense = sensor == 7;
        self.input.activity = Activity {
            elapsed_us: if nonsense { 0 } else { 10_000 * (1 + skip) },
            agents_weighted_us: if nonsense { u64::MAX } else { core },
            agents_us: if nonsense { u64::MAX } else { core },
            daemon_us: if nonsense { u64::MAX } else { 40 },
            others_us: 900,
        };
        self.market.tick(&self.input, &mut self.out).unwrap();
        self.check();
        self.input.reset(Tick(0));
    }

    fn check(&mut self) {
        let money = self.market.money();
        assert_eq!(money.error(), 0);
        apply(&mut self.shadow, &self.out.postings);
        assert_eq!(self.shadow.audit(), money, "the postings tell the whole story");

        // What left escrow never exceeds what was reserved into it, agent by agent: overspend is zero.
        for posting in &self.out.postings {
            if let Account::Escrow(index) = posting.to {
                assert!(matches!(posting.purpose, Purpose::Reserve));
                *self.reserved.entry(index).or_default() += u128::from(posting.amount.0);
            }
            if let Account::Escrow(index) = posting.from {
                let reserved = self.reserved.get_mut(&index).expect("spent without a reservation");
                *reserved = reserved.checked_sub(u128::from(posting.amount.0)).expect("overspent a reservation");
            }
            if matches!(posting.purpose, Purpose::Energy | Purpose::Scarcity | Purpose::Tax) {
                assert!(matches!(posting.from, Account::Escrow(_)), "core time is only ever paid from escrow");
            }
        }
        // What may be erased under a lease is reserved with it, and a module may erase all that it holds.
        for (id, agent) in self.market.agents() {
            if let Some(lease) = agent.lease().filter(|lease| !matches!(lease.kind, LeaseKind::LastWords(_))) {
                assert!(lease.reserved >= lease.tax.ceiling(lease.erasable.0), "{id}: {lease:?}");
                let all = lease.erasable >= agent.spec.held || lease.reserved == Joule::MAX;
                assert!(agent.spec.cell == CellKind::Process || all, "{id}: {lease:?}");
            }
        }
        // The market's own view of who holds a lease.
        self.leases =
            self.market.agents().filter_map(|(id, agent)| agent.lease().map(|lease| (id, lease.reserved))).collect();
        let leased: u128 = self.leases.values().map(|j| u128::from(j.0)).sum();
        let in_escrow: u128 = self.reserved.values().sum();
        assert_eq!(leased, in_escrow, "escrow is exactly what outstanding leases reserved");
    }
}

fn ticks() -> impl Strategy<Value = Vec<(Vec<Happening>, u64, u8)>> {
    let tick = (proptest::collection::vec(happening(), 0..40), prop_oneof![9 => Just(0u64), 1 => 1..50u64], 0..12u8);
    proptest::collection::vec(tick, 1..120)
}

/// How many random events the property must survive.
const EVENTS: usize = 1_000_000;

#[test]
fn money_is_conserved_and_nobody_overspends() {
    let rule = prop_oneof![
        Just(PricingRule::Uniform),
        Just(PricingRule::Gsp),
        Just(PricingRule::Vcg),
        Just(PricingRule::Posted)
    ];
    let config = ProptestConfig { cases: 1_000, max_shrink_iters: 20_000, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let events = std::cell::Cell::new(0);
    let survived = runner.run(&(ticks(), rule), |(ticks, rule)| {
        let mut run = Run::new(rule);
        for (happenings, skip, sensor) in &ticks {
            run.tick(happenings, *skip, *sensor);
        }
        events.set(events.get() + run.events);
        Ok(())
    });
    survived.unwrap();
    assert!(events.get() >= EVENTS, "only {} events", events.get());
}

#[test]
fn the_same_inputs_give_the_same_hash() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let inputs = ticks().new_tree(&mut runner).unwrap().current();
    let hash = || {
        let mut run = Run::new(PricingRule::Uniform);
        inputs.iter().for_each(|(happenings, skip, sensor)| run.tick(happenings, *skip, *sensor));
        run.market.state_hash()
    };
    assert_eq!(hash(), hash());
}
