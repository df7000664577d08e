//! The product's side of a sequence: which job, lease and worker each number stands for, and how actions are performed.

use std::{rc::Rc, time::Duration};

use proptest_state_machine::StateMachineTest;
use sluice_domain::{IncarnationId, JobId, LeasedJob, Priority, TenantName};
use sluice_store::{Grant, NewIncarnation, ReapRequest, StoreError};

use crate::{
    action::{Action, Death, Reference},
    check,
    model::{Answer, Leased, Model},
    words::Word,
    world::World,
};

/// Longer than a test lasts: only who is made to look silent is.
const TTL: Duration = Duration::from_hours(1);

pub struct System {
    pub world: Rc<World>,
    pub tenant: TenantName,
    /// Makes names of its own out of those of the model.
    sequence: u32,
    pub jobs: Vec<JobId>,
    pub leases: Vec<(LeasedJob, IncarnationId)>,
    pub workers: Vec<IncarnationId>,
    /// So many actions were performed.
    pub actions: usize,
}

impl StateMachineTest for System {
    type SystemUnderTest = Self;
    type Reference = Reference;

    fn init_test(_: &Model) -> Self {
        let world = World::here();
        let sequence = world.next_sequence();
        let tenant = TenantName::default_tenant();
        Self { world, tenant, sequence, jobs: vec![], leases: vec![], workers: vec![], actions: 0 }
    }

    fn apply(mut system: Self, model: &Model, action: Action) -> Self {
        let answer = system.perform(&action, model);
        assert_eq!(answer, model.answer, "the answer to {action:?}");
        system.actions += 1;
        system
    }

    fn check_invariants(system: &Self, model: &Model) {
        check::check(system, model);
    }

    fn teardown(system: Self, _: Model) {
        check::check_ledger(&system);
        system.leave();
    }
}

impl System {
    pub fn queue(&self, queue: usize) -> String {
        format!("sequence-{}-{queue}", self.sequence)
    }

    pub fn key(&self, key: u8) -> String {
        format!("sequence-{}-{key}", self.sequence)
    }

    /// The number of a job; one that was not seen before is the next.
    pub fn number_of(&self, id: JobId) -> Option<usize> {
        self.jobs.iter().position(|known| *known == id)
    }

    fn perform(&mut self, action: &Action, model: &Model) -> Answer {
        match action {
            Action::Submit { door, job } => self.submit(*door, job),
            Action::Bulk { door, jobs } => self.submit_bulk(*door, jobs),
            Action::Cancel { door, job } => Answer::Cancelled(self.cancel(*door, self.jobs[*job])),
            Action::Replay { door, job } => Answer::Replayed(self.replay(*door, self.jobs[*job])),
            Action::Release { door, job } => Answer::Released(self.release(*door, self.jobs[*job])),
            Action::Pause { door, queue } => self.pause(*door, *queue),
            Action::Resume { door, queue } => self.resume(*door, *queue),
            Action::StartWorker { isolates_suspects } => self.start_worker(*isolates_suspects),
            Action::EndWorker { worker, death } => self.end_worker(*worker, *death),
            Action::Lease { worker, queue, limit } => self.lease(*worker, *queue, *limit, model),
            Action::HandBack { worker, lease } => self.hand_back(*worker, *lease),
            Action::Settle { words } => self.settle(words),
            Action::Lose { leases } => self.lose(leases),
            Action::DeadlinePasses { job } => self.let_deadline_pass(*job),
            Action::EndDeadlines => {
                self.world.wait(self.world.store.deadlines_end(1_000)).expect("deadlines end");
                Answer::Nothing
            }
        }
    }

    fn start_worker(&mut self, isolates_suspects: bool) -> Answer {
        let new = NewIncarnation {
            id: IncarnationId::generate(),
            worker: "model".to_owned(),
            host: "host".to_owned(),
            lock_path: None,
            pid: 1,
            version: "0".to_owned(),
            isolates_suspects,
        };
        self.world.wait(self.world.store.incarnation_start(&new)).expect("a worker starts");
        self.workers.push(new.id);
        Answer::Nothing
    }

    fn end_worker(&self, worker: usize, death: Death) -> Answer {
        let (store, id) = (&self.world.store, self.workers[worker]);
        let leases = self.world.wait(async {
            match death {
                Death::Exit => store.incarnation_end(id).await.expect("a worker ends"),
                Death::Silence => {
                    self.execute(
                        "UPDATE sluice.incarnations SET beat_at = beat_at - interval '2 hours' WHERE id = $1",
                        id.as_uuid(),
                    )
                    .await;
                    let look = store.reap(ReapRequest { ttl: TTL, expected: None }).await.expect("a scan");
                    let expected = Some((look.database_now, look.postmaster_start));
                    let scan = store.reap(ReapRequest { ttl: TTL, expected }).await.expect("a scan");
                    look.leases + scan.leases
                }
            }
        });
        Answer::Leases(leases as usize)
    }

    /// Grants each priority of the queue, the most urgent first. What is leased gets the numbers that the model gives.
    fn lease(&mut self, worker: usize, queue: usize, limit: usize, model: &Model) -> Answer {
        let (store, incarnation) = (&self.world.store, self.workers[worker]);
        let leased = self.world.wait(async {
            // Whoever leases has looked at the board before: that is where lanes get their names.
            store.board(None, None).await.expect("the board");
            let lane: i64 = sqlx::query_scalar("SELECT sluice.lane_id('default', $1, 'm')")
                .bind(self.queue(queue))
                .fetch_one(self.world.database.pool())
                .await
                .expect("a lane has an id");
            let grants: Vec<Grant> = (1..=5).rev().map(|priority| grant(lane, priority, limit)).collect();
            store.lease_many(incarnation, &grants, limit as u32).await
        });
        let leased = match leased {
            Err(StoreError::IncarnationDead) => return Answer::Dead,
            leased => leased.expect("a lease"),
        };
        // The rows of one statement come in no order that is promised; which jobs they are is.
        let mut shown: Vec<(Leased, LeasedJob)> =
            leased.into_iter().map(|job| (self.shown(&job), job)).collect();
        if let Answer::Leased(expected) = &model.answer {
            let turn = |job: usize| expected.iter().position(|leased| leased.job == job);
            shown.sort_by_key(|(leased, _)| turn(leased.job).unwrap_or(usize::MAX));
        }
        let (answer, jobs): (Vec<_>, Vec<_>) = shown.into_iter().unzip();
        self.leases.extend(jobs.into_iter().map(|job| (job, incarnation)));
        Answer::Leased(answer)
    }

    fn shown(&self, leased: &LeasedJob) -> Leased {
        Leased {
            job: self.number_of(leased.job_id).expect("only jobs of the sequence are in its queues"),
            generation: leased.generation,
            lease_no: leased.lease_no,
            tries: leased.tries,
            crashes: leased.crashes,
            refusals: leased.refusals,
        }
    }

    fn hand_back(&self, worker: usize, lease: usize) -> Answer {
        let lease = &self.leases[lease].0;
        let leases = [(lease.job_id, lease.lease_id)];
        let back = self.world.store.lease_hand_back_many(self.workers[worker], &leases);
        Answer::Leases(self.world.wait(back).expect("a hand-back").moved as usize)
    }

    fn settle(&self, words: &[(usize, Word)]) -> Answer {
        let settlements: Vec<_> = words
            .iter()
            .map(|(lease, word)| {
                let (leased, incarnation) = &self.leases[*lease];
                word.settlement(*incarnation, leased, *lease)
            })
            .collect();
        Answer::Verdicts(self.world.wait(self.world.store.settle_many(&settlements)).expect("a settle"))
    }

    fn lose(&self, leases: &[usize]) -> Answer {
        let leases: Vec<_> = leases
            .iter()
            .map(|lease| &self.leases[*lease].0)
            .map(|leased| (leased.job_id, leased.lease_id))
            .collect();
        Answer::Leases(
            self.world.wait(self.world.store.leases_lose(&leases)).expect("leases are lost") as usize
        )
    }

    /// As if the time had come.
    fn let_deadline_pass(&self, job: usize) -> Answer {
        for table in ["ready", "running", "held"] {
            let statement = format!(
                "UPDATE sluice.{table} SET deadline = clock_timestamp() - interval '1 second'
                 WHERE job_id = $1 AND deadline IS NOT NULL"
            );
            self.world.wait(self.execute(&statement, self.jobs[job].as_uuid()));
        }
        Answer::Nothing
    }

    pub async fn execute(&self, statement: &str, id: uuid::Uuid) {
        let done = sqlx::query(sqlx::AssertSqlSafe(statement.to_owned()))
            .bind(id)
            .execute(self.world.database.pool());
        done.await.expect("a statement of the test");
    }

    /// Takes what waits out of the way of the next sequence.
    fn leave(&self) {
        let ids: Vec<_> = self.jobs.iter().map(|id| id.as_uuid()).collect();
        self.world.wait(async {
            for table in ["ready", "running", "held"] {
                sqlx::query(sqlx::AssertSqlSafe(format!(
                    "DELETE FROM sluice.{table} WHERE job_id = ANY($1)"
                )))
                .bind(&ids)
                .execute(self.world.database.pool())
                .await
                .expect("a statement of the test");
            }
        });
    }
}

fn grant(lane: i64, priority: i64, limit: usize) -> Grant {
    Grant {
        lane_id: sluice_domain::LaneId(lane),
        priority: Priority::new(priority).expect("one of five"),
        limit: limit as u32,
        floors: sluice_domain::PairFloors::default(),
    }
}
