//! The statements that keep windows beside the pure rule: for any history of leases, answers, hand-backs, deaths and time,
//! what the database says is used is what `policy::window` says, and never more than the cap.
//!
//! Time passes by moving the books' times back. The rule is told the database's clock of each lease, so that slices agree
//! to the microsecond.

#![expect(clippy::unwrap_used, reason = "a test fails where its set-up does")]

use std::{collections::BTreeMap, time::Duration};

use proptest::{prelude::*, test_runner::TestRunner};
use sluice_domain::{
    Decision, DeclaredLimit, IncarnationId, LeasedJob, LimitId, LimitKind, LimitSubject, ModelName, NanoUsd,
    Outcome, PairFloors, Settlement, Usage,
};
use sluice_policy::window::Window;
use sluice_store::{Grant, LimitedGrant, NewIncarnation, Store};
use sluice_testkit::{TestDatabase, job};
use sqlx::PgPool;

const CASES: u32 = 12;

#[derive(Clone, Copy, Debug)]
enum Act {
    Lease(u32),
    End { at: usize, end: End },
    Die,
    Pass(u32),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Answered(u64),
    Unknown,
    HandedBack,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let end = prop_oneof![
        3 => (1_u64..200).prop_map(End::Answered),
        1 => Just(End::Unknown),
        1 => Just(End::HandedBack),
    ];
    let act = prop_oneof![
        5 => (1_u32..9).prop_map(Act::Lease),
        6 => (any::<usize>(), end).prop_map(|(at, end)| Act::End { at, end }),
        1 => Just(Act::Die),
        3 => (1_u32..70).prop_map(Act::Pass),
    ];
    prop::collection::vec(act, 1..40)
}

/// A lease, and what the rule was told of it.
struct Taken {
    job: LeasedJob,
    at: Duration,
    tokens: i64,
}

/// The database with its clock set forward by what has passed, and the rule beside it.
struct World {
    pool: PgPool,
    store: Store,
    worker: IncarnationId,
    limits: Vec<DeclaredLimit>,
    windows: BTreeMap<LimitId, Window>,
    passed: Duration,
    taken: Vec<Taken>,
    /// What ended since the last lease, which counts it in: when it was taken, and by how much that is corrected.
    unread: Vec<(LimitId, Duration, i64)>,
}

fn limit(kind: LimitKind, cap: u64) -> DeclaredLimit {
    let model = Some(ModelName::from_stored("deepseek-flash".to_owned()));
    let subject = LimitSubject::Account { account: "main".to_owned(), model };
    DeclaredLimit { subject, kind, window_s: 60, cap, floor: None }
}

impl World {
    async fn new(database: &TestDatabase, requests: u64, tokens: u64) -> Self {
        let pool = database.pool().clone();
        let store = Store::from_pool(pool.clone());
        let limits = vec![limit(LimitKind::Requests, requests), limit(LimitKind::Tokens, tokens)];
        store.limits_declare(&limits).await.unwrap();
        store.submit_many(&job().times(60)).await.unwrap();
        let window = |limit: &DeclaredLimit| (limit.id(), Window::new(limit.cap, Duration::from_mins(1)));
        let windows = limits.iter().map(window).collect();
        let worker = begin(&store).await;
        Self {
            pool,
            store,
            worker,
            limits,
            windows,
            passed: Duration::ZERO,
            taken: Vec::new(),
            unread: Vec::new(),
        }
    }

    async fn act(&mut self, act: Act) -> Result<(), TestCaseError> {
        match act {
            Act::Lease(most) => return self.lease(most).await,
            Act::End { at, end } if !self.taken.is_empty() => {
                let at = at % self.taken.len();
                let taken = self.taken.swap_remove(at);
                self.end(&taken, end).await;
            }
            Act::Die => {
                // The calls may have been sent: what they took of windows stays.
                self.store.incarnation_end(self.worker).await.unwrap();
                self.worker = begin(&self.store).await;
                self.taken.clear();
            }
            Act::Pass(seconds) => self.pass(seconds).await,
            Act::End { .. } => {}
        }
        Ok(())
    }

    async fn lease(&mut self, most: u32) -> Result<(), TestCaseError> {
        let mut ids: Vec<LimitId> = self.limits.iter().map(DeclaredLimit::id).collect();
        ids.sort_unstable();
        let board = self.store.board(None, None).await.unwrap();
        let grants: Vec<LimitedGrant> = board
            .iter()
            .filter(|entry| entry.age.is_some())
            .map(|entry| {
                let (lane_id, priority) = (entry.lane_id, entry.priority);
                let grant = Grant { lane_id, priority, limit: most, floors: PairFloors::default() };
                LimitedGrant { grant, limits: ids.clone().into() }
            })
            .collect();
        let jobs = self.store.lease_limited_many(self.worker, &grants, most).await.unwrap().jobs;
        let Some(now) = self.changed_at().await else { return Ok(()) };
        for (limit, at, by) in std::mem::take(&mut self.unread) {
            self.window(limit).correct(by, at, now);
        }
        let [requests, tokens] = [LimitKind::Requests, LimitKind::Tokens].map(|kind| self.of(kind));
        let mut new = Vec::new();
        for job in jobs {
            let reserved = "SELECT reserved_tokens FROM sluice.running WHERE lease_id = $1";
            let reserved: i64 = sqlx::query_scalar(reserved)
                .bind(job.lease_id.as_uuid())
                .fetch_one(&self.pool)
                .await
                .unwrap();
            new.push(Taken { job, at: now, tokens: reserved });
        }
        for (limit, amount) in
            [(requests, new.len() as u64), (tokens, new.iter().map(|taken| taken.tokens as u64).sum())]
        {
            let room = self.window(limit).room(now);
            prop_assert!(amount <= room, "{} were leased, and the rule has room for {}", amount, room);
            if amount > 0 {
                self.window(limit).take(amount, now);
            }
        }
        self.taken.extend(new);
        for limit in [requests, tokens] {
            let (used, expected) = (self.used(limit).await, self.window(limit).used(now));
            prop_assert_eq!(used, expected, "{:?} after a lease at {:?}", limit.kind(), now);
        }
        Ok(())
    }

    async fn end(&mut self, taken: &Taken, end: End) {
        let (requests, tokens) = (self.of(LimitKind::Requests), self.of(LimitKind::Tokens));
        let mut settlement = requeued(self.worker, &taken.job);
        match end {
            End::HandedBack => {
                let key = [(taken.job.job_id, taken.job.lease_id)];
                self.store.lease_hand_back_many(self.worker, &key).await.unwrap();
                self.unread.extend([(requests, taken.at, -1), (tokens, taken.at, -taken.tokens)]);
                return;
            }
            End::Unknown => settlement.outcome = Outcome::Unknown,
            End::Answered(used) => {
                settlement.usage = Some(Usage { input_tokens: used, ..Usage::default() });
                self.unread.push((tokens, taken.at, used as i64 - taken.tokens));
            }
        }
        self.store.settle_many(&[settlement]).await.unwrap();
    }

    /// As if so many seconds had passed.
    async fn pass(&mut self, seconds: u32) {
        self.passed += Duration::from_secs(seconds.into());
        // All are gone before the first comes back: two that change places would meet.
        let slices = format!(
            "WITH gone AS (DELETE FROM sluice.limit_slices RETURNING *)
             INSERT INTO sluice.limit_slices (limit_id, at, amount)
             SELECT limit_id, at - interval '{seconds} s', amount FROM gone ORDER BY limit_id, at"
        );
        let moved =
            [("limit_states", "fallen_before"), ("running", "leased_at"), ("limit_changes", "leased_at")];
        let moved = moved.map(|(table, column)| {
            format!("UPDATE sluice.{table} SET {column} = {column} - interval '{seconds} s'")
        });
        for statement in [slices].into_iter().chain(moved) {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&self.pool).await.unwrap();
        }
    }

    fn of(&self, kind: LimitKind) -> LimitId {
        self.limits.iter().find(|limit| limit.kind == kind).expect("both are there").id()
    }

    fn window(&mut self, limit: LimitId) -> &mut Window {
        self.windows.get_mut(&limit).expect("both are there")
    }

    /// When the books were changed last, on the clock that has been set forward; `None`: never.
    async fn changed_at(&self) -> Option<Duration> {
        let question =
            "SELECT (extract(epoch FROM max(changed_at)) * 1000000)::bigint FROM sluice.limit_states";
        let micros: Option<i64> = sqlx::query_scalar(question).fetch_one(&self.pool).await.unwrap();
        micros.map(|micros| Duration::from_micros(micros as u64) + self.passed)
    }

    async fn used(&self, limit: LimitId) -> i64 {
        let question =
            "SELECT used FROM sluice.limit_states WHERE limit_id = $1 ORDER BY version DESC LIMIT 1";
        sqlx::query_scalar(question).bind(limit.0).fetch_optional(&self.pool).await.unwrap().unwrap_or(0)
    }
}

async fn begin(store: &Store) -> IncarnationId {
    let id = IncarnationId::generate();
    let new = NewIncarnation {
        id,
        worker: "test".to_owned(),
        host: "host".to_owned(),
        lock_path: None,
        pid: 1,
        version: "0".to_owned(),
        isolates_suspects: false,
    };
    store.incarnation_start(&new).await.unwrap();
    id
}

fn requeued(worker: IncarnationId, leased: &LeasedJob) -> Settlement {
    Settlement {
        job_id: leased.job_id,
        lease_id: leased.lease_id,
        incarnation_id: worker,
        generation: leased.generation,
        lease_no: leased.lease_no,
        outcome: Outcome::Retry,
        decision: Decision::Requeue { delay: Duration::ZERO, spends_try: false, is_refusal: false },
        error: None,
        answer: None,
        usage: None,
        cost: NanoUsd::default(),
        call: None,
        call_duration: None,
        time_to_first_byte: None,
    }
}

#[test]
fn the_statements_agree_with_the_rule_for_any_history() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner =
        TestRunner::new(ProptestConfig { max_shrink_iters: 60, ..ProptestConfig::with_cases(CASES) });
    runner
        .run(&((3_u64..25, 600_u64..4_000), acts()), |((requests, tokens), acts)| {
            runtime.block_on(async {
                let database = TestDatabase::new().await;
                let mut world = World::new(&database, requests, tokens).await;
                for act in acts {
                    world.act(act).await?;
                }
                Ok(())
            })
        })
        .unwrap();
}
