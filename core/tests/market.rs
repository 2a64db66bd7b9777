//! The market's behaviour, as its users would state it.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests work with small numbers, and a failure to unwrap is a failure of the test"
)]

mod world;

use maxwell_core::agent::{AgentSpec, CellKind, LeaseKind, Life, OnInsolvency, Order};
use maxwell_core::bounty::{ClaimFault, SponsorId, Verifier};
use maxwell_core::landauer::LandauerPolicy;
use maxwell_core::market::{CellAction, Claim, Command, Event, Refusal, Stop, TickError, TickInput};
use maxwell_core::pacing::Pacing;
use maxwell_core::reason::{Reason, Trap};
use maxwell_core::units::Tick;
use maxwell_core::{AgentId, Bytes, Joule, Micros, Price};
use world::{Run, World, policy, spec};

const J: u64 = 1_000_000_000;

#[test]
fn the_dearer_bid_runs_and_pays_the_cheaper_one() {
    let mut world = World::new(policy(1));
    let rich = world.spinner(spec("rich", 9_000), 100 * J);
    let poor = world.spinner(spec("poor", 6_000), 100 * J);
    world.run(101);
    assert_eq!(world.ran, [101, 0]);
    // 6 W for 100 slots of 10 ms, rounded down to the ladder.
    let paid = world.market.agent(rich).unwrap().tally.paid.0;
    assert!((5_990_000_000..=6_000_000_000).contains(&paid), "{paid}");
    assert_eq!(world.out.price_setter, Some(poor));
    assert!(matches!(world.market.reason(poor), Some(Reason::Outbid { .. })));
}

#[test]
fn a_loser_pays_nothing() {
    let mut world = World::new(policy(1));
    world.spinner(spec("rich", 9_000), 100 * J);
    let poor = world.spinner(spec("poor", 6_000), 100 * J);
    world.run(500);
    // Its standby lease is reserved and refunded in full.
    assert_eq!(world.market.agent(poor).unwrap().tally.paid, Joule(0));
    let in_wallet = world.market.balance(poor).0;
    let in_escrow = world.market.agent(poor).unwrap().lease().map_or(0, |lease| lease.reserved.0);
    assert_eq!(in_wallet + in_escrow, 100 * J);
}

#[test]
fn without_a_rival_the_price_is_the_reserve() {
    let mut world = World::new(policy(2));
    let only = world.spinner(spec("only", 50_000), 100 * J);
    world.run(101);
    assert_eq!(world.out.spot, Price(4_000));
    assert_eq!(world.market.agent(only).unwrap().tally.paid, Joule(4 * J));
}

#[test]
fn equal_bids_take_turns_by_principal_and_a_sybil_split_gains_nothing() {
    let mut world = World::new(policy(1));
    let honest = world.spinner(spec("honest", 6_000), 100 * J);
    for _ in 0..1_000 {
        world.spinner(spec("sybil", 6_000), J / 10);
    }
    world.run(2_000);
    let sybils: u64 = world.ran[1..].iter().sum();
    assert!(world.ran[0] >= 1_000, "the honest agent ran {} of 2,000 slots, the sybils {sybils}", world.ran[0]);
    assert!(world.market.agent(honest).unwrap().tally.slots >= 999);
}

#[test]
fn a_wallet_split_into_a_thousand_agents_buys_no_more_core_time() {
    let core_time = |agents: u64| {
        let mut world = World::new(policy(1));
        world.spinner(spec("rival", 7_000), 40 * J);
        for _ in 0..agents {
            world.spinner(spec("splitter", 7_000), 20 * J / agents);
        }
        world.run(3_000);
        world.market.agents().skip(1).map(|(_, a)| a.tally.core.0).sum::<u64>()
    };
    let (whole, split) = (core_time(1), core_time(1_000));
    assert!(split <= whole, "split into 1,000 it got {split} µs, whole {whole} µs");
    assert!(whole > 0);
}

#[test]
fn nobody_holds_a_slot_they_could_not_pay_for() {
    let mut world = World::new(policy(1));
    // The shortest slot at par costs 8 mJ; this wallet holds 7.
    let broke = world.spinner(spec("broke", u64::MAX), 7_000_000);
    let other = world.spinner(spec("other", 5_000), 10 * J);
    world.run(50);
    assert_eq!(world.ran, [0, 50]);
    assert!(matches!(world.market.reason(broke), Some(Reason::Illiquid { .. })));
    // Its bid of u64::MAX set no price.
    assert_eq!(world.out.spot, Price(4_000));
    assert_eq!(world.market.agent(other).unwrap().tally.paid, Joule(49 * 40_000_000));
}

#[test]
fn who_cannot_cover_a_whole_slot_gets_as_much_of_it_as_its_wallet_covers() {
    let mut world = World::new(policy(1));
    // 10 ms at par cost 40 mJ.
    let poor = world.spinner(spec("poor", 5_000), 26_000_000);
    world.tick();
    let (lease, grant) = (world.market.agent(poor).unwrap().lease().unwrap(), world.out.grants[0]);
    assert_eq!((grant.length, grant.worst_case), (Micros(6_500), Micros(6_500)));
    assert_eq!((lease.reserved, world.market.balance(poor)), (Joule(26_000_000), Joule::ZERO));
    world.tick();
    assert_eq!(world.market.agent(poor).unwrap().tally.core, Micros(6_500));
    assert!(world.out.grants.is_empty());
    // Beside a dearer one it gets nothing: a shorter slot is no cheaper.
    let mut world = World::new(policy(1));
    let poor = world.spinner(spec("poor", 5_000), 26_000_000);
    world.spinner(spec("other", 6_000), 10 * J);
    world.run(10);
    assert_eq!(world.ran, [0, 10]);
    assert!(matches!(world.market.reason(poor), Some(Reason::Outbid { .. })));
}

#[test]
fn a_shorter_slot_of_a_process_covers_its_freezing_too() {
    let mut world = World::new(policy(1));
    let spec = AgentSpec { cell: CellKind::Process, ..spec("p", 5_000) };
    world.spinner(spec, 26_000_000);
    world.spinner(AgentSpec { principal: maxwell_core::PrincipalId::named("q"), ..spec }, 15_000_000);
    world.tick();
    let grants: Vec<_> = world.out.grants.iter().map(|grant| (grant.length, grant.worst_case)).collect();
    // Fifteen would not cover the shortest, 2 ms and 2 ms to freeze.
    assert_eq!(grants, [(Micros(4_500), Micros(6_500))]);
}

#[test]
fn bids_beyond_every_wallet_set_no_price_beyond_wallets() {
    let mut world = World::new(policy(1));
    world.spinner(spec("a", u64::MAX), J);
    world.spinner(spec("b", u64::MAX), J);
    world.run(10);
    // One joule covers a slot at no more than 100 W.
    assert!(world.out.spot <= Price(100_000), "{}", world.out.spot);
}

#[test]
fn insolvency_needs_the_whole_grace_and_is_cured_by_money() {
    let mut world = World::new(policy(1));
    let agent = world.spinner(spec("a", 5_000), 10_000_000);
    let saved = world.spinner(spec("b", 5_000), 10_000_000);
    world.run(49);
    assert!(world.market.agent(agent).unwrap().is_alive());
    world.command(Command::Fund { agent: saved, amount: Joule(J) });
    world.run(3);
    assert!(matches!(world.market.agent(agent).unwrap().life, Life::Dead { reason: Reason::Insolvent, .. }));
    assert!(world.market.agent(saved).unwrap().is_alive());
}

#[test]
fn rent_kills_who_cannot_pay_it() {
    let mut world = World::new(policy(1));
    // 1 GB for 0.392 W: one joule lasts two and a half seconds. The bid of zero never runs.
    let cell = maxwell_core::agent::CellKind::Process;
    let hoarder = maxwell_core::agent::AgentSpec { cell, held: Bytes(1_000_000_000), ..spec("h", 0) };
    let hoarder = world.spinner(hoarder, J);
    world.run(300);
    let Life::Dead { reason, at } = world.market.agent(hoarder).unwrap().life else { panic!("still alive") };
    assert!(matches!(reason, Reason::RentUnpaid), "{reason:?}");
    assert!((250..=260).contains(&at.0), "died at {at:?}");
    assert!(world.market.agent(hoarder).unwrap().tally.rent.0 >= J * 999 / 1000);
}

#[test]
fn last_words_are_paid_for_at_birth_and_spoken_before_anybody_buys() {
    let mut world = World::new(policy(1));
    let dying = maxwell_core::agent::AgentSpec { last_words: maxwell_core::Micros(10_000), ..spec("d", 5_000) };
    let dying = world.spinner(dying, 79_000_000);
    world.spinner(spec("rich", 50_000), 1_000 * J);
    world.run(600);
    let condemned = world.happened(|e| matches!(e, Event::Condemned { agent, .. } if *agent == dying)).unwrap();
    let died = world.happened(|e| matches!(e, Event::Died { agent, .. } if *agent == dying)).unwrap();
    assert_eq!(died, condemned + 1, "one tick of last words");
    // 10 ms at par: 40 mJ, from the deposit, all burned; nothing is left in it.
    assert_eq!(world.market.agent(dying).unwrap().tally.paid, Joule(40_000_000));
    assert_eq!(world.market.balance(dying), Joule(39_000_000), "what was left of wallet and deposit");
}

#[test]
fn who_cannot_put_last_words_aside_is_not_born() {
    let mut world = World::new(policy(1));
    world.spinner(
        maxwell_core::agent::AgentSpec { last_words: maxwell_core::Micros(10_000), ..spec("d", 5_000) },
        39_000_000,
    );
    world.run(1);
    assert!(world.happened(|e| matches!(e, Event::Refused { why: Refusal::NoDeposit, .. })).is_some());
    assert_eq!(world.market.reason(AgentId(0)), Some(Reason::NoDeposit));
}

#[test]
fn an_agent_may_be_parked_instead_and_revived_by_money() {
    let mut world = World::new(policy(1));
    let park = maxwell_core::agent::AgentSpec {
        on_insolvency: OnInsolvency::Park,
        held: Bytes(100_000_000),
        ..spec("p", 5_000)
    };
    let agent = world.spinner(park, 30 * J);
    world.run(1_500);
    assert!(matches!(
        world.market.agent(agent).unwrap().life,
        Life::Parked { reason: Reason::RentUnpaid | Reason::Insolvent }
    ));
    let parked_at = world.happened(|e| matches!(e, Event::Parked { .. })).unwrap();
    let before = world.ran[0];
    world.run(100);
    assert_eq!(world.ran[0], before, "parked agents do not run");
    world.command(Command::Fund { agent, amount: Joule(20 * J) });
    world.run(50);
    assert!(world.ran[0] > before, "revived agents do");
    assert!(world.market.agent(agent).unwrap().is_alive());
    // The rent of the time it was parked was paid before anything else: 0.1 GB at 0.392 W/GB.
    let rent = world.market.agent(agent).unwrap().tally.rent.0;
    let expected = (parked_at + 150) * 10 * 39_200;
    assert!(rent >= expected, "rent {rent}, expected {expected}");
}

#[test]
fn a_dead_insolvent_agent_is_revived_by_money_but_a_trapped_one_is_not() {
    let mut world = World::new(policy(1));
    let insolvent = world.spinner(spec("i", 5_000), 10_000_000);
    let trapped =
        world.agent(spec("t", 6_000), J, Box::new(|_| Run { stop: Stop::Trapped(Trap::Unreachable), ..Run::full() }));
    world.run(510);
    assert!(matches!(
        world.market.agent(trapped).unwrap().life,
        Life::Dead { reason: Reason::Trapped(Trap::Unreachable), .. }
    ));
    for agent in [insolvent, trapped] {
        world.command(Command::Fund { agent, amount: Joule(J) });
    }
    world.tick();
    assert!(world.out.actions.contains(&CellAction::Respawn(insolvent)));
    assert!(world.out.events.contains(&Event::Refused { agent: Some(trapped), why: Refusal::Dead }));
    world.run(5);
    assert!(world.market.agent(insolvent).unwrap().tally.slots > 0);
    assert_eq!(world.market.money().minted, u128::from(10_000_000 + J + J));
}

#[test]
fn a_slot_that_ends_early_is_resold_at_the_reserve() {
    let mut world = World::new(policy(1));
    world.agent(spec("brief", 9_000), J, Box::new(|_| Run { core: Micros(3_000), stop: Stop::Idle, ..Run::full() }));
    let next = world.spinner(spec("next", 6_000), J);
    world.run(11);
    let tally = world.market.agent(next).unwrap().tally;
    assert_eq!(tally.core, Micros(10 * 7_000));
    assert_eq!(tally.paid, Joule(10 * 7_000 * 4_000), "at the reserve of 4 W");
}

#[test]
fn core_time_beyond_the_reservation_becomes_arrears_and_is_never_free() {
    let mut world = World::new(policy(1));
    let mut first = true;
    let agent = world.agent(
        spec("long", 5_000),
        J,
        Box::new(move |_| Run {
            core: Micros(if std::mem::take(&mut first) { 25_000 } else { 10_000 }),
            ..Run::full()
        }),
    );
    world.run(2);
    assert!(world.events.iter().any(|(_, e)| *e == Event::Overran { agent, arrears: Joule(15_000 * 4_000) }));
    world.run(1);
    // 25 ms and 10 ms, at 4 W.
    assert_eq!(world.market.agent(agent).unwrap().tally.paid, Joule(35_000 * 4_000));
    assert_eq!(world.market.agent(agent).unwrap().arrears.total(), Joule(0));
}

#[test]
fn erased_bytes_are_taxed_and_held_bytes_rented() {
    let mut world = World::new(policy(1));
    let held = Bytes(1 << 20);
    let churner = world.agent(
        maxwell_core::agent::AgentSpec { held, ..spec("churn", 5_000) },
        100 * J,
        Box::new(move |_| Run { erased: held, held, ..Run::full() }),
    );
    world.run(101);
    let tally = world.market.agent(churner).unwrap().tally;
    // 23.97 nJ a byte at 40 °C.
    let per_byte = tally.tax.0 as f64 / tally.erased.0 as f64;
    assert!((23.5..24.5).contains(&per_byte), "{per_byte}");
    assert_eq!(tally.erased, Bytes(100 << 20));
    let rent = 0.392e-9 * (1 << 20) as f64 * 1.0 * 1e9;
    assert!((tally.rent.0 as f64 - rent).abs() < 0.02 * rent, "{} vs {rent}", tally.rent.0);
}

#[test]
fn a_standing_order_pays_a_small_fee_even_while_it_loses() {
    let mut world = World::new(maxwell_core::market::MarketPolicy { resting_fee_ppm: 1_000, ..policy(1) });
    world.spinner(spec("rich", 90_000), 1_000 * J);
    let parked_under = world.spinner(spec("rival", 80_000), 1_000 * J);
    world.run(1_001);
    // A thousandth of 80 W for ten seconds, charged when next touched.
    world.command(Command::Order { agent: parked_under, order: Order { limit: Price(0), slots: 1, hold: 0 } });
    world.tick();
    let rent = world.market.agent(parked_under).unwrap().tally.rent.0;
    assert!((790_000_000..=802_000_000).contains(&rent), "{rent}");
}

#[test]
fn verified_work_is_paid_once_and_only_from_the_budget() {
    let mut world = World::new(policy(2));
    world.command(Command::Sponsor {
        verifier: Verifier::Prime { least: 2 },
        reward: Joule(1_000),
        budget: Joule(2_500),
    });
    let claim = |agent, verdict| Claim { agent, sponsor: SponsorId(0), verdict };
    let (finder, thief) = (AgentId(0), AgentId(1));
    let mut turn = 0;
    world.agent(
        spec("finder", 5_000),
        J,
        Box::new(move |_| {
            turn += 1;
            let claims = match turn {
                1 => vec![claim(finder, Ok(101)), claim(finder, Ok(101)), claim(finder, Err(ClaimFault::Wrong))],
                2 => vec![claim(finder, Ok(103)), claim(finder, Ok(107))],
                _ => vec![],
            };
            Run { claims, ..Run::full() }
        }),
    );
    world.agent(spec("thief", 5_000), J, Box::new(move |_| Run { claims: vec![claim(thief, Ok(101))], ..Run::full() }));
    world.run(6);
    let faults: Vec<ClaimFault> = world
        .events
        .iter()
        .filter_map(|(_, e)| match e {
            Event::ClaimRejected { agent, fault, .. } if *agent == finder => Some(*fault),
            _ => None,
        })
        .collect();
    assert_eq!(faults, [ClaimFault::Duplicate, ClaimFault::Wrong, ClaimFault::Unfunded]);
    let finder = world.market.agent(finder).unwrap().tally;
    assert_eq!((finder.earned, finder.work_verified), (Joule(2_000), 2));
    let thief = world.market.agent(thief).unwrap().tally;
    assert_eq!((thief.earned, thief.work_verified), (Joule(0), 0));
    assert_eq!(world.market.sponsor_balance(SponsorId(0)), Joule(500), "less than one reward stays");
}

#[test]
fn an_incumbent_keeps_its_slot_for_its_hold_against_equals() {
    let mut world = World::new(policy(1));
    for principal in ["a", "b"] {
        world.spinner(
            maxwell_core::agent::AgentSpec {
                order: Order { limit: Price(5_000), slots: 1, hold: 10 },
                ..spec(principal, 0)
            },
            100 * J,
        );
    }
    world.run(100);
    let changes = world.events.iter().filter(|(_, e)| matches!(e, Event::Thawed { .. })).count();
    assert!((10..=11).contains(&changes), "{changes} changes in 100 ticks with a hold of 10");
    assert_eq!(world.ran[0], 50);
}

#[test]
fn no_slot_is_kept_for_an_incumbent_that_rests() {
    let mut world = World::new(policy(1));
    let held = |principal: &str| maxwell_core::agent::AgentSpec {
        order: Order { limit: Price(5_000), slots: 1, hold: 10 },
        ..spec(principal, 0)
    };
    world.agent(held("rests"), 100 * J, Box::new(|_| Run { core: Micros(100), stop: Stop::Idle, ..Run::full() }));
    world.spinner(held("works"), 100 * J);
    world.run(110);
    // A turn or two to see whether it woke, then ten for who works.
    assert!(world.ran[1] >= 90 && world.ran[0] >= 5, "{:?}", world.ran);
}

#[test]
fn a_paced_wallet_lasts_its_lifetime() {
    let mut world = World::new(policy(1));
    let lifetime = Tick(6_000);
    let paced = maxwell_core::agent::AgentSpec { pacing: Pacing::until(lifetime), ..spec("paced", 20_000) };
    let paced = world.spinner(paced, 60 * J);
    world.spinner(spec("steady", 8_000), 10_000 * J);
    world.run(5_000);
    let left = world.market.balance(paced).0 + world.market.agent(paced).unwrap().lease().map_or(0, |l| l.reserved.0);
    assert!((6 * J..=16 * J).contains(&left), "a sixth of 60 J should be left, it is {}", Joule(left));
    assert!(world.ran[0] > 100 && world.ran[1] > 100, "{:?}", world.ran);
}

#[test]
fn heat_raises_the_price_until_someone_stops() {
    let mut hot = policy(2);
    hot.thermal.model.fast.resistance = 3.0;
    hot.thermal.model.slow.resistance = 4.0;
    hot.thermal.model.slow.tau = 5.0;
    let mut world = World::new(hot);
    world.heat = true;
    let thrifty = world.spinner(spec("thrifty", 6_000), 10_000 * J);
    let keen = world.spinner(spec("keen", 1_000_000), 10_000 * J);
    world.run(3_000);
    let set = world.market.policy().thermal.set.0;
    assert!((world.plant.temperature().0 - set).abs() < 1.5, "{}", world.plant.temperature());
    assert!(world.out.control.reserve > Price(5_000));
    assert!(world.market.agent(thrifty).unwrap().tally.core < world.market.agent(keen).unwrap().tally.core);
    assert!(world.happened(|e| matches!(e, Event::Frozen { reason: Reason::PricedOut { .. }, .. })).is_some());
}

#[test]
fn a_silent_sensor_freezes_everything_until_it_speaks() {
    let mut world = World::new(policy(2));
    world.spinner(spec("a", 9_000), 100 * J);
    world.run(10);
    assert_eq!(world.out.sold, 1);
    world.blind = true;
    world.run(98);
    assert_eq!((world.happened(|e| *e == Event::Tripped), world.out.sold), (None, 1), "a second of caution");
    world.run(4);
    assert!(world.happened(|e| *e == Event::Tripped).is_some() && world.out.grants.is_empty());
    world.blind = false;
    world.run(2);
    assert_eq!(world.out.sold, 1);
}

#[test]
fn owners_may_park_and_kill_at_any_time_but_a_paid_slot_is_finished() {
    let mut world = World::new(policy(2));
    let parked = world.spinner(spec("p", 9_000), 100 * J);
    let killed = world.spinner(spec("k", 9_000), 100 * J);
    world.run(10);
    world.command(Command::Park { agent: parked });
    world.command(Command::Kill { agent: killed });
    world.run(2);
    assert_eq!(world.market.reason(parked), Some(Reason::ParkedByOwner));
    assert_eq!(world.market.reason(killed), Some(Reason::Killed));
    assert_eq!(world.ran, [10, 10], "commands are heard after settling and before the sale");
    assert_eq!(world.market.agent(killed).unwrap().tally.slots, 10, "every slot that was sold was finished");
}

#[test]
fn a_busy_slot_is_not_sold_again() {
    let mut world = World::new(policy(2));
    world.spinner(spec("a", 9_000), 100 * J);
    world.spinner(spec("b", 8_000), 100 * J);
    world.input.busy.push(maxwell_core::agent::SlotId(0));
    world.tick();
    let slots: Vec<LeaseKind> = world.out.grants.iter().map(|g| g.kind).collect();
    assert_eq!(slots[0], LeaseKind::Slot(maxwell_core::agent::SlotId(1)));
    assert_eq!(world.out.sold, 1);
}

#[test]
fn a_bid_of_zero_withdraws_the_order_and_the_largest_bid_is_an_order_like_any_other() {
    let mut world = World::new(policy(1));
    let mut turn = 0;
    let moody = world.agent(
        spec("moody", 5_000),
        10 * J,
        Box::new(move |_| {
            turn += 1;
            let bid = match turn {
                3 => Some(Price::MAX),
                6 => Some(Price(0)),
                _ => None,
            };
            Run { bid, ..Run::full() }
        }),
    );
    world.run(30);
    assert_eq!(world.ran, [6], "it ran until it withdrew");
    assert_eq!(world.market.reason(moody), Some(Reason::NoOrder));
    assert_eq!(world.market.agent(moody).unwrap().tally.paid, Joule(6 * 40_000_000), "without rivals, at the reserve");
    world.command(Command::Order { agent: moody, order: Order { limit: Price(5_000), slots: 1, hold: 0 } });
    world.run(5);
    assert!(world.ran[0] > 6, "its owner may order again");
}

#[test]
fn time_only_moves_forward() {
    let mut world = World::new(policy(1));
    world.run(3);
    let stale = TickInput { tick: Tick(3), ..TickInput::default() };
    assert_eq!(world.market.tick(&stale, &mut world.out), Err(TickError::NotAfter { given: Tick(3), last: Tick(3) }));
}

#[test]
fn the_highest_rent_on_the_largest_memory_is_a_debt_not_an_overflow() {
    let mut world = World::new(maxwell_core::market::MarketPolicy {
        landauer: LandauerPolicy { inefficiency: 1e18, rent_watts_per_gb: 1e9 },
        resting_fee_ppm: u32::MAX,
        ..policy(1)
    });
    let spec = maxwell_core::agent::AgentSpec { held: Bytes(u64::MAX), ..spec("vast", u64::MAX) };
    let agent = world.spinner(spec, u64::MAX);
    world.run(700);
    assert!(!world.market.agent(agent).unwrap().is_alive());
}

#[test]
fn no_tax_without_inefficiency() {
    let mut world = World::new(maxwell_core::market::MarketPolicy {
        landauer: LandauerPolicy { inefficiency: 0.0, rent_watts_per_gb: 0.0 },
        ..policy(1)
    });
    let agent = world.agent(
        maxwell_core::agent::AgentSpec { held: Bytes(1 << 30), ..spec("a", 5_000) },
        100 * J,
        Box::new(|_| Run { erased: Bytes(1 << 30), held: Bytes(1 << 30), ..Run::full() }),
    );
    world.run(10);
    let tally = world.market.agent(agent).unwrap().tally;
    assert_eq!((tally.tax, tally.rent), (Joule(0), Joule(0)));
}

/// An agent that wants several slots.
fn wide(principal: &str, limit: u64, slots: u16) -> maxwell_core::agent::AgentSpec {
    maxwell_core::agent::AgentSpec { order: Order { limit: Price(limit), slots, hold: 0 }, ..spec(principal, 0) }
}

#[test]
fn an_agent_buys_as_many_slots_as_it_wants_and_pays_for_each() {
    let mut world = World::new(policy(4));
    let wide = world.spinner(wide("w", 6_000, 3), 5_000_000_000);
    let narrow = world.spinner(spec("n", 5_000), 1_000_000_000);
    world.run(10);
    let slots = world.out.grants.iter().filter(|grant| grant.agent == wide).count();
    assert_eq!((slots, world.out.sold), (3, 4));
    let lease = world.market.agent(wide).unwrap().lease().unwrap();
    assert_eq!((lease.slots, lease.price), (3, Price(4_000)), "nobody else bids for the fourth slot, so the reserve");
    assert_eq!(lease.reserved, Joule(3 * 40_000_000), "three slots' worst case");
    world.run(1);
    let tally = world.market.agent(wide).unwrap().tally;
    assert_eq!(tally.slots, 30);
    assert_eq!(tally.core, Micros(300_000));
    assert_eq!(tally.paid, Joule(1_200_000_000));
    assert_eq!(world.market.agent(narrow).unwrap().tally.slots, 10);
}

#[test]
fn its_own_unserved_wishes_do_not_raise_its_price() {
    let mut world = World::new(policy(2));
    let wide = world.spinner(wide("w", 9_000, 2), 10_000_000_000);
    world.run(5);
    // More than the machine has is not asked for.
    world.command(Command::Order { agent: wide, order: Order { limit: Price(9_000), slots: 900, hold: 0 } });
    world.run(5);
    assert_eq!(world.out.sold, 2);
    assert_eq!(world.out.spot, Price(4_000));
    assert_eq!(world.market.agent(wide).unwrap().lease().unwrap().price, Price(4_000));
}

#[test]
fn a_shrinking_wallet_buys_fewer_slots_before_it_bids_less() {
    let mut world = World::new(policy(4));
    // Three slots at 6 W are worth 180 mJ; it has 150 mJ.
    let wide = world.spinner(wide("w", 6_000, 3), 150_000_000);
    world.tick();
    let agent = world.market.agent(wide).unwrap();
    assert_eq!(agent.lease().unwrap().slots, 2);
    assert_eq!(agent.standing, Price(6_000));
    world.run(400);
    // Two slots, one, and at last three quarters of one.
    assert_eq!(world.market.balance(wide), Joule::ZERO);
    assert_eq!(world.market.agent(wide).unwrap().tally.core, Micros(37_500));
    assert_eq!(world.market.agent(wide).unwrap().arrears.total(), Joule::ZERO);
}

#[test]
fn demand_follows_what_the_cell_sees_and_the_order_bounds_it() {
    let mut world = World::new(policy(4));
    let wide = world.spinner(wide("w", 6_000, 4), 10_000_000_000);
    world.tick();
    for (demand, slots) in [(1, 1), (3, 3), (9, 4), (0, 1)] {
        world.input.usages[0].demand = Some(demand);
        world.tick();
        assert_eq!(world.market.agent(wide).unwrap().lease().unwrap().slots, slots, "wants {demand}");
    }
}

#[test]
fn a_process_is_covered_until_it_is_frozen() {
    let mut world = World::new(policy(1));
    let process = maxwell_core::agent::AgentSpec {
        cell: maxwell_core::agent::CellKind::Process,
        held: Bytes(1 << 30),
        ..spec("p", 5_000)
    };
    let process = world.spinner(process, 100_000_000_000);
    world.tick();
    let reserved = world.market.agent(process).unwrap().lease().unwrap().reserved;
    // 12 ms at 4 W; no pass over its memory.
    assert_eq!(reserved, Joule(48_000_000));
    assert_eq!(world.out.grants[0].worst_case, Micros(12_000));
}
