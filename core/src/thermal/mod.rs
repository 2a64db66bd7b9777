//! Heat: the plant that warms, and the controller that prices it.
//!
//! * [`Plant`] is a two-node Foster model of a package and its heat sink, stepped exactly.
//! * [`Controller`] turns temperature and power into a reserve price (the soft loop), a supply of slots (the hard loop)
//!   and, as the last line, a trip that freezes everything. Inside it an observer estimates the plant's state between the
//!   thermometer's steps, an identifier learns the plant's constants, and a guard decides whether the thermometer can be
//!   believed.
//! * [`RelayTuner`] finds the gains of a plant by swinging it, when somebody asks for that.

mod controller;
mod guard;
mod identify;
mod observer;
mod plant;
mod relay;

pub use controller::{Control, Controller, ThermalPolicy};
pub use plant::{FosterNode, Plant, PlantModel};
pub use relay::{Relay, RelayError, RelayPolicy, RelayTuner, Tuning};
