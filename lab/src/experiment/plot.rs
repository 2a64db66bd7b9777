//! Pictures: work per joule of every arm with its interval, and power and work over time.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::metrics::{RunRecord, Sample};
use super::summary::Summary;

/// A picture that could not be drawn or written.
#[derive(Debug, thiserror::Error)]
#[error("the plot could not be drawn: {0}")]
pub struct PlotError(String);

fn failed(error: impl std::fmt::Display) -> PlotError {
    PlotError(error.to_string())
}

/// Okabe and Ito's colours and grey: told apart by everybody.
const COLOURS: [RGBColor; 8] = [
    RGBColor(90, 90, 90),
    RGBColor(240, 228, 66),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
];

impl Summary {
    fn colour(&self, name: &str) -> RGBColor {
        let at = super::arm::Arm::ALL.iter().position(|arm| arm.name() == name).unwrap_or(0);
        COLOURS[at % COLOURS.len()]
    }

    /// Draws the share of the oracle for every arm, with intervals, as SVG.
    ///
    /// # Errors
    ///
    /// [`PlotError`] if the file cannot be written.
    pub fn plot_arms(&self, path: &Path) -> Result<(), PlotError> {
        let root = SVGBackend::new(path, (960, 420)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let title = format!("{}: work per joule beside the oracle's (joules {})", self.plan.name, self.sensor);
        let root = root.titled(&title, ("sans-serif", 18)).map_err(failed)?;
        let arms: Vec<_> = self.plan.arms.iter().filter_map(|arm| Some((arm.name(), self.arm(*arm)?))).collect();
        let count = i32::try_from(arms.len()).unwrap_or(i32::MAX);
        let highest = arms.iter().filter_map(|(_, arm)| arm.ci95.eta).fold(1.0, |most, ci| f64::max(most, ci.1));
        let mut chart = ChartBuilder::on(&root)
            .margin(10)
            .set_label_area_size(LabelAreaPosition::Left, 56)
            .set_label_area_size(LabelAreaPosition::Bottom, 30)
            .build_cartesian_2d((0..count).into_segmented(), 0.0..highest * 1.08)
            .map_err(failed)?;
        let name = |at: &SegmentValue<i32>| match at {
            SegmentValue::CenterOf(at) => {
                usize::try_from(*at).ok().and_then(|at| arms.get(at)).map_or_else(String::new, |arm| arm.0.to_owned())
            }
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .y_desc("share of the oracle")
            .x_label_formatter(&name)
            .draw()
            .map_err(failed)?;
        for (at, (name, arm)) in (0..).zip(&arms) {
            let Some(eta) = arm.eta else { continue };
            let colour = self.colour(name);
            let (from, to) = (SegmentValue::Exact(at), SegmentValue::Exact(at + 1));
            let mut bar = Rectangle::new([(from, 0.0), (to, eta)], colour.mix(0.8).filled());
            bar.set_margin(0, 0, 12, 12);
            chart.draw_series([bar]).map_err(failed)?;
            if let Some((low, high)) = arm.ci95.eta {
                let middle = SegmentValue::CenterOf(at);
                let whisker =
                    PathElement::new([(middle, low), (SegmentValue::CenterOf(at), high)], BLACK.stroke_width(2));
                chart.draw_series([whisker]).map_err(failed)?;
            }
        }
        root.present().map_err(failed)
    }

    /// Draws the first repetition over time as SVG: power, leeches' power, work, and where there is one, the price.
    ///
    /// # Errors
    ///
    /// [`PlotError`] if the file cannot be written.
    pub fn plot_time(&self, records: &[RunRecord], path: &Path) -> Result<(), PlotError> {
        let root = SVGBackend::new(path, (960, 900)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let title = format!("{}: the first repetition (joules {})", self.plan.name, self.sensor);
        let root = root.titled(&title, ("sans-serif", 18)).map_err(failed)?;
        let first: Vec<&RunRecord> = records.iter().filter(|record| !record.trace.is_empty()).collect();
        let panels = root.split_evenly((4, 1));
        self.panel(&panels[0], "machine, W", &first, true, |s| Some(s.watts))?;
        self.panel(&panels[1], "leeches, W", &first, false, |s| Some(s.leech_watts))?;
        self.panel(&panels[2], "verified work, core-s", &first, false, |s| Some(s.work))?;
        self.panel(&panels[3], "spot price, W", &first, false, |s| s.price)?;
        root.present().map_err(failed)
    }

    fn panel(
        &self,
        area: &DrawingArea<SVGBackend<'_>, Shift>,
        title: &str,
        records: &[&RunRecord],
        legend: bool,
        value: impl Fn(&Sample) -> Option<f64>,
    ) -> Result<(), PlotError> {
        let highest = records.iter().flat_map(|r| r.trace.iter().filter_map(&value)).fold(0.001, f64::max);
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .set_label_area_size(LabelAreaPosition::Left, 56)
            .set_label_area_size(LabelAreaPosition::Bottom, 30)
            .build_cartesian_2d(0.0..self.plan.seconds, 0.0..highest * 1.05)
            .map_err(failed)?;
        chart.configure_mesh().light_line_style(WHITE).y_desc(title).x_desc("seconds").draw().map_err(failed)?;
        for record in records {
            let points: Vec<(f64, f64)> =
                record.trace.iter().filter_map(|sample| Some((sample.seconds, value(sample)?))).collect();
            if points.is_empty() {
                continue;
            }
            let name = record.turn.arm.name();
            let colour = self.colour(name);
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))
                .map_err(failed)?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        }
        if legend {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::LowerRight)
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.2))
                .draw()
                .map_err(failed)?;
        }
        Ok(())
    }
}
