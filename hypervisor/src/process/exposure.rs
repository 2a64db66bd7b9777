//! How much an agent wants to erase in a turn. Its lease covers the tax on that, or on as much as its wallet has left, and says on
//! how much; there its turn ends.

use maxwell_core::Bytes;

/// What a new agent may erase in its first turns: executing a program and starting an interpreter erases some megabytes.
pub const ERASABLE: Bytes = Bytes(4 << 20);
/// Turns in which much less was erased, after which the allowance is halved.
const MEMORY: u8 = 50;

/// Doubles when it was reached, like the window of a connection, and is halved when it is not needed for a while: who erases
/// much covers much, and everybody else is not kept from using its last joules.
#[derive(Debug)]
pub(super) struct Exposure {
    bytes: u64,
    quiet_turns: u8,
}

impl Default for Exposure {
    fn default() -> Self {
        Self { bytes: ERASABLE.0, quiet_turns: 0 }
    }
}

impl Exposure {
    /// What it may want to erase in the next turn, when `erased` bytes were erased in the last.
    pub(super) fn observe(&mut self, erased: u64) -> Bytes {
        if erased >= self.bytes {
            self.bytes = erased.saturating_mul(2);
            self.quiet_turns = 0;
        } else if erased < self.bytes / 4 {
            self.quiet_turns += 1;
            if self.quiet_turns >= MEMORY {
                self.bytes = (self.bytes / 2).max(ERASABLE.0);
                self.quiet_turns = 0;
            }
        } else {
            self.quiet_turns = 0;
        }
        Bytes(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_what_is_erased_and_shrinks_slowly() {
        let mut exposure = Exposure::default();
        assert_eq!(exposure.observe(1), ERASABLE);
        assert_eq!(exposure.observe(5 << 20), Bytes(10 << 20));
        assert_eq!(exposure.observe(9 << 20), Bytes(10 << 20));
        let after: Vec<Bytes> = (0..200).map(|_| exposure.observe(0)).collect();
        assert_eq!((after[48], after[49], after[199]), (Bytes(10 << 20), Bytes(5 << 20), ERASABLE));
    }
}
