//! Linear least squares for a handful of unknowns and any number of rows.
//!
//! Rows are summed into normal equations and forgotten, so a million cost no memory, and the sums of several blocks can be
//! added: leaving a block out is adding the others. Unknowns that must not be negative are found by Lawson and Hanson's
//! active set (*Solving Least Squares Problems*, 1974, chapter 23), here on the normal equations.

/// Sums over rows of `x·xᵀ` and `x·y`.
#[derive(Clone, Debug)]
pub(super) struct Normal {
    width: usize,
    gram: Vec<f64>,
    moment: Vec<f64>,
    squares: f64,
}

/// Unknowns that the rows cannot tell apart share what they explain. In parts of a column's own size.
const RIDGE: f64 = 1e-9;

impl Normal {
    /// No rows yet.
    pub(super) fn new(width: usize) -> Self {
        Self { width, gram: vec![0.0; width * width], moment: vec![0.0; width], squares: 0.0 }
    }

    /// One more row.
    pub(super) fn row(&mut self, x: &[f64], y: f64) {
        for ((line, moment), a) in self.gram.chunks_exact_mut(self.width).zip(&mut self.moment).zip(x) {
            *moment += a * y;
            for (sum, b) in line.iter_mut().zip(x) {
                *sum += a * b;
            }
        }
        self.squares += y * y;
    }

    /// The rows of another, too.
    pub(super) fn add(&mut self, other: &Self) {
        let sums = self.gram.iter_mut().chain(&mut self.moment);
        sums.zip(other.gram.iter().chain(&other.moment)).for_each(|(sum, more)| *sum += more);
        self.squares += other.squares;
    }

    fn gram(&self, row: usize, column: usize) -> f64 {
        self.gram.get(row * self.width + column).copied().unwrap_or(0.0)
    }

    fn moment(&self, row: usize) -> f64 {
        self.moment.get(row).copied().unwrap_or(0.0)
    }

    /// The best values of some unknowns, the others being zero. `None` where the rows do not determine them.
    pub(super) fn solve(&self, unknowns: &[usize]) -> Option<Vec<f64>> {
        let n = unknowns.len();
        // Cholesky, row by row: `lower` holds the triangle's rows one after another.
        let mut lower: Vec<Vec<f64>> = Vec::with_capacity(n);
        let mut half: Vec<f64> = Vec::with_capacity(n);
        for (i, a) in unknowns.iter().enumerate() {
            let mut line: Vec<f64> = Vec::with_capacity(i + 1);
            for (other, b) in lower.iter().zip(unknowns) {
                let dot: f64 = line.iter().zip(other).map(|(x, y)| x * y).sum();
                line.push((self.gram(*a, *b) - dot) / other.last()?);
            }
            let own = self.gram(*a, *a);
            let rest = own * (1.0 + RIDGE) - line.iter().map(|x| x * x).sum::<f64>();
            if !(own > 0.0 && rest > own * RIDGE * 1e-3) {
                return None;
            }
            line.push(rest.sqrt());
            let dot: f64 = line.iter().zip(&half).map(|(x, y)| x * y).sum();
            half.push((self.moment(*a) - dot) / rest.sqrt());
            lower.push(line);
        }
        let mut values = half;
        for i in (0..n).rev() {
            let line = lower.get(i)?;
            let value = values.get(i)? / line.get(i)?;
            values.iter_mut().zip(line).take(i).for_each(|(earlier, factor)| *earlier -= factor * value);
            *values.get_mut(i)? = value;
        }
        values.iter().all(|value| value.is_finite()).then_some(values)
    }

    /// The best values of all unknowns, none below zero.
    pub(super) fn non_negative(&self) -> Vec<f64> {
        let mut values = vec![0.0; self.width];
        let mut free: Vec<usize> = Vec::new();
        let mut barred = vec![false; self.width];
        // Each round frees one unknown; three rounds for each is Lawson and Hanson's own bound.
        for _ in 0..3 * self.width {
            let gain = |at: usize| {
                let used: f64 = values.iter().enumerate().map(|(b, value)| self.gram(at, b) * value).sum();
                (self.moment(at) - used) / (self.gram(at, at) * self.squares).sqrt()
            };
            let bound =
                (0..self.width).filter(|at| !free.contains(at) && !barred.get(*at).is_some_and(|barred| *barred));
            let best = bound.map(|at| (gain(at), at)).filter(|best| best.0 > 1e-10).max_by(|a, b| a.0.total_cmp(&b.0));
            let Some((_, next)) = best else { break };
            free.push(next);
            if !self.descend(&mut values, &mut free) {
                free.retain(|at| *at != next);
                if let Some(barred) = barred.get_mut(next) {
                    *barred = true;
                }
            }
        }
        values
    }

    /// Moves to the best values of the free unknowns, binding again whichever reaches zero on the way.
    fn descend(&self, values: &mut [f64], free: &mut Vec<usize>) -> bool {
        loop {
            let Some(target) = self.solve(free) else { return false };
            let at = |values: &[f64], unknown: usize| values.get(unknown).copied().unwrap_or(0.0);
            // How far towards the target before the first unknown reaches zero.
            let step = free
                .iter()
                .zip(&target)
                .filter(|(_, target)| **target <= 0.0)
                .map(|(unknown, target)| at(values, *unknown) / (at(values, *unknown) - target))
                .fold(1.0f64, |least, step| if step.is_finite() { least.min(step) } else { 0.0 });
            for (unknown, target) in free.iter().zip(&target) {
                if let Some(value) = values.get_mut(*unknown) {
                    *value = (*value + step * (target - *value)).max(0.0);
                }
            }
            if target.iter().all(|target| *target > 0.0) {
                return true;
            }
            let before = free.len();
            let keep: Vec<bool> = free
                .iter()
                .zip(&target)
                .map(|(unknown, target)| *target > 0.0 || at(values, *unknown) > 1e-12)
                .collect();
            let mut keep = keep.into_iter();
            free.retain(|_| keep.next().unwrap_or(true));
            if free.len() == before {
                return false;
            }
            values.iter_mut().enumerate().filter(|(at, _)| !free.contains(at)).for_each(|(_, value)| *value = 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(rows: &[(Vec<f64>, f64)]) -> Normal {
        let mut normal = Normal::new(rows[0].0.len());
        rows.iter().for_each(|(x, y)| normal.row(x, *y));
        normal
    }

    fn squares(rows: &[(Vec<f64>, f64)], values: &[f64]) -> f64 {
        let miss = |(x, y): &(Vec<f64>, f64)| x.iter().zip(values).map(|(a, b)| a * b).sum::<f64>() - y;
        rows.iter().map(|row| miss(row).powi(2)).sum()
    }

    #[test]
    fn a_plane_is_found_exactly() {
        let rows: Vec<_> =
            (0..9).map(|n| (vec![1.0, f64::from(n), f64::from(n * n)], 3.0 + 2.0 * f64::from(n))).collect();
        let values = normal(&rows).solve(&[0, 1, 2]).unwrap();
        assert!((values[0] - 3.0).abs() < 1e-5 && (values[1] - 2.0).abs() < 1e-5 && values[2].abs() < 1e-5);
    }

    #[test]
    fn what_rows_cannot_tell_apart_shares_what_it_explains() {
        let rows: Vec<_> = (0..9).map(|n| (vec![f64::from(n), f64::from(n)], 4.0 * f64::from(n))).collect();
        let values = normal(&rows).non_negative();
        assert!((values[0] + values[1] - 4.0).abs() < 1e-6, "{values:?}");
        assert_eq!(normal(&rows).non_negative().len(), 2);
        let unseen = [(vec![0.0, 1.0], 5.0)];
        assert_eq!(normal(&unseen).solve(&[0]), None);
        assert!((normal(&unseen).non_negative()[1] - 5.0).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn no_neighbour_that_is_not_negative_fits_better(
            rows in prop::collection::vec((prop::collection::vec(0.0..1.0f64, 4), 0.0..10.0f64), 5..30)
        ) {
            let values = normal(&rows).non_negative();
            prop_assert!(values.iter().all(|value| *value >= 0.0));
            let best = squares(&rows, &values);
            for at in 0..4 {
                for step in [1e-3, -1e-3] {
                    let mut other = values.clone();
                    other[at] = f64::max(0.0, other[at] + step);
                    prop_assert!(squares(&rows, &other) >= best - 1e-6, "{values:?} {at} {step}");
                }
            }
        }
    }
}
