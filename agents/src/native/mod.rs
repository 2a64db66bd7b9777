//! What the native agents, `scientist` and `miner`, are made of.
//!
//! ```text
//!  primes ──► search: batches of primes, each with a digest ──► stdout, a line a batch
//!                     └──────── the last prime of each ───────► market: submitted, if MAXWELL_SOCKET is there
//!  wake:  a thread that sleeps 10 ms at a time, and says how late it woke
//! ```
//!
//! They need nothing but the standard library, JSON and SHA-256, and know nothing of the arm of the experiment in which
//! they run: a line on stdout is their only result, and whoever reads it can compute every batch again.

pub mod market;
pub mod primes;
pub mod search;
pub mod wake;
