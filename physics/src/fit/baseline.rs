//! Formulas that others use where there is no meter, fitted and scored on the same rows and blocks as ours.

use super::least_squares::Normal;

/// A formula that is linear in its few constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Formula {
    /// Idle power and a slope over the machine's utilisation: Cloud Carbon Footprint's form.
    Line,
    /// CodeCarbon 3.2: `TDP · (0.1 + 0.9 u³)`.
    Cubic {
        /// The TDP, or the one that fits best.
        tdp: Option<f64>,
    },
}

impl Formula {
    fn terms(self, utilisation: f64) -> Vec<f64> {
        match self {
            Self::Line => vec![1.0, utilisation],
            Self::Cubic { .. } => vec![0.1 + 0.9 * utilisation.powi(3)],
        }
    }

    fn predict(self, constants: &[f64], utilisation: f64) -> f64 {
        self.terms(utilisation).iter().zip(constants).map(|(term, constant)| term * constant).sum()
    }

    fn constants(self, rows: &[(f64, f64, usize)], without: Option<usize>) -> Vec<f64> {
        if let Self::Cubic { tdp: Some(tdp) } = self {
            return vec![tdp];
        }
        let mut normal = Normal::new(self.terms(0.0).len());
        for (utilisation, watts, _) in rows.iter().filter(|row| Some(row.2) != without) {
            normal.row(&self.terms(*utilisation), *watts);
        }
        normal.non_negative()
    }

    /// The mean absolute errors in-sample and held out, of rows (utilisation, watts, block).
    pub(super) fn score(self, rows: &[(f64, f64, usize)], blocks: usize) -> (f64, f64) {
        let miss = |constants: &[f64], row: &(f64, f64, usize)| (self.predict(constants, row.0) - row.1).abs();
        let all = self.constants(rows, None);
        let inside: f64 = rows.iter().map(|row| miss(&all, row)).sum();
        let outside: f64 = (0..blocks)
            .map(|block| {
                let constants = self.constants(rows, Some(block));
                rows.iter().filter(|row| row.2 == block).map(|row| miss(&constants, row)).sum::<f64>()
            })
            .sum();
        let count = rows.len().max(1) as f64;
        (inside / count, outside / count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_fits_what_it_made_itself() {
        let cubic = |u: f64| 65.0 * (0.1 + 0.9 * u * u * u);
        let rows: Vec<_> = (0..20).map(|n| (n as f64 / 19.0, cubic(n as f64 / 19.0), n / 5)).collect();
        for tdp in [None, Some(65.0)] {
            let (inside, outside) = Formula::Cubic { tdp }.score(&rows, 4);
            assert!(inside < 1e-4 && outside < 1e-4, "{inside} {outside}");
        }
        let (inside, outside) = Formula::Line.score(&rows, 4);
        assert!(inside > 1.0 && outside > inside, "a line is no cube: {inside} {outside}");
    }
}
