//! Reason codes: why an agent waits, stopped or died. One travels with every transition; agents and people read the
//! same ones.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::units::{Joule, Price};

/// What a cell reported when its code failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Trap {
    /// Executed `unreachable`, usually a failed assertion or a panic.
    Unreachable,
    /// Read or wrote outside its memory or table.
    OutOfBounds,
    /// Divided by zero, or overflowed a conversion.
    Arithmetic,
    /// Recursed beyond its stack.
    StackOverflow,
    /// Called through a bad function reference.
    BadCall,
    /// Asked for more memory than it may hold, and gave up.
    MemoryLimit,
    /// Could not be instantiated: an import is missing, a limit is exceeded, a segment does not fit.
    Instantiation,
    /// A process whose program could not be executed.
    Start,
    /// A process that the kernel could not freeze.
    Unfreezable,
    /// Anything else.
    Other,
}

impl Trap {
    /// The machine-readable word.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "trap_unreachable",
            Self::OutOfBounds => "trap_out_of_bounds",
            Self::Arithmetic => "trap_arithmetic",
            Self::StackOverflow => "trap_stack_overflow",
            Self::BadCall => "trap_bad_call",
            Self::MemoryLimit => "trap_memory_limit",
            Self::Instantiation => "trap_instantiation",
            Self::Start => "trap_start",
            Self::Unfreezable => "trap_unfreezable",
            Self::Other => "trap_other",
        }
    }
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// It holds a slot.
    Running,
    /// Its limit is below the reserve, which heat or the grid has raised.
    PricedOut {
        /// The reserve.
        reserve: Price,
        /// What the market bids for the agent.
        bid: Price,
    },
    /// Better bids took every slot.
    Outbid {
        /// What a slot cost.
        spot: Price,
        /// What the market bids for the agent.
        bid: Price,
    },
    /// Same price as the last winner; it is the turn of others.
    OutOfTurn,
    /// Its wallet does not cover the worst case of the shortest slot at the current reserve.
    Illiquid {
        /// What it has.
        wallet: Joule,
        /// What that must be covered with.
        needed: Joule,
    },
    /// Its order says zero: it does not want to run.
    NoOrder,
    /// The die is too hot; nothing runs.
    Tripped,
    /// It could not pay its rent.
    RentUnpaid,
    /// It could not pay one quantum at par for longer than the grace period.
    Insolvent,
    /// It said it was done.
    Finished,
    /// Its code failed.
    Trapped(Trap),
    /// Its owner ended it.
    Killed,
    /// Its owner parked it.
    ParkedByOwner,
    /// Its wallet at birth did not cover the last-words deposit.
    NoDeposit,
}

impl Reason {
    /// The machine-readable word: stable, in reports and logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::PricedOut { .. } => "priced_out",
            Self::Outbid { .. } => "outbid",
            Self::OutOfTurn => "out_of_turn",
            Self::Illiquid { .. } => "illiquid",
            Self::NoOrder => "no_order",
            Self::Tripped => "tripped",
            Self::RentUnpaid => "rent_unpaid",
            Self::Insolvent => "insolvent",
            Self::Finished => "finished",
            Self::Trapped(trap) => trap.code(),
            Self::Killed => "killed",
            Self::ParkedByOwner => "parked_by_owner",
            Self::NoDeposit => "no_deposit",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => write!(f, "holds a slot"),
            Self::PricedOut { reserve, bid } => write!(f, "bids {bid}, below the reserve of {reserve}"),
            Self::Outbid { spot, bid } => write!(f, "bids {bid}; a slot went for {spot}"),
            Self::OutOfTurn => write!(f, "bids as much as the last winner; it is others' turn"),
            Self::Illiquid { wallet, needed } => {
                write!(f, "has {wallet}; the shortest slot must be covered with {needed}")
            }
            Self::NoOrder => write!(f, "bids nothing"),
            Self::Tripped => write!(f, "the die is too hot, nothing runs"),
            Self::RentUnpaid => write!(f, "could not pay its rent"),
            Self::Insolvent => write!(f, "could not pay for a slot at par for longer than the grace period"),
            Self::Finished => write!(f, "finished its work"),
            Self::Trapped(trap) => match trap {
                Trap::Unreachable => write!(f, "its code reached `unreachable`"),
                Trap::OutOfBounds => write!(f, "its code left its memory"),
                Trap::Arithmetic => write!(f, "its code divided by zero or overflowed a conversion"),
                Trap::StackOverflow => write!(f, "its code recursed beyond its stack"),
                Trap::BadCall => write!(f, "its code called a bad function reference"),
                Trap::MemoryLimit => write!(f, "it needs more memory than it may hold"),
                Trap::Instantiation => write!(f, "it could not be instantiated"),
                Trap::Start => write!(f, "its program could not be executed"),
                Trap::Unfreezable => write!(f, "could not be frozen: something in it was busy in the kernel"),
                Trap::Other => write!(f, "its code failed"),
            },
            Self::Killed => write!(f, "was ended by its owner"),
            Self::ParkedByOwner => write!(f, "was parked by its owner"),
            Self::NoDeposit => write!(f, "its wallet did not cover the last-words deposit"),
        }
    }
}
