//! What a lease covers beside core time: the tax on what may be erased under it. And who is insolvent when.
//!
//! Every agent here gets a slot whenever it can pay for one at par, so whoever does not run could not pay.

#![allow(clippy::unwrap_used, reason = "a failure to unwrap is a failure of the test")]

mod world;

use maxwell_core::agent::{AgentSpec, CellKind, Life, OnInsolvency, Order};
use maxwell_core::bounty::{SponsorId, Verifier};
use maxwell_core::ladder::Level;
use maxwell_core::landauer::Rate;
use maxwell_core::market::{Claim, Command, Grant, MarketPolicy, Stop};
use maxwell_core::reason::Reason;
use maxwell_core::thermal::ThermalPolicy;
use maxwell_core::{Bytes, Celsius, Joule, Micros, Price};
use proptest::prelude::*;
use world::{Run, World, policy, spec};

const J: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;

/// Cheap cores, on which memory weighs more: two threads of an EPYC draw 1.55 W each.
fn cheap(slots: u16) -> MarketPolicy {
    let par = policy(slots);
    MarketPolicy { thermal: ThermalPolicy { par: Price(1_550), ..par.thermal }, ..par }
}

/// A slot of such a core, with the time to freeze.
const QUANTUM: Joule = Joule(1_550 * 12_000);

fn process(principal: &str, held: u64) -> AgentSpec {
    let cell = CellKind::Process;
    AgentSpec { cell, held: Bytes(held), erasable: Bytes(4 * MIB), ..spec(principal, 10_000) }
}

/// The tax at the temperature of these worlds' thermometer.
fn tax_rate(world: &World) -> Rate {
    world.market.policy().landauer.tax_rate(Celsius(40.0))
}

/// More than it can be: what the market believes of the die is not what the thermometer shows.
fn highest_tax(world: &World) -> Rate {
    world.market.policy().landauer.tax_rate(Celsius(100.0))
}

/// Whole slots, in which as much is erased as `erases` makes of the grant.
fn run(held: u64, erasable: u64, mut erases: impl FnMut(&Grant) -> u64 + 'static) -> world::Behaviour {
    Box::new(move |grant| {
        let erased = Bytes(erases(grant));
        Run { held: Bytes(held), erasable: Bytes(erasable), erased, ..Run::full() }
    })
}

#[test]
fn who_holds_much_memory_uses_up_its_wallet_to_one_quantum() {
    let mut world = World::new(cheap(1));
    // The tax on all that it holds would be 4.5 J.
    let session = world.agent(process("session", 185 * MIB), 2 * J, run(185 * MIB, 4 * MIB, |_| 5_000));
    world.run(10);
    assert_eq!(world.ran[0], 10);
    let until = (0..1_000).take_while(|_| {
        world.tick();
        world.out.grants.len() == 1
    });
    let ticks = until.count() as u64;
    assert!(world.market.balance(session) < QUANTUM, "{} is left", world.market.balance(session));
    assert_eq!(world.ran[0], 10 + ticks, "no tick without it, as long as it could pay");
    let tally = world.market.agent(session).unwrap().tally;
    assert!(tally.paid.0 + tally.rent.0 + tally.tax.0 > 2 * J - QUANTUM.0 && tally.tax.0 > 0);
    assert_eq!(world.market.agent(session).unwrap().arrears.total(), Joule::ZERO);
}

#[test]
fn who_sleeps_with_much_memory_does_not_die_rich() {
    let mut world = World::new(cheap(1));
    // It wants nothing for a second, then works, on a wallet far below the tax on what it holds.
    let mut slots = 0;
    let sleeper = world.agent(
        process("sleeper", 185 * MIB),
        J,
        Box::new(move |_| {
            slots += 1;
            let (core, stop) = if slots <= 100 { (Micros(0), Stop::Idle) } else { (Micros(10_000), Stop::SlotEnd) };
            Run { core, stop, held: Bytes(185 * MIB), erasable: Bytes(4 * MIB), ..Run::full() }
        }),
    );
    world.run(130);
    assert!(world.market.agent(sleeper).unwrap().is_alive());
    assert!(world.market.agent(sleeper).unwrap().tally.core >= Micros(290_000));
}

#[test]
fn a_lease_covers_what_may_be_erased_or_what_the_wallet_has_left() {
    for (wallet, all) in [(10 * J, true), (QUANTUM.0 + 30_000_000, false), (QUANTUM.0, false)] {
        let mut world = World::new(cheap(1));
        let agent = world.agent(process("p", 0), wallet, run(0, 4 * MIB, |_| 0));
        world.tick();
        let (lease, grant) = (world.market.agent(agent).unwrap().lease().unwrap(), world.out.grants[0]);
        assert_eq!(lease.erasable, grant.erasable);
        let covered = lease.reserved.saturating_sub(QUANTUM);
        assert_eq!(grant.erasable == Bytes(4 * MIB), all, "{grant:?}");
        assert!(lease.tax.ceiling(grant.erasable.0) <= covered);
        assert!(all || lease.tax.ceiling(grant.erasable.0 + 1) > covered, "not a byte less than it could");
    }
}

#[test]
fn a_module_is_covered_for_all_that_it_holds_since_nothing_stops_it() {
    let mut world = World::new(cheap(1));
    let held = 64 * MIB;
    let module = AgentSpec { held: Bytes(held), ..spec("m", 10_000) };
    let rich = world.spinner(module, 10 * J);
    let poor = world.spinner(module, J);
    world.run(10);
    let lease = world.market.agent(rich).unwrap().lease().unwrap();
    assert!(lease.erasable == Bytes(held) && lease.reserved > lease.tax.ceiling(held));
    assert_eq!(world.ran, [10, 0]);
    world.run(world.market.policy().grace.0 / 10_000 + 1);
    assert!(matches!(world.market.agent(poor).unwrap().life, Life::Dead { reason: Reason::Insolvent, .. }));
}

#[test]
fn fewer_slots_are_bought_before_less_is_covered() {
    let mut world = World::new(cheap(4));
    let tax = tax_rate(&world).ceiling(4 * MIB);
    let order = Order { limit: Price(1_600), slots: 4, hold: 0 };
    // Two slots and what may be erased, and half a slot.
    let wallet = QUANTUM.0 * 5 / 2 + tax.0;
    let agent = world.agent(AgentSpec { order, ..process("w", 0) }, wallet, run(0, 4 * MIB, |_| 0));
    world.tick();
    let lease = world.market.agent(agent).unwrap().lease().unwrap();
    assert_eq!((lease.slots, lease.erasable), (2, Bytes(4 * MIB)));
}

#[test]
fn what_goes_at_once_becomes_a_debt_and_is_paid_as_far_as_the_wallet_goes() {
    let held = 185 * MIB;
    for wallet in [J, 20 * J] {
        let mut world = World::new(cheap(1));
        let mut slots = 0;
        let agent = world.agent(
            process("p", held),
            wallet,
            Box::new(move |_| {
                slots += 1;
                let ends = slots == 10;
                let erased = if ends { held } else { 0 };
                let (held, stop) = if ends { (0, Stop::Done) } else { (held, Stop::SlotEnd) };
                let (erased, held) = (Bytes(erased), Bytes(held));
                Run { erased, held, erasable: Bytes(4 * MIB), stop, ..Run::full() }
            }),
        );
        world.run(11);
        let record = world.market.agent(agent).unwrap();
        assert!(matches!(record.life, Life::Dead { reason: Reason::Finished, .. }));
        let spent = record.tally.paid.0 + record.tally.rent.0 + record.tally.tax.0;
        assert_eq!(spent + world.market.balance(agent).0, wallet, "never more than it had");
        let due = tax_rate(&world).ceiling(held);
        if wallet == J {
            assert_eq!(world.market.balance(agent), Joule::ZERO, "all that it had went into the tax");
            assert!(record.arrears.tax > Joule::ZERO && record.arrears.tax < due);
        } else {
            assert_eq!(record.arrears.total(), Joule::ZERO, "who has the money pays all of it");
            assert!(record.tally.tax.0 > due.0 * 9 / 10, "{:?}", record.tally);
        }
    }
}

#[test]
fn ticks_that_were_lost_are_no_part_of_the_grace() {
    let mut world = World::new(cheap(1));
    let grace = world.market.policy().grace.0 / 10_000;
    let broke = world.agent(process("p", 0), QUANTUM.0 / 2, run(0, 4 * MIB, |_| 0));
    world.run(5);
    world.lost = 100 * grace;
    world.run(grace - 5);
    assert!(world.market.agent(broke).unwrap().is_alive(), "nobody could pay it meanwhile");
    world.run(1);
    assert!(matches!(world.market.agent(broke).unwrap().life, Life::Dead { reason: Reason::Insolvent, .. }));
}

#[test]
fn income_that_comes_after_the_slot_cures_who_is_broke() {
    let mut world = World::new(cheap(1));
    world.command(Command::Sponsor { verifier: Verifier::Prime { least: 2 }, reward: Joule(J), budget: Joule(9 * J) });
    let park = AgentSpec { on_insolvency: OnInsolvency::Park, ..process("parked", 0) };
    let agents = [process("broke", 0), park].map(|spec| world.agent(spec, QUANTUM.0 / 2, run(0, 4 * MIB, |_| 0)));
    let claim = |agent, unit| Claim { agent, sponsor: SponsorId(0), verdict: Ok(unit) };
    world.run(5);
    world.input.claims.push(claim(agents[0], 7));
    world.tick();
    assert_eq!(world.out.grants[0].agent, agents[0], "it runs at once, not when its alarm rings");
    world.run(100);
    assert!(matches!(world.market.agent(agents[1]).unwrap().life, Life::Parked { reason: Reason::Insolvent }));
    world.input.claims.push(claim(agents[1], 11));
    world.tick();
    assert!(!matches!(world.market.agent(agents[1]).unwrap().life, Life::Parked { .. }), "it earned its way back");
    world.command(Command::Park { agent: agents[0] });
    world.run(2);
    world.input.claims.push(claim(agents[0], 13));
    world.run(2);
    let life = world.market.agent(agents[0]).unwrap().life;
    assert_eq!(life, Life::Parked { reason: Reason::ParkedByOwner }, "its owner's wish stands");
}

/// An agent of the property below.
#[derive(Clone, Debug)]
struct Kind {
    held: u64,
    wallet: u64,
    /// What it wants to erase, and erases if it may, in thousandths.
    wishes: Vec<u64>,
    erases: u64,
    /// What its cell lets through before it looks.
    late: u64,
    park: bool,
    core: u64,
}

fn kind() -> impl Strategy<Value = Kind> {
    let wishes = proptest::collection::vec(prop_oneof![Just(4 * MIB), 0..64 * MIB], 1..8);
    let late = prop_oneof![3 => Just(0), 1 => 0..4 * MIB];
    (0..512 * MIB, 0..3 * J, wishes, 0..=1_000u64, late, any::<bool>(), 0..=12_000u64).prop_map(
        |(held, wallet, wishes, erases, late, park, core)| Kind { held, wallet, wishes, erases, late, park, core },
    )
}

fn behaviour(kind: Kind) -> world::Behaviour {
    let mut slots = 0;
    Box::new(move |grant| {
        slots += 1;
        let wish = kind.wishes[slots % kind.wishes.len()];
        let erased = grant.erasable.0 * kind.erases / 1_000;
        let erased = if kind.erases == 1_000 { erased + kind.late } else { erased };
        let (held, erasable) = (Bytes(kind.held), Bytes(wish));
        Run { core: Micros(kind.core), erased: Bytes(erased), held, erasable, ..Run::full() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whoever can pay for the core time of a slot is granted one, whatever it holds or would erase; whoever cannot is gone when
    /// the grace is over; and what is not paid is no more than what a cell let through in one turn.
    #[test]
    fn nobody_starves_and_unpaid_tax_is_bounded_by_a_turn(
        kinds in proptest::collection::vec(kind(), 1..8),
        par in prop_oneof![Just(1_550u64), 4_000..9_000u64],
    ) {
        let mut world = World::new(MarketPolicy { thermal: ThermalPolicy { par: Price(par), ..cheap(8).thermal }, ..cheap(8) });
        // Bids count as their level of the ladder. The shortest slot, and the time to freeze.
        let quantum = Level::at_least(Price(par)).unwrap().price().cost(Micros(4_000));
        let grace = world.market.policy().grace.0 / 10_000;
        for (n, kind) in kinds.iter().enumerate() {
            let on_insolvency = if kind.park { OnInsolvency::Park } else { OnInsolvency::Apoptosis };
            let spec = AgentSpec { on_insolvency, ..process(&n.to_string(), kind.held) };
            world.agent(spec, kind.wallet, behaviour(kind.clone()));
        }
        let mut idle = vec![0; kinds.len()];
        for _ in 0..400 {
            world.tick();
            let rate = highest_tax(&world);
            for ((id, agent), kind) in world.market.agents().zip(&kinds) {
                let idle = &mut idle[usize::try_from(id.0).unwrap()];
                let granted = world.out.grants.iter().any(|grant| grant.agent == id);
                *idle = if granted || !matches!(agent.life, Life::Ready) { 0 } else { *idle + 1 };
                if !granted && matches!(agent.life, Life::Ready) {
                    let needed = quantum.saturating_add(agent.arrears.total());
                    prop_assert!(world.market.balance(id) < needed, "{id} has {} and is not granted", world.market.balance(id));
                }
                prop_assert!(*idle <= grace + 1, "{id} neither runs nor ends for {idle} ticks");
                // Beyond the core time that a slot may take there is only what the cell let through.
                let late = if kind.erases == 1_000 { rate.ceiling(kind.late) } else { Joule::ZERO };
                prop_assert!(agent.arrears.tax <= late, "{id} owes {:?}, its cell let {late} through", agent.arrears);
                prop_assert_eq!(agent.arrears.energy, Joule::ZERO);
            }
        }
        prop_assert_eq!(world.market.money().error(), 0);
        for (id, agent) in world.market.agents() {
            let waits = matches!(agent.life, Life::Ready) && idle[usize::try_from(id.0).unwrap()] > grace;
            prop_assert!(!waits, "{} waits for ever", id);
        }
    }
}
