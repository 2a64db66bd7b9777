//! The fit as a picture: rows as they were measured, what a model said that had not seen them, and the final model's
//! power at loads of two kinds.

use std::error::Error;

use maxwell_core::units::Watts;
use maxwell_physics::fit::Fitted;
use maxwell_physics::power::Cores;
use maxwell_physics::profile::Profile;
use plotters::prelude::*;

/// More points than this are only ink.
const MOST_POINTS: usize = 2_000;
const MEASURED: RGBColor = RGBColor(60, 60, 60);
const HELD_OUT: RGBColor = RGBColor(214, 39, 40);
const EVEN: RGBColor = RGBColor(31, 119, 180);
const PACKED: RGBColor = RGBColor(44, 160, 44);

/// The picture as SVG.
pub(super) fn svg(profile: &Profile, fitted: &Fitted) -> String {
    let mut out = String::new();
    draw(&mut out, profile, fitted).expect("an SVG in memory cannot fail");
    out
}

fn draw(out: &mut String, profile: &Profile, fitted: &Fitted) -> Result<(), Box<dyn Error>> {
    let power = &fitted.power;
    let area = SVGBackend::with_string(out, (900, 560)).into_drawing_area();
    area.fill(&WHITE)?;
    let title: String = profile.title.chars().take(60).collect();
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..1.0f64, 0.0..power.peak.0 * 1.1)?;
    chart.configure_mesh().x_desc("utilisation of the machine").y_desc("watts").max_light_lines(0).draw()?;

    let threads = f64::from(profile.threads);
    let even = |at: f64| vec![Cores { count: profile.threads, utilisation: at }];
    let packed = |at: f64| {
        let full = (at * threads).floor();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the threads")]
        let count = full as u16;
        vec![Cores { count, utilisation: 1.0 }, Cores { count: 1, utilisation: at * threads - full }]
    };
    let line = |load: &dyn Fn(f64) -> Vec<Cores>| -> Vec<(f64, f64)> {
        let at = |n: i32| f64::from(n) / 200.0;
        (0..=200).map(|n| (at(n), profile.power.at(&load(at(n)), 1.0, None).0)).collect()
    };
    chart
        .draw_series(LineSeries::new(line(&even), EVEN.stroke_width(2)))?
        .label("model, all cores equally busy")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], EVEN.stroke_width(2)));
    chart
        .draw_series(LineSeries::new(line(&packed), PACKED.stroke_width(2)))?
        .label("model, as few cores as can do it")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], PACKED.stroke_width(2)));

    let every = power.points.len().div_ceil(MOST_POINTS).max(1);
    let points: Vec<(f64, Watts, Watts)> =
        power.points.iter().step_by(every).map(|point| (point.utilisation, point.watts, point.held_out)).collect();
    chart
        .draw_series(points.iter().map(|(at, watts, _)| Circle::new((*at, watts.0), 4, MEASURED.filled())))?
        .label("measured")
        .legend(|(x, y)| Circle::new((x + 9, y), 4, MEASURED.filled()));
    chart
        .draw_series(points.iter().map(|(at, _, said)| Cross::new((*at, said.0), 4, HELD_OUT.stroke_width(2))))?
        .label("predicted without having seen it")
        .legend(|(x, y)| Cross::new((x + 9, y), 4, HELD_OUT.stroke_width(2)));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(MEASURED)
        .draw()?;
    area.present()?;
    Ok(())
}
