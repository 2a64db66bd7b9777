//! Known machines, found again from noisy traces; and errors that are of rows nobody has seen.

use super::*;
use crate::power::{Frequency, Knot, Megahertz, PowerModel, Siblings};
use maxwell_core::thermal::{FosterNode, Plant, PlantModel};
use maxwell_core::units::Celsius;
use std::path::PathBuf;

/// Numbers between 0 and 1 that look random: splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Roughly normal, of a standard deviation.
    fn noise(&mut self, deviation: f64) -> f64 {
        let sum: f64 = (0..12).map(|_| self.roll()).sum();
        (sum - 6.0) * deviation
    }
}

fn trace(rows: Vec<Row>, threads: u16) -> Trace {
    Trace { path: PathBuf::from("made.csv"), machine: None, threads: Some(threads), rows, notes: Vec::new() }
}

fn knots(points: &[(f64, f64)]) -> Vec<Knot> {
    points.iter().map(|(utilisation, watts)| Knot { utilisation: *utilisation, watts: Watts(*watts) }).collect()
}

fn plain() -> PowerModel {
    PowerModel {
        idle: Watts(12.0),
        awake: Watts(0.0),
        curve: knots(&[(0.5, 2.0), (1.0, 6.0)]),
        siblings: None,
        frequency: None,
    }
}

/// A second of a machine for each row, at loads of every kind.
fn record(model: &PowerModel, threads: u16, rows: u32, noise: f64, seed: u64) -> Vec<Row> {
    let mut dice = Dice(seed);
    (0..rows)
        .map(|n| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the threads")]
            let some = (dice.roll() * f64::from(threads + 1)) as u16;
            let load = match n % 3 {
                0 => Load::Even(dice.roll()),
                1 => Load::Full(some),
                _ => Load::Each((0..threads).map(|_| if dice.roll() < 0.5 { dice.roll() } else { 0.0 }).collect()),
            };
            let clock = Megahertz(1_500.0 + 2_000.0 * dice.roll());
            let watts = model.at(&load.cores(threads), 1.0, Some(clock)).0 + dice.noise(noise);
            Row { seconds: f64::from(n), load, watts: Watts(watts.max(0.0)), celsius: None, clock: Some(clock) }
        })
        .collect()
}

fn fitted(model: &PowerModel, threads: u16, rows: u32, noise: f64, clock: bool) -> PowerFit {
    let trace = trace(record(model, threads, rows, noise, 7), threads);
    fit(&[trace], &Options { clock, ..Options::default() }).unwrap().power
}

#[test]
fn a_plain_machine_is_found_again() {
    let found = fitted(&plain(), 4, 300, 0.3, false);
    let model = &found.model;
    assert!((model.idle.0 - 12.0).abs() < 0.3, "{model:?}");
    for (utilisation, watts) in [(0.25, 1.0), (0.5, 2.0), (0.75, 4.0), (1.0, 6.0)] {
        assert!((model.core(utilisation).0 - watts).abs() < 0.25, "{utilisation}: {model:?}");
    }
    assert!(
        model.siblings.is_none() && model.frequency.is_none(),
        "no terms that the machine does not have: {model:?}"
    );
    // Noise of 0.3 W alone has a mean absolute error of 0.24 W.
    assert!(found.ours.in_sample.0 < 0.3 && found.ours.held_out.0 < 0.33, "{:?}", found.ours);
    assert!(found.line.held_out.0 > 2.0 * found.ours.held_out.0, "the line misses the bend: {:?}", found.line);
}

#[test]
fn a_waking_package_and_sibling_threads_are_found_again() {
    let siblings = Some(Siblings { cores: 4, share: 0.3 });
    let machine = PowerModel { awake: Watts(15.0), siblings, ..plain() };
    let found = fitted(&machine, 8, 300, 0.3, false);
    assert!((found.model.awake.0 - 15.0).abs() < 1.0, "{:?}", found.model);
    assert_eq!(found.model.siblings, siblings);
    assert!(found.ours.held_out.0 < 0.35, "{:?}", found.ours);
}

#[test]
fn the_clocks_exponent_is_found_where_it_is_asked_for() {
    let machine = PowerModel { frequency: Some(Frequency { reference: Megahertz(2_500.0), gamma: 2.0 }), ..plain() };
    let found = fitted(&machine, 4, 300, 0.2, true);
    assert!((found.model.frequency.unwrap().gamma - 2.0).abs() < 1e-9, "{:?}", found.model);
    assert!(found.ours.held_out.0 < 0.3, "{:?}", found.ours);
    assert!(found.notes.iter().any(|note| note.contains("follows the clock")), "{:?}", found.notes);
    let blind = fitted(&machine, 4, 300, 0.2, false);
    assert!(blind.model.frequency.is_none() && blind.ours.held_out.0 > 3.0 * found.ours.held_out.0);
}

#[test]
fn a_curve_never_falls_and_nothing_is_negative() {
    let mut rows = record(&plain(), 4, 60, 0.0, 3);
    // A machine that burns less the more it does: no model says so.
    rows.iter_mut().for_each(|row| row.watts = Watts(40.0 - row.watts.0));
    let found = fit(&[trace(rows, 4)], &Options::default()).unwrap().power.model;
    let first = Knot { utilisation: 0.0, watts: Watts(0.0) };
    let falls = std::iter::once(&first).chain(&found.curve).zip(&found.curve).any(|(a, b)| b.watts.0 < a.watts.0);
    assert!(!falls && found.idle.0 >= 0.0 && found.awake.0 >= 0.0, "{found:?}");
}

/// The strongest proof: what a block's rows say about power cannot change what is predicted for them.
#[test]
fn a_held_out_row_has_no_influence_on_its_own_prediction() {
    let rows = record(&plain(), 4, 100, 0.5, 11);
    let honest = fit(&[trace(rows.clone(), 4)], &Options::default()).unwrap().power;
    assert_eq!(honest.blocks, 10);
    for block in [0, 4, 9] {
        let mut poisoned = rows.clone();
        poisoned[block * 10..][..10]
            .iter_mut()
            .enumerate()
            .for_each(|(n, row)| row.watts = Watts(1e4 / (n + 1) as f64));
        let other = fit(&[trace(poisoned, 4)], &Options::default()).unwrap().power;
        for n in 0..10 {
            let at = block * 10 + n;
            let (before, after) = (honest.points[at].held_out, other.points[at].held_out);
            assert_eq!(before.0.to_bits(), after.0.to_bits(), "row {at} saw itself");
        }
        let moved = honest.points.iter().zip(&other.points).any(|(a, b)| a.held_out != b.held_out);
        assert!(moved, "the nonsense did reach the predictions of other blocks");
        assert!(other.ours.held_out.0 > 100.0, "and the nonsense shows: {:?}", other.ours);
    }
}

#[test]
fn power_that_has_nothing_to_do_with_load_is_not_predicted() {
    let mut dice = Dice(5);
    let rows = (0..24).map(|n| {
        let (load, watts) = (Load::Even(dice.roll()), Watts(100.0 * dice.roll()));
        Row { seconds: f64::from(n), load, watts, celsius: None, clock: None }
    });
    let found = fit(&[trace(rows.collect(), 8)], &Options::default()).unwrap().power;
    // Around its mean such power has a mean absolute error of 25 W, and choosing among structures must not hide that.
    assert!(found.ours.held_out.0 > 20.0, "{:?}", found.ours);
    assert!(found.ours.held_out.0 > found.ours.in_sample.0);
}

#[test]
fn traces_of_one_machine_are_fitted_together() {
    let (a, b) = (record(&plain(), 4, 60, 0.2, 1), record(&plain(), 4, 50, 0.2, 2));
    let both = fit(&[trace(a.clone(), 4), trace(b, 4)], &Options::default()).unwrap();
    assert_eq!((both.power.rows, both.power.blocks, both.threads), (110, 20, 4));
    let other = trace(a.clone(), 8);
    let error = fit(&[trace(a.clone(), 4), other.clone()], &Options::default()).unwrap_err().to_string();
    assert!(error.contains("4 hardware threads") && error.contains("--threads"), "{error}");
    let error = fit(&[other], &Options { threads: Some(2), ..Options::default() }).unwrap_err();
    assert!(matches!(error, FitError::Cores { threads: 2, .. }), "{error}");
}

#[test]
fn rows_that_teach_nothing_are_refused_with_a_remedy() {
    let rows = record(&plain(), 4, 40, 0.1, 1);
    let error = |rows: Vec<Row>, threads| {
        let mut trace = trace(rows, 4);
        trace.threads = threads;
        fit(&[trace], &Options::default()).unwrap_err().to_string()
    };
    assert!(error(rows[..2].to_vec(), Some(4)).contains("2 rows are too few"), "two rows");
    assert!(error(rows.clone(), None).contains("--threads"));
    let flat = rows.iter().map(|row| Row { load: Load::Even(0.5), ..row.clone() }).collect();
    assert!(error(flat, Some(4)).contains("stays between 0.50 and 0.50"));
    let dead = rows.iter().map(|row| Row { watts: Watts(0.0), ..row.clone() }).collect();
    assert!(error(dead, Some(4)).contains("meter did not work"));
}

#[test]
fn guesses_are_noted() {
    let rows = record(&plain(), 4, 60, 0.1, 1);
    let lazy = rows.into_iter().zip([1, 2, 3].into_iter().cycle()).map(|(row, n)| Row { load: Load::Full(n), ..row });
    let notes = fit(&[trace(lazy.collect(), 4)], &Options::default()).unwrap().power.notes.join("; ");
    for word in ["straight line", "reaches 0.75", "never falls below 0.25"] {
        assert!(notes.contains(word), "{notes}");
    }
}

/// A machine under steps of load, with a thermometer of whole degrees and a logger that is not punctual.
fn heat(plant: PlantModel, seconds: f64, step: f64, seed: u64) -> Vec<Row> {
    let mut dice = Dice(seed);
    let mut state = Plant::settled(plant, Watts(10.0));
    let (mut now, mut level, mut until) = (0.0, 0.0, 20.0);
    let mut rows = Vec::new();
    while now < seconds {
        let dt = step * (0.5 + dice.roll());
        now += dt;
        if now > until {
            level = if level > 0.5 { 0.2 * dice.roll() } else { 0.6 + 0.4 * dice.roll() };
            until = now + 5.0 + 60.0 * dice.roll();
        }
        let watts = 10.0 + 55.0 * level;
        state.step(Watts(watts), dt);
        rows.push(Row {
            seconds: now,
            load: Load::Even(level),
            watts: Watts(watts + dice.noise(0.3)),
            celsius: Some(Celsius(state.temperature().0.floor())),
            clock: None,
        });
    }
    rows
}

fn thermal(rows: Vec<Row>) -> Result<ThermalFit, Refusal> {
    fit(&[trace(rows, 8)], &Options::default()).unwrap().thermal
}

#[test]
fn a_plant_is_found_again_through_whole_degrees_and_irregular_steps() {
    for (fast, slow, seed) in
        [((0.35, 0.8), (0.34, 40.0), 1), ((0.5, 2.5), (0.2, 90.0), 2), ((0.2, 1.5), (0.6, 25.0), 3)]
    {
        let node = |(resistance, tau)| FosterNode { resistance, tau };
        let real = PlantModel { ambient: Celsius(30.0), fast: node(fast), slow: node(slow) };
        let found = thermal(heat(real, 900.0, 0.5, seed)).unwrap();
        let near = |found: f64, real: f64, share: f64| (found / real - 1.0).abs() < share;
        let plant = found.plant;
        assert!(near(plant.fast.tau, fast.1, 0.25) && near(plant.slow.tau, slow.1, 0.15), "{plant:?}");
        assert!(near(plant.fast.resistance, fast.0, 0.1) && near(plant.slow.resistance, slow.0, 0.1), "{plant:?}");
        // Thermometers that cut degrees off read half a degree low.
        assert!((plant.ambient.0 - 29.5).abs() < 1.0, "{plant:?}");
        assert!(found.in_sample < 0.5 && found.held_out < 0.8, "{found:?}");
    }
}

#[test]
fn a_sink_that_has_not_settled_when_the_trace_begins_does_no_harm() {
    let rows = heat(PlantModel::default(), 900.0, 0.5, 4).split_off(300);
    let found = thermal(rows).unwrap();
    assert!((found.plant.slow.tau / 40.0 - 1.0).abs() < 0.2, "{found:?}");
}

#[test]
fn the_plants_held_out_rows_are_not_fitted() {
    let rows = heat(PlantModel::default(), 900.0, 0.5, 5);
    let good = thermal(rows.clone()).unwrap();
    let mut fan = rows;
    let from = fan.len() * 17 / 20;
    // A fan speeds up where only held-out rows are.
    fan[from..].iter_mut().for_each(|row| row.celsius = row.celsius.map(|t| Celsius(t.0 - 8.0)));
    match thermal(fan) {
        Ok(found) => assert!(found.held_out > 4.0 && found.held_out > 3.0 * good.held_out, "{found:?}"),
        Err(refusal) => assert!(matches!(refusal, Refusal::NoPlant { .. }), "{refusal}"),
    }
}

#[test]
fn traces_that_cannot_show_a_plant_are_refused_with_the_reason() {
    let real = PlantModel::default();
    let rows = heat(real, 900.0, 0.5, 6);
    let bare = rows.iter().map(|row| Row { celsius: None, ..row.clone() }).collect();
    assert_eq!(thermal(bare), Err(Refusal::NoTemperature));
    assert!(matches!(thermal(heat(real, 4_000.0, 30.0, 7)), Err(Refusal::Slow { .. })));
    assert!(matches!(thermal(rows[..50].to_vec()), Err(Refusal::Rows { rows: 50 })));
    let calm = rows.iter().map(|row| Row { celsius: Some(Celsius(50.0)), ..row.clone() }).collect();
    assert!(matches!(thermal(calm), Err(Refusal::Calm { .. })));
    let short = PlantModel { slow: FosterNode { resistance: 0.34, tau: 300.0 }, ..real };
    assert!(matches!(thermal(heat(short, 120.0, 0.5, 8)), Err(Refusal::Short { .. } | Refusal::OneNode { .. })));
    let slow = thermal(heat(PlantModel { fast: FosterNode { resistance: 0.35, tau: 0.05 }, ..real }, 900.0, 4.0, 9));
    assert!(matches!(slow, Err(Refusal::OneNode { .. })), "{slow:?}");
    let mut dice = Dice(10);
    let noise = rows.iter().map(|row| Row { celsius: Some(Celsius(30.0 + 60.0 * dice.roll())), ..row.clone() });
    assert!(thermal(noise.collect()).is_err());
}
