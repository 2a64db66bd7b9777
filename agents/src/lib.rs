//! The agents that ship with Maxwell: as readable WebAssembly text, and two native programs for experiments on a whole machine
//! ([`native`]).
//!
//! | name | what it does |
//! |---|---|
//! | `scientist` | finds primes, submits them, bids what a core-second earns it |
//! | `miner` | hashes nonces and churns memory, bids twice the price and more |
//! | `clerk` | a little work in every tick, then waits |
//! | `leech` | an endless loop |

pub mod native;

/// A built-in agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Builtin {
    /// Its name in scenarios.
    pub name: &'static str,
    /// Its program, as WebAssembly text.
    pub text: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
}

/// All of them.
pub const BUILTINS: [Builtin; 4] = [
    Builtin { name: "scientist", text: include_str!("scientist.wat"), about: "finds primes and sells them" },
    Builtin { name: "miner", text: include_str!("miner.wat"), about: "hashes nonces and churns memory" },
    Builtin { name: "clerk", text: include_str!("clerk.wat"), about: "a little work in every tick" },
    Builtin { name: "leech", text: include_str!("leech.wat"), about: "an endless loop" },
];

/// The built-in agent called `name`.
#[must_use]
pub fn builtin(name: &str) -> Option<Builtin> {
    BUILTINS.into_iter().find(|builtin| builtin.name == name)
}
