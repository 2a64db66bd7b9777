//! The market of Maxwell: who computes, at what price, and who pays.
//!
//! This crate is a deterministic state machine. It performs no I/O, reads no clock, starts no thread and draws no random
//! number; the same inputs give the same outputs, bit for bit, in debug and in release builds. Money is integer
//! nanojoules everywhere. Floating point appears only in thermal control, and only through operations that IEEE 754
//! defines exactly or through the pure-Rust `libm`.
//!
//! The story of the types, from the bottom up:
//!
//! * [`units`] gives every quantity a type: [`Joule`] (nJ), [`Price`] (mW), [`Micros`], [`Bytes`], [`Tick`].
//! * [`ladder`] maps prices to 65,536 log-spaced levels; [`book`] keeps the standing orders on that ladder, with O(1)
//!   updates; [`clearing`] turns the top of the book into winners and prices under one of four pricing rules.
//! * [`accounts`] is the double-entry book of all $JOULE; [`landauer`] prices erased and held bytes; [`bounty`] verifies
//!   useful work; [`pacing`] stretches a budget over a lifetime.
//! * [`thermal`] holds the two-node plant and the controller that turns temperature into a reserve price and a supply of
//!   slots; [`energy`] turns a wrapping hardware counter into exactly conserved nanojoules; [`sensor`] is the trait that
//!   `physics` implements.
//! * [`market`] joins them: [`Market::tick`](market::Market::tick) is the whole hypervisor policy as one function from
//!   facts ([`TickInput`](market::TickInput)) to decisions ([`Outcome`](market::Outcome)).

pub mod accounts;
pub mod agent;
pub mod book;
pub mod bounty;
pub mod clearing;
pub mod energy;
pub mod ladder;
pub mod landauer;
pub mod market;
pub mod pacing;
mod prefetch;
pub mod reason;
pub mod sensor;
pub mod thermal;
pub mod units;
pub mod wheel;

pub use units::{AgentId, Bytes, Celsius, Joule, Micros, Price, PrincipalId, Tick, Watts};
