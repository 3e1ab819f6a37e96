//! Time as the store keeps it: microseconds since 1970, which both databases compare as integers.

use jiff::Timestamp;

/// Microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub i64);

impl Micros {
    /// The system's time. The store is the only place of this crate that stamps what is written.
    pub fn now() -> Self {
        Self(Timestamp::now().as_microsecond())
    }

    /// For people and other programs.
    pub fn timestamp(self) -> Timestamp {
        // Out of range only when somebody else wrote the row.
        Timestamp::from_microsecond(self.0).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

impl From<Timestamp> for Micros {
    fn from(time: Timestamp) -> Self {
        Self(time.as_microsecond())
    }
}
