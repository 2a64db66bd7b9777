//! Primes, fast: Miller–Rabin in Montgomery form.

/// What most composites are divisible by. The product of all is not needed: one remainder each is cheap beside one power.
const SMALL: [u64; 16] = [3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59];
/// They decide every number below 3.3 · 10²⁴ (Sorenson & Webster, "Strong pseudoprimes to twelve prime bases", *Math. Comp.*
/// 86, 2017).
const BASES: [u64; 12] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37];

/// Arithmetic modulo an odd number, on `a · 2⁶⁴` instead of `a` (Montgomery, *Math. Comp.* 44, 1985).
#[derive(Clone, Copy, Debug)]
struct Montgomery {
    n: u64,
    /// `−1/n mod 2⁶⁴`
    inverse: u64,
    /// `2¹²⁸ mod n`: takes a number into the form.
    square: u64,
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn low(wide: u128) -> u64 {
    wide as u64
}

impl Montgomery {
    fn new(n: u64) -> Self {
        // Newton: each step doubles the bits that are right, and an odd number is its own inverse modulo 8.
        let mut inverse = n;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(n.wrapping_mul(inverse)));
        }
        let one = low((1 << 64) % u128::from(n));
        let square = low(u128::from(one) * u128::from(one) % u128::from(n));
        Self { n, inverse: inverse.wrapping_neg(), square }
    }

    fn times(&self, a: u64, b: u64) -> u64 {
        let product = u128::from(a) * u128::from(b);
        let multiple = low(product).wrapping_mul(self.inverse);
        let (sum, over) = product.overflowing_add(u128::from(multiple) * u128::from(self.n));
        let high = low(sum >> 64);
        if over || high >= self.n { high.wrapping_sub(self.n) } else { high }
    }

    fn enter(&self, a: u64) -> u64 {
        self.times(a % self.n, self.square)
    }
}

/// Whether `n` is prime. Decided, not guessed.
#[must_use]
pub fn is_prime(n: u64) -> bool {
    if n < 4 || n.is_multiple_of(2) {
        return n == 2 || n == 3;
    }
    if let Some(divisor) = SMALL.into_iter().find(|p| n.is_multiple_of(*p)) {
        return n == divisor;
    }
    let field = Montgomery::new(n);
    let one = field.enter(1);
    let minus_one = n - one;
    let twos = (n - 1).trailing_zeros();
    let odd = (n - 1) >> twos;
    BASES.into_iter().all(|base| {
        let (mut power, mut square, mut exponent) = (one, field.enter(base), odd);
        while exponent > 0 {
            if exponent & 1 == 1 {
                power = field.times(power, square);
            }
            square = field.times(square, square);
            exponent >>= 1;
        }
        if power == one || power == minus_one {
            return true;
        }
        (1..twos).any(|_| {
            power = field.times(power, power);
            power == minus_one
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_the_verifier_of_sponsors() {
        // Small ones, the neighbourhood of powers of two, strong pseudoprimes to few bases, and the largest of all.
        let around = |n: u64| n.saturating_sub(300)..=n.saturating_add(300);
        let near = [300, 1 << 16, 1 << 32, 1 << 42, 1 << 62, 1 << 63, u64::MAX].into_iter().flat_map(around);
        let hard = [2_047, 1_373_653, 25_326_001, 3_215_031_751, 3_474_749_660_383, 341_550_071_728_321];
        for n in near.chain(hard) {
            assert_eq!(is_prime(n), maxwell_core::bounty::is_prime(n), "{n}");
        }
    }
}
