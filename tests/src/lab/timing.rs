//! Lease TTL, beat, scan and poll, as the processes of the lab are told.

use std::time::Duration;

/// Between two looks of a worker for work, and the jitter on top.
const POLL: Duration = Duration::from_secs(2);

/// The times that recovery depends on. Beat and scan follow the TTL, as `SLUICE_LEASE_TTL` has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Lease TTL.
    pub ttl: Duration,
}

impl Timing {
    /// The product's own: 15 s.
    pub const USUAL: Self = Self { ttl: Duration::from_secs(15) };
    /// Shortened, for tests.
    pub const SHORT: Self = Self { ttl: Duration::from_secs(4) };

    /// Between two beats.
    pub fn beat(self) -> Duration {
        self.ttl / 5
    }

    /// Between two scans for dead workers.
    pub fn scan(self) -> Duration {
        self.ttl * 2 / 15
    }

    /// How long after its worker's death a job may take to run again: 19 s with the usual times.
    pub fn rescue(self) -> Duration {
        self.ttl + self.scan() + POLL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_times_are_those_of_the_promise() {
        let usual = Timing::USUAL;
        let seconds = [usual.ttl, usual.beat(), usual.scan(), usual.rescue()].map(|time| time.as_secs());
        assert_eq!(seconds, [15, 3, 2, 19]);
    }
}
