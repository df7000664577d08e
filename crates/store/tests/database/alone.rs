//! What is done to one job, one lease or one worker is done to no other.

use std::time::Duration;

use sluice_domain::{
    Decision, HoldReason, IncarnationId, JobId, JobState, LeaseId, LeasedJob, OnUnknown, Outcome,
    SettleVerdict,
};
use sluice_store::{CancelOutcome, ReleaseOutcome, ReplayOutcome};
use sluice_testkit::job;

use crate::fixture::{Fixture, success};

/// Two jobs in each place where one can stand, each pair with the same past.
struct Crowd {
    f: Fixture,
    worker: IncarnationId,
    ended: [JobId; 2],
    held: [JobId; 2],
    running: [LeasedJob; 2],
    cancelled: [LeasedJob; 2],
    queued: [JobId; 2],
}

impl Crowd {
    async fn new() -> Self {
        let f = Fixture::new().await;
        let worker = f.incarnation().await;
        let mut pairs = Vec::new();
        for _ in 0..4 {
            f.store.submit_many(&job().times(2)).await.unwrap();
            let pair: [LeasedJob; 2] = f.lease(worker, 2).await.try_into().unwrap();
            pairs.push(pair);
        }
        let [ended, held, running, cancelled]: [[LeasedJob; 2]; 4] = pairs.try_into().unwrap();
        for leased in &ended {
            f.store.settle_many(&[success(worker, leased, b"{}")]).await.unwrap();
        }
        for leased in &held {
            hold(&f, worker, leased).await;
        }
        for leased in &cancelled {
            f.store.job_cancel(&f.tenant, leased.job_id).await.unwrap();
        }
        let queued = [f.submit(&job().build()).await, f.submit(&job().build()).await];
        let ids = |pair: &[LeasedJob; 2]| [pair[0].job_id, pair[1].job_id];
        Self { worker, ended: ids(&ended), held: ids(&held), running, cancelled, queued, f }
    }

    /// All rows of where jobs stand, but for one job's.
    async fn others(&self, than: Option<JobId>) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT p.place FROM (
                 SELECT r.job_id, 'ready' || r::text AS place FROM sluice.ready r
                 UNION ALL SELECT r.job_id, 'running' || r::text FROM sluice.running r
                 UNION ALL SELECT r.job_id, 'held' || r::text FROM sluice.held r
                 UNION ALL SELECT r.job_id, 'done' || r::text FROM sluice.done r
                 UNION ALL SELECT r.job_id, 'cancelled' || r::text FROM sluice.cancelled_leases r
                 UNION ALL SELECT r.job_id, 'late' || r::text FROM sluice.late_results r
                 UNION ALL SELECT r.job_id, 'ended' || r::text FROM sluice.ledger_ended r) p
             WHERE p.job_id IS DISTINCT FROM $1 ORDER BY 1",
        )
        .bind(than.map(JobId::as_uuid))
        .fetch_all(self.f.database.pool())
        .await
        .unwrap()
    }

    /// Runs jobs that are queued once, one at a time, and gives the leases; the workers are gone then.
    async fn lose(&self, ids: [JobId; 2]) -> Vec<(IncarnationId, LeasedJob)> {
        let mut lost = Vec::new();
        let worker = self.f.incarnation().await;
        for leased in self.f.lease(worker, 2).await {
            assert!(ids.contains(&leased.job_id));
            lost.push((worker, leased));
        }
        self.f.store.incarnation_end(worker).await.unwrap();
        lost
    }
}

async fn hold(f: &Fixture, worker: IncarnationId, leased: &LeasedJob) {
    let mut settlement = success(worker, leased, b"");
    settlement.outcome = Outcome::Unknown;
    settlement.answer = None;
    settlement.decision = Decision::Hold(HoldReason::UnknownOutcome);
    let settled = f.store.settle_many(&[settlement]).await.unwrap();
    assert_eq!(settled, [SettleVerdict::Settled]);
}

#[tokio::test]
async fn a_cancel_ends_its_own_job_alone_wherever_it_stands() {
    let c = Crowd::new().await;
    for id in [c.queued[1], c.queued[0], c.held[1], c.running[1].job_id] {
        let before = c.others(Some(id)).await;
        assert_eq!(c.f.store.job_cancel(&c.f.tenant, id).await.unwrap(), CancelOutcome::Cancelled);
        assert_eq!(c.f.state(id).await, JobState::Cancelled);
        assert_eq!(c.others(Some(id)).await, before);
    }
    // Of ended ones the own end is told, though others wait, run and are held.
    c.f.submit(&job().build()).await;
    let ended = c.f.store.job_cancel(&c.f.tenant, c.ended[1]).await.unwrap();
    assert_eq!(ended, CancelOutcome::AlreadyEnded(JobState::Succeeded));
    let cancelled = c.f.store.job_cancel(&c.f.tenant, c.cancelled[1].job_id).await.unwrap();
    assert_eq!(cancelled, CancelOutcome::AlreadyCancelled);
}

#[tokio::test]
async fn a_release_lets_its_own_job_go_alone() {
    let c = Crowd::new().await;
    for id in [c.held[1], c.held[0]] {
        let before = c.others(Some(id)).await;
        assert_eq!(c.f.store.job_release(&c.f.tenant, id).await.unwrap(), ReleaseOutcome::Released);
        assert_eq!(c.f.state(id).await, JobState::Queued);
        assert_eq!(c.others(Some(id)).await, before);
    }
    let nothing = c.f.store.job_release(&c.f.tenant, c.queued[0]).await.unwrap();
    assert_eq!(nothing, ReleaseOutcome::NotHeld);
}

#[tokio::test]
async fn a_replay_starts_its_own_job_alone_from_its_own_last_end() {
    let c = Crowd::new().await;
    let replay = async |id| c.f.store.job_replay_if_ended(&c.f.tenant, id, Duration::ZERO).await.unwrap();
    // Another has a later generation already.
    assert_eq!(replay(c.ended[0]).await, ReplayOutcome::Queued);
    c.f.store.job_cancel(&c.f.tenant, c.ended[0]).await.unwrap();
    let before = c.others(Some(c.ended[1])).await;
    assert_eq!(replay(c.ended[1]).await, ReplayOutcome::Queued);
    assert_eq!(c.others(Some(c.ended[1])).await, before);
    let leased = c.f.lease(c.worker, 10).await;
    let again = leased.iter().find(|leased| leased.job_id == c.ended[1]).expect("the job that was replayed");
    assert_eq!((again.generation, again.lease_no, again.tries), (2, 2, 0));
    for id in [c.queued[0], c.running[0].job_id, c.held[0]] {
        assert_eq!(replay(id).await, ReplayOutcome::NotEnded);
    }
}

#[tokio::test]
async fn a_late_answer_ends_its_own_job_alone() {
    let c = Crowd::new().await;
    for (worker, leased) in c.lose(c.queued).await.into_iter().rev() {
        let before = c.others(Some(leased.job_id)).await;
        let settled = c.f.store.settle_many(&[success(worker, &leased, b"late")]).await.unwrap();
        assert_eq!(settled, [SettleVerdict::LateAccepted]);
        assert_eq!(c.f.state(leased.job_id).await, JobState::Succeeded);
        assert_eq!(c.others(Some(leased.job_id)).await, before);
    }
}

#[tokio::test]
async fn a_late_answer_ends_its_own_held_job_alone() {
    let c = Crowd::new().await;
    let f = &c.f;
    f.store.job_cancel(&f.tenant, c.queued[0]).await.unwrap();
    f.store.job_cancel(&f.tenant, c.queued[1]).await.unwrap();
    let holding = || job().on_unknown(OnUnknown::Hold).build();
    let ids = [f.submit(&holding()).await, f.submit(&holding()).await];
    for (worker, leased) in c.lose(ids).await.into_iter().rev() {
        assert_eq!(f.state(leased.job_id).await, JobState::Held);
        let before = c.others(Some(leased.job_id)).await;
        let settled = f.store.settle_many(&[success(worker, &leased, b"late")]).await.unwrap();
        assert_eq!(settled, [SettleVerdict::LateAccepted]);
        assert_eq!(f.state(leased.job_id).await, JobState::Succeeded);
        assert_eq!(c.others(Some(leased.job_id)).await, before);
    }
}

#[tokio::test]
async fn a_late_answer_of_an_earlier_generation_ends_nothing() {
    let f = Fixture::new().await;
    let worker = f.incarnation().await;
    let id = f.submit(&job().build()).await;
    let leased = f.lease_one(worker).await;
    f.store.incarnation_end(worker).await.unwrap();
    f.store.job_cancel(&f.tenant, id).await.unwrap();
    let replayed = f.store.job_replay_if_ended(&f.tenant, id, Duration::ZERO).await.unwrap();
    assert_eq!(replayed, ReplayOutcome::Queued);
    let settled = f.store.settle_many(&[success(worker, &leased, b"late")]).await.unwrap();
    assert_eq!(settled, [SettleVerdict::LateKept]);
    assert_eq!(f.state(id).await, JobState::Queued);
}

#[tokio::test]
async fn the_word_about_a_cancelled_lease_lets_that_one_go_alone() {
    let c = Crowd::new().await;
    let (leased, other) = (&c.cancelled[1], &c.cancelled[0]);
    let before = c.others(Some(leased.job_id)).await;
    let settled = c.f.store.settle_many(&[success(c.worker, leased, b"late")]).await.unwrap();
    assert_eq!(settled, [SettleVerdict::LateKept]);
    assert_eq!(c.others(Some(leased.job_id)).await, before);
    let left = c.f.store.leases_older_than(c.worker, Duration::ZERO).await.unwrap();
    assert!(left.contains(&(other.job_id, other.lease_id)), "{left:?}");
    assert!(!left.contains(&(leased.job_id, leased.lease_id)), "{left:?}");
}

#[tokio::test]
async fn a_hand_back_names_its_lease_and_its_worker() {
    let c = Crowd::new().await;
    let stranger = c.f.incarnation().await;
    let (mine, forged) = (&c.running[1], (c.running[1].job_id, LeaseId::generate()));
    let other = (c.running[0].job_id, mine.lease_id);
    let all = c.others(None).await;
    for (worker, lease) in [
        (stranger, (mine.job_id, mine.lease_id)),
        (stranger, (c.cancelled[1].job_id, c.cancelled[1].lease_id)),
        (c.worker, forged),
        (c.worker, other),
    ] {
        assert_eq!(c.f.store.lease_hand_back_many(worker, &[lease]).await.unwrap().moved, 0);
        assert_eq!(c.others(None).await, all, "{lease:?}");
    }
    for (leased, count) in [(mine, 1), (&c.cancelled[1], 0)] {
        let before = c.others(Some(leased.job_id)).await;
        let lease = [(leased.job_id, leased.lease_id)];
        assert_eq!(c.f.store.lease_hand_back_many(c.worker, &lease).await.unwrap().moved, count);
        assert_eq!(c.others(Some(leased.job_id)).await, before);
    }
    assert_eq!(c.f.state(mine.job_id).await, JobState::Queued);
    assert_eq!(c.f.count("cancelled_leases").await, 1);
}

#[tokio::test]
async fn a_lease_is_lost_by_its_own_id_alone() {
    let c = Crowd::new().await;
    let lost = &c.running[1];
    let all = c.others(None).await;
    for lease in [(lost.job_id, LeaseId::generate()), (lost.job_id, c.running[0].lease_id)] {
        assert_eq!(c.f.store.leases_lose(&[lease]).await.unwrap(), 0);
        assert_eq!(c.others(None).await, all);
    }
    let before = c.others(Some(lost.job_id)).await;
    assert_eq!(c.f.store.leases_lose(&[(lost.job_id, lost.lease_id)]).await.unwrap(), 1);
    assert_eq!(c.others(Some(lost.job_id)).await, before);
}

#[tokio::test]
async fn the_end_of_a_worker_ends_its_own_leases_alone() {
    let c = Crowd::new().await;
    let other = c.f.incarnation().await;
    let leased = c.f.lease(other, 2).await;
    c.f.store.job_cancel(&c.f.tenant, leased[0].job_id).await.unwrap();
    let of_the_first = c.f.store.leases_older_than(c.worker, Duration::ZERO).await.unwrap();
    assert_eq!(of_the_first.len(), 4);
    assert_eq!(c.f.store.incarnation_end(other).await.unwrap(), 1, "the other was cancelled");
    let left = c.f.store.leases_older_than(c.worker, Duration::ZERO).await.unwrap();
    assert_eq!(left, of_the_first);
    assert_eq!((c.f.count("running").await, c.f.count("cancelled_leases").await), (2, 2));
}

#[tokio::test]
async fn a_deadline_ends_those_jobs_whose_it_is_and_so_many_of_them() {
    let c = Crowd::new().await;
    for (table, id, secs) in [
        ("ready", c.queued[0], -2.0),
        ("ready", c.queued[1], 60.0),
        ("held", c.held[0], -2.0),
        ("held", c.held[1], 60.0),
    ] {
        let set = format!(
            "UPDATE sluice.{table} SET deadline = clock_timestamp() + make_interval(secs => $2) WHERE job_id = $1"
        );
        let set = sqlx::query(sqlx::AssertSqlSafe(set)).bind(id.as_uuid()).bind(secs);
        set.execute(c.f.database.pool()).await.unwrap();
    }
    assert_eq!(c.f.store.deadlines_end(100).await.unwrap(), 2);
    for (id, state) in [
        (c.queued[0], JobState::Failed),
        (c.queued[1], JobState::Queued),
        (c.held[0], JobState::Failed),
        (c.held[1], JobState::Held),
    ] {
        assert_eq!(c.f.state(id).await, state);
    }
    // Two wait and two are held, all past theirs.
    c.f.submit(&job().build()).await;
    hold(&c.f, c.worker, &c.running[0]).await;
    for table in ["ready", "held"] {
        let passed = format!("UPDATE sluice.{table} SET deadline = clock_timestamp() - interval '1 s'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(passed)).execute(c.f.database.pool()).await.unwrap();
    }
    assert_eq!(c.f.store.deadlines_end(1).await.unwrap(), 2, "one of each place");
    assert_eq!((c.f.count("ready").await, c.f.count("held").await), (1, 1));
}

#[tokio::test]
async fn a_job_that_somebody_holds_keeps_no_other_from_its_deadline() {
    let c = Crowd::new().await;
    for table in ["ready", "held"] {
        let passed = format!("UPDATE sluice.{table} SET deadline = clock_timestamp() - interval '1 s'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(passed)).execute(c.f.database.pool()).await.unwrap();
    }
    let mut holder = c.f.database.pool().begin().await.unwrap();
    for (table, id) in [("ready", c.queued[0]), ("held", c.held[0])] {
        let lock = format!("SELECT FROM sluice.{table} WHERE job_id = $1 FOR UPDATE");
        let lock = sqlx::query(sqlx::AssertSqlSafe(lock)).bind(id.as_uuid());
        assert_eq!(lock.fetch_all(&mut *holder).await.unwrap().len(), 1);
    }
    assert_eq!(c.f.store.deadlines_end(100).await.unwrap(), 2);
    holder.rollback().await.unwrap();
    assert_eq!(
        (c.f.state(c.queued[0]).await, c.f.state(c.held[0]).await),
        (JobState::Queued, JobState::Held)
    );
    assert_eq!(c.f.store.deadlines_end(100).await.unwrap(), 2);
}
