//! Heat: the plant that warms, and the controller that prices it.
//!
//! * [`Plant`] is a two-node Foster model of a package and its heat sink, stepped exactly.
//! * [`Controller`] turns temperature and power into a reserve price (the soft loop), a supply of slots (the hard loop)
//!   and, as the last line, a trip that freezes everything.

mod controller;
mod plant;

pub use controller::{Control, Controller, ThermalPolicy};
pub use plant::{FosterNode, Plant, PlantModel};
