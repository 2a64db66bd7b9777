//! The loop that joins market, physics and cells, and what goes into and out of it.
//!
//! * [`scenario`] reads what is to be run from a TOML file, with errors that say where and what to do.
//! * [`machine`] is the real-time loop: every 10 ms it reads the sensor, collects usage, lets the market decide and
//!   dispatches the decision.
//! * [`recording`] keeps the stream of facts, and replays it against the market.
//! * [`exec`] runs one command under a budget, in a market of its own; [`signals`] are what it passes on.
//! * [`doctor`] looks at what the machine offers, [`tune`] swings its temperature to learn how it warms.
//! * [`report`] is the machine-readable result, [`notice`] what watchers are told while it runs.

pub mod doctor;
pub mod exec;
pub mod machine;
pub mod notice;
mod realtime;
pub mod recording;
pub mod report;
pub mod scenario;
pub mod signals;
pub mod tune;
