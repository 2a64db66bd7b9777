//! What the machine's temperature and energy are, and how much to believe it.
//!
//! * [`ModelSensor`] models power and heat from utilisation, for machines that show no sensor (virtual machines, mostly).
//!   It speaks through the same wrapping 32-bit counter as hardware, and everything it says is labelled modelled.
//! * [`Instruments`] are the machine's sensors: the best of energy and of temperature, read through [`sensors`], with the
//!   model where there is none.
//! * [`OtherLoad`] is how busy the rest of the machine is: the model is driven by real utilisation, not only Maxwell's.

mod model;
pub mod sensors;
mod utilisation;

pub use model::{ModelConfig, ModelSensor};
pub use sensors::{Choice, Instruments, Pick, Root, SensorError, Survey, TruedUp, survey};
pub use utilisation::OtherLoad;
