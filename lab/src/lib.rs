//! Experiments in virtual time, on the same market that runs machines.
//!
//! * [`experiment`] is Scientist versus Leech: useless agents and useful ones under a market and its rivals.
//! * [`thermal`] puts Maxwell's thermal control and Linux's `power_allocator` on the same modelled plants.
//!
//! Everything here is deterministic: the same case gives the same trace, bit for bit.

pub mod experiment;
pub mod thermal;
