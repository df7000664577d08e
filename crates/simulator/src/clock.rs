//! The one place where the simulator reads the wall clock: it is a server of its own, whose answers and ledger carry
//! the time of day. Limits use the monotonic clock.

use chrono::{DateTime, Utc};

#[expect(
    clippy::disallowed_methods,
    reason = "the simulator stands for somebody else's server, with its own clock"
)]
pub(crate) fn wall_now() -> DateTime<Utc> {
    Utc::now()
}
