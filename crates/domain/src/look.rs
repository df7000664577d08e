//! What a look at the lines of queued jobs takes and gives: floors to look from, the lowest keys seen, and the bounds
//! that say what may not have been seen. What they mean together is told in `policy::floors`.

use chrono::{DateTime, Utc};

/// The two floors of a pair; `None`: look from the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PairFloors {
    /// Of the line of jobs that came back or were scheduled.
    pub returned: Option<DateTime<Utc>>,
    /// Of the line of fresh jobs.
    pub fresh: Option<DateTime<Utc>>,
}

/// The lowest keys that a look showed of a pair; `None`: the line was empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LowestKeys {
    /// Of the line of jobs that came back or were scheduled.
    pub returned: Option<DateTime<Utc>>,
    /// Of the line of fresh jobs.
    pub fresh: Option<DateTime<Utc>>,
}

/// Between which transactions a look was made, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LookBounds {
    /// The database clock before it.
    pub read_at: DateTime<Utc>,
    /// All transactions with a lower id had ended before it.
    pub oldest_xid: u64,
    /// All transactions with this id or a higher one began after it.
    pub next_xid: u64,
}
