//! The outage brake: when a reaper may mark workers dead.
//!
//! While Postgres is away nobody can beat, so after an outage every worker looks dead. A reaper that expired them then
//! would have every call in flight repeated. So a reaper that has reason to think that time passed which workers could
//! not use marks nobody for one full TTL: it just started, it could not scan for more than half a TTL, database time
//! and its own monotonic time disagree by more than a second, or the server's postmaster is another one (also an older
//! one: a standby that was promoted).

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// How far database time and monotonic time may drift apart between two scans.
const TOLERANCE: TimeDelta = TimeDelta::seconds(1);

/// A scan as the database answered it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scan {
    /// The reaper's own monotonic time, since any fixed moment.
    pub at: Duration,
    /// The database time.
    pub database_now: DateTime<Utc>,
    /// When the server's postmaster started.
    pub postmaster_start: DateTime<Utc>,
}

/// The brake of one reaper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutageBrake {
    ttl: Duration,
    last: Option<Scan>,
    holds_until: Option<Duration>,
}

impl OutageBrake {
    /// The brake of a reaper that just started: it holds from its first scan on for one TTL.
    pub const fn new(ttl: Duration) -> Self {
        Self { ttl, last: None, holds_until: None }
    }

    /// What the next scan should expect of the database at monotonic time `at`: its time and its postmaster start;
    /// `None` while the brake holds, and then nobody may be marked dead.
    pub fn expects(&self, at: Duration) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let last = self.last?;
        let since = at.saturating_sub(last.at);
        if self.holds(at) || since > self.ttl / 2 {
            return None;
        }
        let elapsed = TimeDelta::from_std(since).ok()?;
        Some((last.database_now.checked_add_signed(elapsed)?, last.postmaster_start))
    }

    /// Takes note of a scan's answer; engages the brake where it gives reason to.
    pub fn note_scan(&mut self, scan: Scan) {
        if self.gives_reason(&scan) {
            self.holds_until = Some(scan.at + self.ttl);
        }
        self.last = Some(scan);
    }

    /// Whether the brake holds at monotonic time `at`.
    pub fn holds(&self, at: Duration) -> bool {
        self.holds_until.is_none_or(|until| at < until)
    }

    fn gives_reason(&self, scan: &Scan) -> bool {
        let Some(last) = self.last else { return true };
        let since = scan.at.saturating_sub(last.at);
        let drift = TimeDelta::from_std(since).map_or(TimeDelta::MAX, |elapsed| {
            (scan.database_now.signed_duration_since(last.database_now) - elapsed).abs()
        });
        since > self.ttl / 2 || drift > TOLERANCE || scan.postmaster_start != last.postmaster_start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(15);

    fn scan(at_s: u64, database_s: i64, start_s: i64) -> Scan {
        Scan {
            at: Duration::from_secs(at_s),
            database_now: DateTime::from_timestamp(database_s, 0).unwrap(),
            postmaster_start: DateTime::from_timestamp(start_s, 0).unwrap(),
        }
    }

    /// A brake that has been let go: scanned every two seconds from 0 to 20.
    fn released() -> OutageBrake {
        let mut brake = OutageBrake::new(TTL);
        for at in (0..=20).step_by(2) {
            brake.note_scan(scan(at, 1_000 + at as i64, 7));
        }
        assert!(!brake.holds(Duration::from_secs(20)));
        brake
    }

    #[test]
    fn a_reaper_that_just_started_marks_nobody_for_one_ttl() {
        let mut brake = OutageBrake::new(TTL);
        assert_eq!(brake.expects(Duration::ZERO), None);
        brake.note_scan(scan(0, 1_000, 7));
        assert_eq!(brake.expects(Duration::from_secs(2)), None);
        for at in (2..=14).step_by(2) {
            brake.note_scan(scan(at, 1_000 + at as i64, 7));
            assert!(brake.holds(Duration::from_secs(at)));
        }
        assert!(brake.expects(Duration::from_secs(15)).is_some());
    }

    #[test]
    fn an_outage_longer_than_half_a_ttl_engages_it() {
        let mut brake = released();
        assert_eq!(brake.expects(Duration::from_secs(28)), None);
        brake.note_scan(scan(28, 1_028, 7));
        assert!(brake.holds(Duration::from_secs(42)));
        assert!(!brake.holds(Duration::from_secs(43)));
    }

    #[test]
    fn a_jump_of_the_database_clock_engages_it() {
        for jump in [-3_600, 2, 3_600] {
            let mut brake = released();
            brake.note_scan(scan(22, 1_022 + jump, 7));
            assert!(brake.holds(Duration::from_secs(23)), "{jump}");
        }
    }

    #[test]
    fn another_postmaster_engages_it_also_an_older_one() {
        for start in [3, 9] {
            let mut brake = released();
            brake.note_scan(scan(22, 1_022, start));
            assert!(brake.holds(Duration::from_secs(23)), "{start}");
        }
    }

    #[test]
    fn what_is_expected_goes_on_by_the_monotonic_clock() {
        let brake = released();
        let (now, start) = brake.expects(Duration::from_secs(22)).unwrap();
        assert_eq!((now.timestamp(), start.timestamp()), (1_022, 7));
    }
}
