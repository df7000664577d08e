//! The outage brake: when a reaper may mark workers dead.
//!
//! While Postgres is away nobody can beat, so after an outage every worker looks dead. A reaper that expired them then
//! would have every call in flight repeated. So a reaper that has reason to think that time passed which workers could
//! not use marks nobody for one full TTL: it just started, a scan failed, it did not scan for more than half a TTL,
//! database time and its own monotonic time disagree by more than a second, or the server's postmaster is another one
//! (also an older one: a standby that was promoted).

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

/// What gave reason to engage the brake.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum BrakeCause {
    /// The reaper just started.
    Started,
    /// The server's postmaster is another one.
    Postmaster,
    /// There was no scan for more than half a TTL.
    Outage,
    /// Database time and the reaper's own disagree.
    Clock,
}

impl BrakeCause {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Started, Self::Postmaster, Self::Outage, Self::Clock];

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Postmaster => "postmaster",
            Self::Outage => "outage",
            Self::Clock => "clock",
        }
    }
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

    /// Takes note of a scan's answer; engages the brake where it gives reason to, and says which. A reason that comes
    /// while the brake holds makes it hold for longer.
    pub fn note_scan(&mut self, scan: Scan) -> Option<BrakeCause> {
        let cause = self.cause(&scan);
        if cause.is_some() {
            self.holds_until = Some(scan.at + self.ttl);
        }
        self.last = Some(scan);
        cause
    }

    /// Takes note of a scan that got no answer at monotonic time `at`: workers may have got none either. So short outages
    /// that follow each other, none of which is half a TTL long, engage it too. Says the cause where it did not hold.
    pub fn note_failed_scan(&mut self, at: Duration) -> Option<BrakeCause> {
        self.last?;
        let is_news = !self.holds(at);
        self.holds_until = Some(at + self.ttl);
        is_news.then_some(BrakeCause::Outage)
    }

    /// Whether the brake holds at monotonic time `at`.
    pub fn holds(&self, at: Duration) -> bool {
        self.holds_until.is_none_or(|until| at < until)
    }

    fn cause(&self, scan: &Scan) -> Option<BrakeCause> {
        let Some(last) = self.last else { return Some(BrakeCause::Started) };
        let since = scan.at.saturating_sub(last.at);
        let drift = TimeDelta::from_std(since).map_or(TimeDelta::MAX, |elapsed| {
            (scan.database_now.signed_duration_since(last.database_now) - elapsed).abs()
        });
        // The most telling first: a server that was started again was mostly away for a while too.
        if scan.postmaster_start != last.postmaster_start {
            Some(BrakeCause::Postmaster)
        } else if since > self.ttl / 2 {
            Some(BrakeCause::Outage)
        } else if drift > TOLERANCE {
            Some(BrakeCause::Clock)
        } else {
            None
        }
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
        assert_eq!(brake.note_scan(scan(0, 1_000, 7)), Some(BrakeCause::Started));
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
        assert_eq!(brake.note_scan(scan(28, 1_028, 7)), Some(BrakeCause::Outage));
        assert!(brake.holds(Duration::from_secs(42)));
        assert!(!brake.holds(Duration::from_secs(43)));
    }

    #[test]
    fn a_scan_that_fails_engages_it_for_one_ttl_after_the_last_failure() {
        let mut brake = released();
        assert_eq!(brake.note_failed_scan(Duration::from_secs(22)), Some(BrakeCause::Outage));
        assert_eq!(brake.note_failed_scan(Duration::from_secs(24)), None, "it holds already");
        assert_eq!(brake.note_scan(scan(26, 1_026, 7)), None);
        assert!(brake.holds(Duration::from_secs(38)));
        assert!(!brake.holds(Duration::from_secs(39)));
    }

    #[test]
    fn a_jump_of_the_database_clock_engages_it() {
        for jump in [-3_600, 2, 3_600] {
            let mut brake = released();
            assert_eq!(brake.note_scan(scan(22, 1_022 + jump, 7)), Some(BrakeCause::Clock));
            assert!(brake.holds(Duration::from_secs(23)), "{jump}");
        }
    }

    #[test]
    fn another_postmaster_engages_it_also_an_older_one() {
        for start in [3, 9] {
            let mut brake = released();
            assert_eq!(brake.note_scan(scan(22, 1_022, start)), Some(BrakeCause::Postmaster));
            assert!(brake.holds(Duration::from_secs(23)), "{start}");
        }
    }

    #[test]
    fn exactly_half_a_ttl_and_exactly_a_second_are_no_reason() {
        let mut brake = OutageBrake::new(Duration::from_secs(16));
        brake.note_scan(scan(0, 1_000, 7));
        assert_eq!(brake.note_scan(scan(8, 1_008, 7)), None);
        assert_eq!(brake.note_scan(scan(10, 1_011, 7)), None);
        assert_eq!(brake.note_scan(scan(19, 1_020, 7)), Some(BrakeCause::Outage));
    }

    #[test]
    fn a_reason_that_comes_while_it_holds_makes_it_hold_for_longer() {
        let mut brake = released();
        brake.note_scan(scan(22, 1_022, 8));
        brake.note_scan(scan(30, 1_030, 8));
        assert!(brake.holds(Duration::from_secs(44)));
        assert!(!brake.holds(Duration::from_secs(45)));
    }

    #[test]
    fn what_is_expected_goes_on_by_the_monotonic_clock() {
        let brake = released();
        let (now, start) = brake.expects(Duration::from_secs(22)).unwrap();
        assert_eq!((now.timestamp(), start.timestamp()), (1_022, 7));
    }
}
