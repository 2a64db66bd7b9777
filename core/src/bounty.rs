//! Bounties: who pays for which useful work, and how a claim is checked.
//!
//! A sponsor's verifier decides what was useful. Checking is a pure function of the claim's bytes; it runs in the
//! claimant's own slot, so a flood of claims pays for its own verification. What the market pays for is decided here
//! again, in order: a unit that was paid before pays nothing, whoever claims it, and an empty budget pays nothing. All
//! failures are closed.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::units::{AgentId, Joule};

/// The dense index of a sponsor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SponsorId(pub u16);

/// How a sponsor checks work. A claim is eight bytes, a little-endian `u64`; anything else is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verifier {
    /// The number is prime and at least `least`.
    Prime {
        /// The smallest number that counts.
        least: u64,
    },
    /// SHA-256 of the eight bytes starts with at least `bits` zero bits.
    Hash {
        /// How many.
        bits: u8,
    },
}

impl Verifier {
    /// The number by which agents name this kind of work when they submit: 1 primes, 2 hashes.
    #[must_use]
    pub const fn kind(&self) -> u32 {
        match self {
            Self::Prime { .. } => 1,
            Self::Hash { .. } => 2,
        }
    }

    /// Checks a claim. The unit it returns is what may be paid once.
    ///
    /// # Errors
    ///
    /// Why the claim is worth nothing.
    pub fn verify(&self, claim: &[u8]) -> Result<u64, ClaimFault> {
        let bytes: [u8; 8] = claim.try_into().map_err(|_| ClaimFault::Malformed)?;
        let unit = u64::from_le_bytes(bytes);
        let good = match *self {
            Self::Prime { least } => unit >= least && is_prime(unit),
            Self::Hash { bits } => leading_zeros(&Sha256::digest(bytes)) >= u32::from(bits),
        };
        if good { Ok(unit) } else { Err(ClaimFault::Wrong) }
    }
}

/// Why a claim pays nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum ClaimFault {
    /// Not eight bytes, or outside the agent's memory.
    #[error("the claim is not eight bytes")]
    Malformed,
    /// The verifier says no.
    #[error("the verifier rejects it")]
    Wrong,
    /// The same agent was paid for this unit before.
    #[error("this agent was already paid for it")]
    Duplicate,
    /// Another agent was paid for this unit before.
    #[error("another agent was already paid for it")]
    Taken,
    /// The sponsor cannot pay a whole reward any more, or there is no such sponsor.
    #[error("no sponsor pays for it")]
    Unfunded,
}

/// One sponsor's offer and what it has paid for.
#[derive(Clone, Debug)]
pub struct Bounty {
    /// What counts as work.
    pub verifier: Verifier,
    /// What one verified unit earns.
    pub reward: Joule,
    /// Units paid for, and to whom.
    paid: HashMap<u64, AgentId>,
}

impl Bounty {
    /// An offer that can pay at most `budget`. Memory for the units it can pay is set aside now, up to 65,536.
    #[must_use]
    pub fn new(verifier: Verifier, reward: Joule, budget: Joule) -> Self {
        let units = budget.0.checked_div(reward.0).unwrap_or(0).min(1 << 16);
        Self { verifier, reward, paid: HashMap::with_capacity(usize::try_from(units).unwrap_or(0)) }
    }

    /// Whether `agent` may be paid for `unit` now; remembers it if so.
    ///
    /// # Errors
    ///
    /// [`ClaimFault::Duplicate`] or [`ClaimFault::Taken`].
    pub fn take(&mut self, unit: u64, agent: AgentId) -> Result<(), ClaimFault> {
        match self.paid.get(&unit) {
            Some(owner) if *owner == agent => Err(ClaimFault::Duplicate),
            Some(_) => Err(ClaimFault::Taken),
            None => {
                self.paid.insert(unit, agent);
                Ok(())
            }
        }
    }

    /// How many units were paid for.
    #[must_use]
    pub fn units_paid(&self) -> usize {
        self.paid.len()
    }
}

fn leading_zeros(hash: &[u8]) -> u32 {
    let zero_bytes = hash.iter().take_while(|byte| **byte == 0).count();
    let rest = hash.get(zero_bytes).map_or(0, |byte| byte.leading_zeros());
    u32::try_from(zero_bytes * 8).expect("32 bytes") + rest
}

/// Miller–Rabin with the first twelve primes as bases, which decides every number below 3.3 · 10²⁴ (Sorenson & Webster,
/// "Strong pseudoprimes to twelve prime bases", *Math. Comp.* 86, 2017). Some three microseconds for a 64-bit prime: remainders are
/// taken Montgomery's way.
#[must_use]
pub fn is_prime(n: u64) -> bool {
    const BASES: [u64; 12] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37];
    if n < 2 {
        return false;
    }
    for p in BASES {
        if n.is_multiple_of(p) {
            return n == p;
        }
    }
    let ring = Montgomery::modulo(n);
    let (one, minus_one) = (ring.enter(1), ring.enter(n - 1));
    let twos = (n - 1).trailing_zeros();
    let odd = (n - 1) >> twos;
    BASES.iter().all(|base| {
        let (mut power, mut square, mut exponent) = (one, ring.enter(*base), odd);
        while exponent > 0 {
            if exponent & 1 == 1 {
                power = ring.times(power, square);
            }
            square = ring.times(square, square);
            exponent >>= 1;
        }
        if power == one || power == minus_one {
            return true;
        }
        (1..twos).any(|_| {
            power = ring.times(power, power);
            power == minus_one
        })
    })
}

/// Multiplication modulo an odd number without a division. A residue *x* is written as *x* · 2⁶⁴ (P. Montgomery, "Modular
/// multiplication without trial division", *Math. Comp.* 44, 1985).
struct Montgomery {
    modulus: u64,
    /// 1 / modulus, modulo 2⁶⁴.
    inverse: u64,
    /// 2¹²⁸, modulo the modulus.
    square: u64,
}

impl Montgomery {
    fn modulo(modulus: u64) -> Self {
        // Newton's method: an odd number is its own inverse modulo 8, and each step doubles the bits that are right.
        let mut inverse = modulus;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(modulus.wrapping_mul(inverse)));
        }
        // No power of two is a multiple of an odd number, so this stays below the modulus.
        Self { modulus, inverse, square: low(u128::MAX % u128::from(modulus)) + 1 }
    }

    /// A residue, as this writes it.
    fn enter(&self, residue: u64) -> u64 {
        self.times(residue, self.square)
    }

    fn times(&self, a: u64, b: u64) -> u64 {
        let product = u128::from(a) * u128::from(b);
        let multiple = u128::from(low(product).wrapping_mul(self.inverse)) * u128::from(self.modulus);
        let (high, taken) = (high(product), high(multiple));
        if high >= taken { high - taken } else { high + (self.modulus - taken) }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the lower half is meant")]
const fn low(wide: u128) -> u64 {
    wide as u64
}

const fn high(wide: u128) -> u64 {
    low(wide >> 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primality_agrees_with_a_sieve_and_with_known_pseudoprimes() {
        let mut sieve = vec![true; 200_000];
        (sieve[0], sieve[1]) = (false, false);
        for p in 2..450 {
            if sieve[p] {
                (p * p..sieve.len()).step_by(p).for_each(|m| sieve[m] = false);
            }
        }
        for (n, prime) in (0..).zip(&sieve) {
            assert_eq!(is_prime(n), *prime, "{n}");
        }
        // Strong pseudoprimes to the first 2, 4 and 9 prime bases (OEIS A014233), and the largest 64-bit prime.
        for n in [1_373_653, 3_215_031_751, 3_825_123_056_546_413_051] {
            assert!(!is_prime(n), "{n}");
        }
        assert!(is_prime(18_446_744_073_709_551_557));
    }

    #[test]
    fn montgomerys_products_are_those_of_division() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            seed ^ (seed >> 29)
        };
        for small in 0..20_000 {
            let modulus = (if small % 2 == 0 { u64::MAX - next() % 1_000 } else { next() >> (small % 60) }) | 1;
            if modulus == 1 {
                continue;
            }
            let (a, b) = (next() % modulus, next() % modulus);
            let ring = Montgomery::modulo(modulus);
            let product = ring.times(ring.times(ring.enter(a), ring.enter(b)), 1);
            assert_eq!(
                u128::from(product),
                u128::from(a) * u128::from(b) % u128::from(modulus),
                "{a} * {b} mod {modulus}"
            );
        }
    }

    #[test]
    fn only_eight_good_bytes_are_a_claim() {
        let primes = Verifier::Prime { least: 100 };
        assert_eq!(primes.verify(&101u64.to_le_bytes()), Ok(101));
        assert_eq!(primes.verify(&97u64.to_le_bytes()), Err(ClaimFault::Wrong), "below the least");
        assert_eq!(primes.verify(&102u64.to_le_bytes()), Err(ClaimFault::Wrong));
        assert_eq!(primes.verify(&[1, 2, 3]), Err(ClaimFault::Malformed));
        assert_eq!(primes.verify(&[]), Err(ClaimFault::Malformed));
    }

    #[test]
    fn a_hash_claim_needs_its_zeros() {
        let easy = Verifier::Hash { bits: 8 };
        let nonce = (0u64..).find(|n| easy.verify(&n.to_le_bytes()).is_ok()).unwrap();
        assert_eq!(Sha256::digest(nonce.to_le_bytes())[0], 0);
        assert_eq!(Verifier::Hash { bits: 200 }.verify(&nonce.to_le_bytes()), Err(ClaimFault::Wrong));
    }

    #[test]
    fn a_unit_is_paid_once_whoever_asks() {
        let mut bounty = Bounty::new(Verifier::Prime { least: 2 }, Joule(5), Joule(100));
        assert_eq!(bounty.take(7, AgentId(1)), Ok(()));
        assert_eq!(bounty.take(7, AgentId(1)), Err(ClaimFault::Duplicate));
        assert_eq!(bounty.take(7, AgentId(2)), Err(ClaimFault::Taken));
        assert_eq!(bounty.units_paid(), 1);
    }
}
