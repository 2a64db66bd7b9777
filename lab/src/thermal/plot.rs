//! A picture of a comparison: temperatures above, cores at work in the middle, price below.

use std::path::Path;

use plotters::prelude::*;

use super::case::{SLOTS, policy};
use super::report::Comparison;
use super::trial::Sample;

/// A picture that could not be drawn or written.
#[derive(Debug, thiserror::Error)]
#[error("the plot could not be drawn: {0}")]
pub struct PlotError(String);

fn failed(error: impl std::fmt::Display) -> PlotError {
    PlotError(error.to_string())
}

const SIZE: (u32, u32) = (960, 760);
/// Okabe and Ito's colours: told apart by everybody.
const COLOURS: [RGBColor; 3] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(230, 159, 0)];
/// More points than pixels only make the file large.
const MOST_POINTS: usize = 480;

impl Comparison {
    /// Draws the comparison as SVG.
    ///
    /// # Errors
    ///
    /// [`PlotError`] if the file cannot be written.
    pub fn plot(&self, path: &Path) -> Result<(), PlotError> {
        let root = SVGBackend::new(path, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let root = root.titled(&self.case.title, ("sans-serif", 20)).map_err(failed)?;
        let panels = root.split_by_breakpoints([] as [i32; 0], [330, 520]);
        let policy = policy();
        let ambient = policy.model.ambient.0;
        let hottest = self.trials.iter().map(|trial| trial.metrics.peak).fold(policy.set.0 + 5.0, f64::max);
        self.panel(&panels[0], "die, °C", ambient..hottest + 2.0, Some(policy.set.0), |s| Some(s.celsius))?;
        self.panel(&panels[1], "cores at work", 0.0..f64::from(SLOTS) + 0.5, None, |s| Some(s.busy))?;
        let dearest = self.trials[0].trace.iter().filter_map(price).fold(1.0, f64::max);
        self.panel(&panels[2], "reserve, log₁₀ of par", 0.0..dearest.log10().max(0.2) * 1.05, None, |s| {
            price(s).map(f64::log10)
        })?;
        root.present().map_err(failed)
    }

    fn panel(
        &self,
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
        title: &str,
        range: std::ops::Range<f64>,
        line: Option<f64>,
        value: impl Fn(&Sample) -> Option<f64>,
    ) -> Result<(), PlotError> {
        let end = self.case.seconds;
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .set_label_area_size(LabelAreaPosition::Left, 56)
            .set_label_area_size(LabelAreaPosition::Bottom, 30)
            .build_cartesian_2d(0.0..end, range)
            .map_err(failed)?;
        chart.configure_mesh().light_line_style(WHITE).y_desc(title).x_desc("seconds").draw().map_err(failed)?;
        if let Some(y) = line {
            chart.draw_series(LineSeries::new([(0.0, y), (end, y)], BLACK.mix(0.5))).map_err(failed)?;
        }
        // Maxwell is drawn last, on top.
        for (trial, colour) in self.trials.iter().zip(COLOURS).rev() {
            let every = trial.trace.len().div_ceil(MOST_POINTS).max(1);
            let points: Vec<(f64, f64)> = trial.trace.chunks(every).filter_map(|chunk| mean(chunk, &value)).collect();
            if points.is_empty() {
                continue;
            }
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(1)))
                .map_err(failed)?
                .label(trial.governor)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        }
        if line.is_some() {
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

/// The price beside par.
fn price(sample: &Sample) -> Option<f64> {
    sample.price.map(|price| (price.0 as f64 / policy().par.0 as f64).max(1.0))
}

/// Where a stretch of samples lies: supply is dithered, so a single sample would show noise.
fn mean(chunk: &[Sample], value: impl Fn(&Sample) -> Option<f64>) -> Option<(f64, f64)> {
    let values: Vec<f64> = chunk.iter().filter_map(value).collect();
    let count = values.len() as f64;
    (!values.is_empty()).then(|| (chunk[0].seconds, values.iter().sum::<f64>() / count))
}
