//! The machine-readable result of a run. Its names are a contract: fields are added, never renamed.

use maxwell_core::agent::Life;
use maxwell_core::market::Market;
use maxwell_core::sensor::{Counter, Quality, Source};
use maxwell_core::thermal::FosterNode;
use serde::Serialize;

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// How long it ran.
    pub seconds: f64,
    /// Ticks carried out.
    pub ticks: u64,
    /// Ticks that began more than a millisecond late, and ticks that were lost.
    pub late_ticks: u64,
    /// How late ticks began.
    pub tick_lateness_us: Lateness,
    /// Where temperature and energy come from.
    pub sensor: SensorReport,
    /// Prices in milliwatts.
    pub price_mw: PriceReport,
    /// Temperatures in degrees Celsius.
    pub temp_c: TemperatureReport,
    /// How the machine warms.
    pub plant: PlantReport,
    /// Every agent.
    pub agents: Vec<AgentReport>,
    /// All money, in nanojoules.
    pub money: MoneyReport,
    /// All energy, in nanojoules.
    pub energy: EnergyReport,
    /// How process agents were held and metered, if there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<ProcessesNote>,
    /// BLAKE3 over the whole state and the chain of decisions that led to it.
    pub state_hash: String,
}

/// How process agents were held and metered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessesNote {
    /// What held them together.
    pub held_by: String,
    /// How erased bytes were counted.
    pub erased_by: String,
}

/// Microseconds by which ticks began late.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Lateness {
    /// Half of the ticks were less late.
    pub p50: u64,
    /// All but one in a hundred were less late.
    pub p99: u64,
    /// The worst.
    pub max: u64,
}

/// Where readings come from and how far to trust them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SensorReport {
    /// Where energy is read: `perf`, `powercap`, `msr`, `hwmon`, `file` or `model`.
    pub source: &'static str,
    /// `measured`, `filtered` or `modelled`: the least of all counters of the processor.
    pub quality: &'static str,
    /// Where temperature is read: as above, or `thermal-zone`; `none` if no thermometer ever gave anything.
    pub thermometer: &'static str,
    /// `measured`, `filtered` or `modelled`.
    pub thermometer_quality: &'static str,
}

/// Spot prices.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PriceReport {
    /// What a busy core physically burns.
    pub par: u64,
    /// The highest spot price.
    pub peak: u64,
    /// The last one.
    pub r#final: u64,
}

/// Die temperatures.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TemperatureReport {
    /// At the first tick.
    pub start: f64,
    /// The highest.
    pub peak: f64,
    /// At the last tick.
    pub r#final: f64,
}

/// How the machine warms, as thermal control saw it at the end.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PlantReport {
    /// Whether that was learnt from the machine; otherwise it is what the scenario or the profile says.
    pub learnt: bool,
    /// The air, in degrees Celsius.
    pub ambient_c: f64,
    /// Die and spreader: kelvin per watt, seconds.
    pub fast: FosterNode,
    /// Sink and airflow.
    pub slow: FosterNode,
}

/// One agent.
#[derive(Clone, Debug, Serialize)]
pub struct AgentReport {
    /// Its name in the scenario.
    pub name: String,
    /// Its owner's name.
    pub principal: String,
    /// What it runs in.
    pub cell: &'static str,
    /// `running`, `waiting`, `parked`, `dying` or `dead`.
    pub state: &'static str,
    /// When it was born.
    pub born_tick: u64,
    /// When it died, if it did.
    pub died_tick: Option<u64>,
    /// Why it is where it is: a reason code.
    pub reason: &'static str,
    /// Units of work that a sponsor verified and paid for.
    pub work_verified: u64,
    /// Core time in microseconds.
    pub core_us: u64,
    /// Fuel burned.
    pub fuel: u64,
    /// Paid for core time.
    pub paid_nj: u64,
    /// Paid for held memory and resting orders.
    pub rent_nj: u64,
    /// Paid for erased memory.
    pub tax_nj: u64,
    /// Earned from sponsors.
    pub earned_nj: u64,
    /// Left in its wallet.
    pub balance_nj: u64,
    /// Energy attributed to it.
    pub energy_nj: u64,
    /// Bytes that it erased, as far as they could be counted.
    pub erased_bytes: u64,
    /// What it owes and could not pay.
    pub arrears_nj: u64,
}

/// The money supply.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MoneyReport {
    /// All that entered.
    pub minted_nj: u64,
    /// All that was paid for energy, rent, scarcity and tax.
    pub burned_nj: u64,
    /// In wallets and with sponsors.
    pub balances_nj: u64,
    /// Reserved for running slots and last words.
    pub escrow_nj: u64,
    /// Minted − burned − balances − escrow: zero.
    pub error_nj: i64,
}

/// The energy of the machine.
#[derive(Clone, Debug, Serialize)]
pub struct EnergyReport {
    /// What the meter showed.
    pub meter_nj: u64,
    /// Attributed to agents.
    pub attributed_nj: u64,
    /// The idle machine, and everything on it that is not Maxwell's.
    pub idle_nj: u64,
    /// Maxwell's own.
    pub daemon_nj: u64,
    /// Meter − attributed − idle − daemon: zero.
    pub error_nj: i64,
    /// The meter by domain and source; more than one source of a domain if it changed while running.
    pub domains: Vec<DomainReport>,
}

/// The energy of one domain through one source.
#[derive(Clone, Debug, Serialize)]
pub struct DomainReport {
    /// `platform`, `package-0`, `dram-0`, `gpu-0`, `machine`, ….
    pub domain: String,
    /// Where it is read.
    pub source: &'static str,
    /// `measured`, `filtered` or `modelled`.
    pub quality: &'static str,
    /// The energy.
    pub meter_nj: u64,
}

fn narrow(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

fn narrow_signed(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// The market's part of a report. `names` gives each agent's name and its principal's.
pub(crate) fn agents(market: &Market, names: &[(String, String)]) -> Vec<AgentReport> {
    market
        .agents()
        .map(|(id, agent)| {
            let (name, principal) =
                usize::try_from(id.0).ok().and_then(|at| names.get(at)).cloned().unwrap_or_default();
            let tally = &agent.tally;
            AgentReport {
                name,
                principal,
                cell: agent.spec.cell.name(),
                state: agent.state(),
                born_tick: agent.born.0,
                died_tick: match agent.life {
                    Life::Dead { at, .. } => Some(at.0),
                    _ => None,
                },
                reason: market.reason(id).map_or("unknown", |reason| reason.code()),
                work_verified: tally.work_verified,
                core_us: tally.core.0,
                fuel: tally.fuel,
                paid_nj: tally.paid.0,
                rent_nj: tally.rent.0,
                tax_nj: tally.tax.0,
                earned_nj: tally.earned.0,
                balance_nj: market.balance(id).0,
                energy_nj: tally.energy.0,
                erased_bytes: tally.erased.0,
                arrears_nj: agent.arrears.total().0,
            }
        })
        .collect()
}

/// The money supply, counted account by account.
pub(crate) fn money(market: &Market) -> MoneyReport {
    let money = market.money();
    MoneyReport {
        minted_nj: narrow(money.minted),
        burned_nj: narrow(money.burned),
        balances_nj: narrow(money.balances),
        escrow_nj: narrow(money.escrow),
        error_nj: narrow_signed(money.error()),
    }
}

/// The energy balance.
pub(crate) fn energy(market: &Market) -> EnergyReport {
    let split = market.attribution();
    let meter = market.energy_total();
    let signed = |v: u128| i128::try_from(v).unwrap_or(i128::MAX);
    EnergyReport {
        meter_nj: narrow(meter),
        attributed_nj: narrow(split.attributed),
        idle_nj: narrow(split.idle),
        daemon_nj: narrow(split.daemon),
        error_nj: narrow_signed(signed(meter) - signed(split.attributed + split.idle + split.daemon)),
        domains: market
            .metered()
            .map(|metered| DomainReport {
                domain: metered.domain.to_string(),
                source: metered.source.name(),
                quality: metered.quality.name(),
                meter_nj: narrow(metered.energy),
            })
            .collect(),
    }
}

/// How the machine warms.
pub(crate) fn plant(market: &Market) -> PlantReport {
    let (model, learnt) = market.plant();
    PlantReport { learnt, ambient_c: model.ambient.0, fast: model.fast, slow: model.slow }
}

/// Where readings come from.
pub(crate) fn sensor(counters: &[Counter], thermometer: Option<(Source, Quality)>) -> SensorReport {
    let order = |quality| match quality {
        Quality::Measured => 0,
        Quality::Filtered => 1,
        Quality::Modelled => 2,
    };
    let die = counters.iter().filter(|counter| counter.domain.heats_die());
    let worst = die.max_by_key(|counter| order(counter.quality));
    SensorReport {
        source: worst.map_or("none", |counter| counter.source.name()),
        quality: worst.map_or("none", |counter| counter.quality.name()),
        thermometer: thermometer.map_or("none", |(source, _)| source.name()),
        thermometer_quality: thermometer.map_or("none", |(_, quality)| quality.name()),
    }
}

/// Bytes as lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
