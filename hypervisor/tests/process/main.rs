//! The process cell's building blocks against real processes, most of them hostile (`examples/hostile.rs`).
//!
//! They need root and a writable cgroup v2, and say so where they lack it.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

mod arena;
mod fallback;
mod freezing;
mod groups;
mod orphaned;
mod programs;
mod sandbox;
mod starting;
