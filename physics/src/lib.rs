//! What the machine's temperature and energy are, and how much to believe it.
//!
//! * [`ModelSensor`] models power and heat from utilisation, for machines that show no sensor (virtual machines, mostly).
//!   It speaks through the same wrapping 32-bit counter as hardware, and everything it says is labelled modelled.
//! * [`power`] is the model of power; [`cpu`] has default numbers by family of CPU, and [`fit`] learns a machine's own
//!   from traces of a meter. A [`profile`] is the file that keeps them.
//! * [`Instruments`] are the machine's sensors: the best of energy and of temperature, read through [`sensors`], with the
//!   model where there is none.
//! * [`TaskClock`] is the core time of a cgroup, exact at the scale of a tick.
//! * [`OtherLoad`] is how busy the rest of the machine is: the model is driven by real utilisation, not only Maxwell's.

pub mod artefact;
mod clock;
pub mod cpu;
pub mod fit;
mod model;
pub mod power;
pub mod profile;
pub mod sensors;
mod utilisation;

pub use model::{ModelConfig, ModelSensor};
pub use sensors::{Choice, Instruments, Pick, Root, SensorError, Survey, TaskClock, TaskClockError, TruedUp, survey};
pub use utilisation::OtherLoad;
