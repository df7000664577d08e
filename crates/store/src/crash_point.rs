//! Crash points: places between two durable steps, where a process must be able to end without harm.
//!
//! In programs that were built with the feature `failpoints`, each ends the process on request, as a loss of the host
//! would: nothing is flushed, closed or told. The variable `FAILPOINTS` asks for it by the name of the point:
//! `settled=4*off->1*return` is the fifth time that it is passed. In all other programs they are nothing.
//!
//! They stand here, since whatever has durable steps knows the store. The fault lab walks through all of them.

/// Which process passes a crash point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CrashSite {
    /// A worker.
    Worker,
    /// A scheduler.
    Scheduler,
    /// Whatever migrates.
    Migration,
}

macro_rules! crash_points {
    ($($(#[$doc:meta])* $point:ident = $name:literal in $site:ident,)*) => {
        /// A place between two durable steps.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum CrashPoint {
            $($(#[$doc])* $point,)*
        }

        impl CrashPoint {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// The name by which it is asked for.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$point => $name,)* }
            }

            /// Which process passes it.
            pub const fn site(self) -> CrashSite {
                match self { $(Self::$point => CrashSite::$site,)* }
            }
        }
    };
}

crash_points! {
    /// A worker's new life has its row, and nothing else yet.
    IncarnationStarted = "incarnation-started" in Worker,
    /// Its dead life is replaced by the new one in the database, and not yet in the process.
    IncarnationRenewed = "incarnation-renewed" in Worker,
    /// A beat was written.
    Beaten = "beaten" in Worker,
    /// Jobs are leased, and on the ledger; no call was begun.
    Leased = "leased" in Worker,
    /// An answer has come and is nowhere but in memory.
    Answered = "answered" in Worker,
    /// Outcomes are in the spool, and nobody has been told.
    Spooled = "spooled" in Worker,
    /// Outcomes were written; those whose leases had ended were not taken yet.
    SettledWhatWasLeased = "settled-what-was-leased" in Worker,
    /// Late words were taken.
    SettledLate = "settled-late" in Worker,
    /// A group's verdicts are known, and its leases still in hand.
    Settled = "settled" in Worker,
    /// What was settled is about to be marked as done in the spool.
    MarkingDone = "marking-done" in Worker,
    /// It is marked, and its file still there.
    MarkedDone = "marked-done" in Worker,
    /// A dead worker's spool was taken over, and nothing of it was settled.
    TakenOver = "taken-over" in Worker,
    /// Leases whose call was not begun were given back.
    HandedBack = "handed-back" in Worker,
    /// All is written or in the spool at a worker's end; its row still lives.
    Drained = "drained" in Worker,
    /// A submit is about to be stored.
    Submitting = "submitting" in Scheduler,
    /// It is stored, and nobody was told.
    Submitted = "submitted" in Scheduler,
    /// Dead workers were marked and a page of their leases ended.
    Reaped = "reaped" in Scheduler,
    /// A worker is marked dead, and its leases are still there.
    IncarnationEnded = "incarnation-ended" in Scheduler,
    /// A page of a dead worker's leases has ended.
    LeasesExpired = "leases-expired" in Scheduler,
    /// Jobs whose deadline had passed were failed, and nobody was told.
    DeadlinesEnded = "deadlines-ended" in Scheduler,
    /// Partitions were made, and none was dropped.
    PartitionsMade = "partitions-made" in Scheduler,
    /// Old partitions were dropped.
    PartitionsDropped = "partitions-dropped" in Scheduler,
    /// Leases of nobody have ended.
    OrphansExpired = "orphans-expired" in Scheduler,
    /// A job was cancelled, and nobody was told.
    Cancelled = "cancelled" in Scheduler,
    /// An ended job was started again, and nobody was told.
    Replayed = "replayed" in Scheduler,
    /// A migration was applied, and others are missing.
    MigrationApplied = "migration-applied" in Migration,
}

/// Ends the process here, where that was asked for.
#[cfg(feature = "failpoints")]
pub fn crash_point(point: CrashPoint) {
    fail::fail_point!(point.name(), |_| {
        eprintln!("crash point {}: the process ends here", point.name());
        std::process::abort()
    });
}

/// Nothing: this program was built without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn crash_point(_point: CrashPoint) {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_has_a_name_of_its_own() {
        let names: BTreeSet<_> = CrashPoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), CrashPoint::ALL.len());
    }
}
