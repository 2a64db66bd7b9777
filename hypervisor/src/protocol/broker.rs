//! stub
/// x
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// x
    Ended,
}
