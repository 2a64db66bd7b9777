//! Maxwell: the market itself, told about modelled agents as the daemon tells it about real ones.

use maxwell_core::agent::{Agent, AgentSpec, CellKind, LeaseKind, Life, OnInsolvency, Order};
use maxwell_core::bounty::{SponsorId, Verifier};
use maxwell_core::market::{Claim, Command, Market, MarketPolicy, Outcome, Stop, TickInput, Usage};
use maxwell_core::pacing::Pacing;
use maxwell_core::sensor::{Activity, Counter, Reading};
use maxwell_core::thermal::ThermalPolicy;
use maxwell_core::units::{AgentId, Bytes, Joule, Micros, Price, PrincipalId, Tick, Watts};

use super::body::{Bid, Body, UNIT_US};
use super::{Scheduler, TICK_US, Told, machine};
use crate::experiment::plan::Plan;

/// The market and what it is going to be told.
#[derive(Debug)]
pub(super) struct Auction {
    market: Market,
    input: TickInput,
    out: Outcome,
    /// The shortest slot with the time to freeze: who cannot pay for that has lost its funds.
    slot: Micros,
    slots: u16,
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates; a checked plan is far below"
)]
fn nanojoules(joules: f64) -> Joule {
    Joule((joules * 1e9) as u64)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates; a checked plan is far below"
)]
fn price(watts: f64) -> Price {
    Price((watts * 1e3).round() as u64)
}

impl Auction {
    pub(super) fn new(plan: &Plan, bodies: &[Body], counters: &[Counter]) -> Self {
        let machine = plan.machine;
        let par = price(machine.core.0);
        let thermal = ThermalPolicy {
            slots: machine.slots,
            idle: machine.idle,
            par,
            model: machine::plant(&machine),
            ..ThermalPolicy::default()
        };
        let policy = MarketPolicy { thermal, ..MarketPolicy::default() };
        let economy = plan.economy;
        let reward = nanojoules(economy.value * machine.core.0 * UNIT_US * 1e-6);
        // More than all cores can earn.
        let budget = Joule(
            reward.0.saturating_mul(u64::from(machine.slots).saturating_mul(super::ticks(plan)).saturating_mul(2)),
        );
        let mut input = TickInput { counters: Some(counters.to_vec()), ..TickInput::default() };
        input.commands.push(Command::Sponsor { verifier: Verifier::Prime { least: 2 }, reward, budget });
        for (n, body) in bodies.iter().enumerate() {
            let scientist = economy.value * economy.bid * machine.core.0;
            let limit = match body.bid {
                Bid::Times(times) => price(scientist * times),
                Bid::Cheap => price(machine.core.0 * 1.05),
            };
            let spec = AgentSpec {
                principal: PrincipalId::named(&format!("owner {n}")),
                order: Order { limit, slots: body.width, hold: 5 },
                pacing: Pacing::Fixed,
                on_insolvency: OnInsolvency::Apoptosis,
                cell: CellKind::Process,
                last_words: Micros::ZERO,
                held: Bytes(body.held),
                erasable: Bytes(body.erased(u64::from(body.width) * TICK_US)),
                power_class: 1_000,
            };
            input.commands.push(Command::Spawn { spec, wallet: nanojoules(body.wallet * machine.core.0 + body.cover) });
        }
        let slot = policy.least_slot.saturating_add(policy.freeze);
        Self { market: Market::new(policy), input, out: Outcome::default(), slot, slots: machine.slots }
    }

    /// Runs the bodies that won: slots from the start of the tick, what they leave to those who stand by.
    fn run(&mut self, tick: u64, bodies: &mut [Body]) {
        self.input.reset(Tick(tick + 1));
        let mut spare = 0;
        let mut weighted = 0.0;
        for grant in &self.out.grants {
            let at = usize::try_from(grant.agent.0).expect("bodies are in memory");
            let body = &mut bodies[at];
            let left = if grant.kind == LeaseKind::Standby { spare } else { TICK_US };
            let offered = left.min(grant.length.0);
            // Its cell stops it when it has erased what its lease covers.
            let covered = body.time_to_erase(grant.erasable.0).saturating_sub(body.used_us);
            let used = body.run(tick, offered.min(covered));
            match grant.kind {
                LeaseKind::Standby => spare -= used,
                LeaseKind::Slot(_) | LeaseKind::LastWords(_) => spare += TICK_US - used,
            }
            weighted += used as f64 * body.class;
            // Several slots are one lease.
            if let Some(usage) = self.input.usages.iter_mut().rfind(|usage| usage.agent == grant.agent) {
                usage.core = usage.core.saturating_add(Micros(used));
                continue;
            }
            let stop = match (grant.kind, used) {
                (LeaseKind::Standby, 0) => Stop::NotRun,
                _ if body.wanted == 0 => Stop::Idle,
                _ => Stop::SlotEnd,
            };
            self.input.usages.push(Usage {
                agent: grant.agent,
                core: Micros(used),
                fuel: 0,
                erased: Bytes(0),
                held: Bytes(0),
                erasable: Bytes(0),
                bid: None,
                demand: None,
                stop,
            });
        }
        self.tell(bodies, weighted);
    }

    /// Completes the report of a tick: memory, claims, activity.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "core time of a tick")]
    fn tell(&mut self, bodies: &[Body], weighted: f64) {
        let mut used = 0;
        for usage in &mut self.input.usages {
            let body = &bodies[usize::try_from(usage.agent.0).expect("bodies are in memory")];
            used += usage.core.0;
            usage.held = Bytes(body.held);
            usage.erased = Bytes(body.erased(usage.core.0));
            usage.erasable = Bytes(body.erased(u64::from(body.width) * TICK_US));
            for n in 0..u64::from(body.new_units) {
                // Every unit is one of its own: agent above, number below.
                let unit = (usage.agent.0 << 40) | (body.units - n);
                self.input.claims.push(Claim { agent: usage.agent, sponsor: SponsorId(0), verdict: Ok(unit) });
            }
        }
        self.input.activity = Activity {
            elapsed_us: TICK_US,
            agents_us: used,
            agents_weighted_us: weighted as u64,
            ..Activity::default()
        };
        debug_assert!(used <= u64::from(self.slots) * TICK_US, "{used} us on {} cores", self.slots);
    }
}

impl Scheduler for Auction {
    fn tick(&mut self, tick: u64, bodies: &mut [Body], reading: &Reading) -> Told {
        self.input.tick = Tick(tick);
        self.input.reading.clone_from(reading);
        self.market.tick(&self.input, &mut self.out).expect("ticks follow each other");
        for action in &self.out.actions {
            if let maxwell_core::market::CellAction::End(agent) = action {
                bodies[usize::try_from(agent.0).expect("bodies are in memory")].alive = false;
            }
        }
        self.run(tick, bodies);
        let cost = self.out.spot.cost(self.slot);
        let solvent = |(at, body): (usize, &Body)| {
            let id = AgentId(at as u64);
            let pays = |agent: &Agent| match agent.life {
                // Who runs has paid for it, also for what others left of their slots.
                Life::Running(_) if body.used_us > 0 => true,
                // A bid that loses sets the spot price: whoever's it is could always pay that, and gets nothing for it.
                _ if self.out.price_setter == Some(id) => false,
                _ => {
                    let held = agent.lease().map_or(Joule::ZERO, |lease| lease.reserved);
                    self.market.balance(id).saturating_add(held) >= cost.saturating_add(agent.arrears.total())
                }
            };
            !body.honest() && body.alive && self.market.agent(id).is_some_and(pays)
        };
        Told {
            price: Some(Watts::from(self.out.spot).0),
            solvent_leeches: Some(bodies.iter().enumerate().any(solvent)),
            wait_ms: None,
        }
    }

    fn errors(&self) -> (i64, i64) {
        let signed = |v: u128| i128::try_from(v).expect("energy is far below 2^127 nJ");
        let split = self.market.attribution();
        let energy = signed(self.market.energy_total()) - signed(split.attributed + split.daemon + split.idle);
        let saturated = |error: i128| i64::try_from(error).unwrap_or(i64::MAX);
        (saturated(self.market.money().error()), saturated(energy))
    }
}
