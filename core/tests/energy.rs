//! Joules are conserved: over ten million ticks with wraps, resets, suspensions, lost ticks, unreadable counters and
//! counters that come and go, `attributed + daemon + idle = meter`, and the meter is what the hardware counted.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are positive and far below the types' limits"
)]

mod random;

use maxwell_core::energy::{Attribution, Meter, Metering};
use maxwell_core::market::{Event, Market, MarketPolicy, Outcome, TickInput};
use maxwell_core::sensor::{Activity, Counter, CounterReading, CounterSpec, Domain, Quality, Source, Temperature};
use maxwell_core::units::{Celsius, Joule, Tick, Watts};
use random::Random;

const TICK_US: u64 = 10_000;

fn counter(domain: Domain, spec: CounterSpec, max_power: f64) -> Counter {
    let (source, quality) = (Source::Powercap, Quality::Measured);
    Counter { domain, source, quality, spec, max_power: Watts(max_power), refresh_ms: 1 }
}

fn shows(raw: u64) -> CounterReading {
    CounterReading { raw: Some(raw), age_ms: 0 }
}

/// A piece of hardware, and what a perfect observer knows about it.
struct Hardware {
    counter: Counter,
    /// What it has counted, never wrapping.
    truth: u128,
    /// The register was set to zero here.
    zero: u128,
    /// Counts since the register was last read.
    unseen: u128,
    /// Something happened since then that makes them unknowable: the next reading must be a gap.
    tainted: bool,
    /// A new meter: its first reading only sets the zero.
    unmetered: bool,
    /// Counts that its present meter must have seen, and nanojoules of its earlier meters.
    seen: u128,
    earlier_nj: u128,
    wraps: u64,
    gaps: u64,
}

impl Hardware {
    fn new(counter: Counter) -> Self {
        // Shortly before the first wrap.
        let truth = u128::from(counter.spec.max) - 50_000;
        let (zero, unseen, seen, earlier_nj) = (0, 0, 0, 0);
        Self { counter, truth, zero, unseen, tainted: false, unmetered: true, seen, earlier_nj, wraps: 0, gaps: 0 }
    }

    fn modulus(&self) -> u128 {
        u128::from(self.counter.spec.max) + 1
    }

    fn nanojoules(&self, counts: u128) -> u128 {
        counts * u128::from(self.counter.spec.unit_num) / u128::from(self.counter.spec.unit_den)
    }

    fn draw(&mut self, watts: f64, us: u64) {
        let nj = (watts * us as f64 * 1_000.0) as u128;
        let counts = nj * u128::from(self.counter.spec.unit_den) / u128::from(self.counter.spec.unit_num);
        let turns = |hardware: &Self| (hardware.truth - hardware.zero) / hardware.modulus();
        let before = turns(self);
        self.truth += counts;
        self.unseen += counts;
        self.wraps += u64::from(turns(self) != before);
    }

    fn raw(&self) -> u64 {
        ((self.truth - self.zero) % self.modulus()) as u64
    }

    /// Starts the register anew, where that can be told from a wrap.
    fn reset(&mut self) {
        let room = self.modulus() - u128::from(self.raw());
        if !self.unmetered && self.nanojoules(room) > 20_000_000_000_000 {
            self.zero = self.truth;
            self.tainted = true;
        }
    }

    fn read(&mut self) -> CounterReading {
        if self.tainted {
            self.gaps += 1;
        } else if !self.unmetered {
            self.seen += self.unseen;
        }
        (self.unseen, self.tainted, self.unmetered) = (0, false, false);
        shows(self.raw())
    }

    /// The market is told that the counter is gone, and that it is back.
    fn lose_and_find(&mut self) {
        self.earlier_nj += self.nanojoules(self.seen);
        (self.seen, self.unmetered, self.tainted) = (0, true, false);
    }
}

#[test]
fn ten_million_ticks_lose_no_count_and_invent_none() {
    let mut random = Random(2026);
    // ESU 16 and 14, powercap's odd range, and a fixed 2⁻¹⁶ J memory unit.
    let mut machine = [
        Hardware::new(counter(Domain::Package(0), CounterSpec::rapl(16), 2_000.0)),
        Hardware::new(counter(Domain::Package(1), CounterSpec::rapl(14), 2_000.0)),
        Hardware::new(counter(Domain::Package(2), CounterSpec::microjoules(262_143_328_850), 2_000.0)),
        Hardware::new(counter(Domain::Dram(0), CounterSpec::rapl(16), 400.0)),
    ];
    let counters: Vec<Counter> = machine.iter().map(|hardware| hardware.counter).collect();
    let mut metering = Metering::default();
    metering.choose(&counters);
    let mut readings = vec![CounterReading::default(); 4];
    let mut attribution = Attribution::default();
    let (mut elapsed, mut lost_ticks, mut unreadable) = (0, 0, 0);
    for n in 0..10_000_000u64 {
        let dice = random.below(100_000);
        for hardware in &mut machine {
            let share = random.below(1_000) as f64 / 4_000.0;
            hardware.draw(hardware.counter.max_power.0 * share, TICK_US);
        }
        elapsed += TICK_US;
        match dice {
            // A lost tick: its energy is in the next reading.
            0..5_000 => {
                lost_ticks += 1;
                continue;
            }
            5_000 => machine[random.index(4)].reset(),
            // Suspended: no time passed on the clock, but the counters went on for a minute.
            5_001 => {
                for hardware in &mut machine {
                    hardware.draw(hardware.counter.max_power.0, 60_000_000);
                    hardware.tainted |= !hardware.unmetered;
                }
            }
            5_002 => {
                metering.choose(&counters[..3]);
                metering.choose(&counters);
                machine[3].lose_and_find();
            }
            _ => {}
        }
        let before: u64 = machine.iter().map(|hardware| hardware.gaps).sum();
        for (hardware, reading) in machine.iter_mut().zip(&mut readings) {
            // A counter that cannot be read now shows everything when it can be again.
            let hidden = random.below(1_000) == 0;
            unreadable += u64::from(hidden);
            *reading = if hidden { CounterReading::default() } else { hardware.read() };
        }
        let gap = machine.iter().map(|hardware| hardware.gaps).sum::<u64>() > before;
        let tick = metering.advance(&readings, elapsed);
        assert_eq!(tick.gap, gap, "tick {n}");
        let activity = Activity {
            elapsed_us: elapsed,
            agents_weighted_us: random.below(15_000),
            agents_us: 0,
            daemon_us: random.below(100),
            others_us: random.below(5_000),
        };
        let mut split = Attribution::split(&tick, Watts(20.0), &activity);
        let half = activity.agents_weighted_us / 2;
        split.share(half);
        split.share(activity.agents_weighted_us - half);
        attribution.finish(split);
        assert_eq!(attribution.error(&metering), 0, "tick {n}");
        elapsed = 0;
    }
    let expected: u128 = machine.iter().map(|hardware| hardware.earlier_nj + hardware.nanojoules(hardware.seen)).sum();
    assert_eq!(metering.total(), expected, "to the nanojoule");
    let wraps: Vec<u64> = machine.iter().map(|hardware| hardware.wraps).collect();
    assert!(wraps.iter().all(|wraps| *wraps > 10), "the test must wrap: {wraps:?}");
    assert!(lost_ticks > 400_000 && unreadable > 10_000, "{lost_ticks} {unreadable}");
    assert!(machine.iter().map(|hardware| hardware.gaps).sum::<u64>() > 300);
    assert!(attribution.attributed > 0 && attribution.daemon > 0 && attribution.idle > 0);
}

fn package() -> Meter {
    Meter::new(counter(Domain::Package(0), CounterSpec::rapl(16), 300.0))
}

#[test]
fn a_reset_counter_is_a_gap_not_a_spike() {
    let mut meter = package();
    meter.advance(shows(4_000_000_000), 0);
    meter.advance(shows(4_000_100_000), TICK_US);
    let before = meter.total();
    let delta = meter.advance(shows(12), TICK_US);
    assert!(delta.gap && delta.energy == Joule::ZERO);
    assert_eq!((meter.total(), meter.gaps()), (before, 1));
    assert!(!meter.advance(shows(1_012), TICK_US).gap, "counting goes on from the new value");
}

#[test]
fn a_counter_that_stands_still_or_is_silent_has_unknown_power_not_none() {
    let mut meter = package();
    meter.advance(shows(1_000), 0);
    for _ in 0..25 {
        assert!(!meter.advance(shows(1_000), TICK_US).stale);
    }
    assert!(meter.advance(shows(1_000), TICK_US).stale, "a quarter of a second without a count");
    assert!(!meter.advance(shows(2_000), TICK_US).stale);
    assert!(meter.advance(CounterReading::default(), TICK_US).stale, "unreadable");
    // 30 W for the tenth of a second in which it could not be read: no gap.
    for _ in 0..9 {
        meter.advance(CounterReading::default(), TICK_US);
    }
    let delta = meter.advance(shows(2_000 + 196_608), TICK_US);
    assert!(!delta.gap && delta.energy == Joule(3_000_000_000), "{delta:?}");
}

#[test]
fn a_market_says_when_its_counters_stop_go_on_and_change() {
    let package = counter(Domain::Package(0), CounterSpec::rapl(16), 1_000.0);
    let model = Counter { source: Source::Model, quality: Quality::Modelled, domain: Domain::Machine, ..package };
    let mut market = Market::new(MarketPolicy::default());
    let mut out = Outcome::default();
    let mut tick = |market: &mut Market, raw: Option<u64>, counters: Option<Vec<Counter>>, busy_us: u64| {
        let activity = Activity { elapsed_us: TICK_US, others_us: busy_us, ..Activity::default() };
        let mut input = TickInput { tick: Tick(market.now().0 + 1), counters, activity, ..TickInput::default() };
        input.reading.counters.push(CounterReading { raw, age_ms: 0 });
        input.reading.temperature = Some(Temperature::fresh(Celsius(40.0), Source::Msr, Quality::Measured));
        market.tick(&input, &mut out).unwrap();
        (out.events.clone(), out.power)
    };
    // 20 W in counts of 2⁻¹⁶ J.
    let counts = 13_107;
    assert_eq!(tick(&mut market, Some(0), Some(vec![package]), 0).0, []);
    for n in 1..50 {
        let (events, power) = tick(&mut market, Some(n * counts), None, 0);
        assert!(events.is_empty() && (power.0 - 20.0).abs() < 0.01, "{events:?} {power}");
    }
    // It cannot be read: its power is what so many busy cores draw, and not none.
    let (events, power) = tick(&mut market, None, None, TICK_US);
    assert_eq!(events, [Event::PowerUnknown]);
    assert!(power.0 > 12.0, "{power}");
    assert_eq!(tick(&mut market, None, None, 0).0, [], "said once");
    assert_eq!(tick(&mut market, Some(52 * counts), None, 0).0, [Event::PowerKnown]);
    assert_eq!(market.energy_total(), u128::from(52 * counts) * 1_000_000_000 / 65_536, "nothing is lost");
    // It is lost for good, and the model takes over.
    let before = market.energy_total();
    assert_eq!(tick(&mut market, Some(7), Some(vec![model]), 0).0, [Event::SensorsChanged]);
    tick(&mut market, Some(7 + counts), None, 0);
    let metered: Vec<(Source, u128)> = market.metered().map(|part| (part.source, part.energy)).collect();
    assert_eq!(metered, [(Source::Model, u128::from(counts) * 1_000_000_000 / 65_536), (Source::Powercap, before)]);
    // No counter at all: no energy, and no die without power.
    let (events, power) = tick(&mut market, None, Some(Vec::new()), TICK_US);
    assert!(events.contains(&Event::PowerUnknown) && power.0 > 12.0, "{events:?} {power}");
}

#[test]
fn weights_beyond_the_total_cannot_attribute_more_than_was_used() {
    let mut metering = Metering::default();
    metering.choose(&[counter(Domain::Machine, CounterSpec::NANOJOULES, 1_000.0)]);
    metering.advance(&[shows(0)], 0);
    let tick = metering.advance(&[shows(1_000_000)], TICK_US);
    let activity = Activity { elapsed_us: TICK_US, agents_weighted_us: 10, ..Activity::default() };
    let mut split = Attribution::split(&tick, Watts(0.0), &activity);
    let shares = [split.share(u64::MAX), split.share(10), split.share(10)];
    assert_eq!(shares.map(|j| j.0), [1_000_000, 0, 0]);
}

#[test]
fn an_accelerators_energy_is_metered_but_blamed_on_nobody_and_heats_no_die() {
    let mut metering = Metering::default();
    let gpu = counter(Domain::Gpu(0), CounterSpec::NANOJOULES, 3_000.0);
    metering.choose(&[counter(Domain::Package(0), CounterSpec::NANOJOULES, 1_000.0), gpu]);
    metering.advance(&[shows(0), shows(0)], 0);
    let tick = metering.advance(&[shows(1_000_000), shows(5_000_000)], TICK_US);
    assert_eq!((tick.die, tick.shared, tick.accelerators), (Joule(1_000_000), Joule(1_000_000), Joule(5_000_000)));
    let activity = Activity { elapsed_us: TICK_US, agents_weighted_us: 10, ..Activity::default() };
    let mut split = Attribution::split(&tick, Watts(0.0), &activity);
    assert_eq!(split.share(10), Joule(1_000_000));
    let mut attribution = Attribution::default();
    attribution.finish(split);
    assert_eq!((attribution.attributed, attribution.idle), (1_000_000, 5_000_000));
    assert_eq!(attribution.error(&metering), 0);
    // A counter of memory alone says nothing about the die.
    metering.choose(&[gpu]);
    assert!(metering.advance(&[shows(6_000_000)], TICK_US).stale);
    assert_eq!(metering.total(), 7_000_000, "what the package had shown is kept");
}

#[test]
fn absurd_counters_from_a_hostile_recording_overflow_nothing() {
    let spec = CounterSpec { max: u64::MAX, unit_num: u64::MAX, unit_den: 0 };
    let mut meter = Meter::new(counter(Domain::Machine, spec, f64::INFINITY));
    for raw in [0, u64::MAX, 1, u64::MAX / 2] {
        meter.advance(shows(raw), u64::MAX);
    }
    let mut meter = Meter::new(counter(Domain::Machine, spec, f64::NAN));
    for raw in [0, u64::MAX, 1] {
        meter.advance(shows(raw), 1);
    }
}
