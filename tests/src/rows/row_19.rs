//! Row 19: cancel against settle, lease, expiry, hand-back, release and replay. One winner each, and nobody is told a lie.
//!
//! Each race takes a job in a state, lets two to four contenders go at it at once over connections of their own, and
//! then holds what each of them was told against what the database says. States, contenders and their starts come from
//! the seed. The contenders are the statements that servers and workers make, without those around them: what a race is
//! decided by is in the database.

mod contender;
mod facts;
mod truth;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use futures::{FutureExt, future::join_all};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sluice_domain::{
    Decision, HoldReason, IncarnationId, JobId, LaneId, LeasedJob, OnUnknown, Outcome, PairFloors, Priority,
    TenantName,
};
use sluice_store::{Grant, Store, StoreOptions};
use sluice_testkit::{TestDatabase, job};
use sqlx::PgPool;
use tokio::task::JoinSet;

use self::{
    contender::{Contender, Told},
    facts::Facts,
    truth::Tally,
};
use super::{Case, Report, Row};
use crate::lab::by_hand;

/// Races at once, each with contenders that are at it at once.
const ABREAST: u64 = 6;
/// The latest start of a contender.
const LATEST_START_US: u64 = 1_500;

/// See the head of this file.
pub const ROW: Row = Row {
    number: 19,
    name: "cancel against settle, lease, expiry, replay",
    done: "Two to four of them go at one job at once, 100,000 times, from each of its states.",
    must_hold: "One winner each; nobody is told what is not so; a paid answer is kept.",
    run: |case| run(case).boxed_local(),
};

/// Runs all races; the first lie ends it.
pub async fn run(case: &Case) -> Result<Report> {
    let database = Arc::new(TestDatabase::new().await);
    let races: u64 = case.pick(1_200, 100_000);
    let mut tracks = JoinSet::new();
    for place in 0..ABREAST {
        let (database, seed) = (Arc::clone(&database), case.seed);
        tracks.spawn(async move {
            let mut track = Track::new(&database, seed, place).await?;
            for _ in 0..races.div_ceil(ABREAST) {
                track.race().await?;
            }
            anyhow::Ok(track.tally)
        });
    }
    let mut tally = Tally::default();
    while let Some(raced) = tracks.join_next().await {
        tally.add(&raced??);
    }
    tally.has_seen_everything()?;
    Ok(Report {
        jobs: tally.races as usize,
        late_kept: tally.late_kept as usize,
        detail: tally.to_string(),
        ..Report::sound(case)
    })
}

/// Where a job stands when a race begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Start {
    Queued,
    Running,
    /// Queued again after its worker was lost, whose answer may still come.
    Lost,
    /// Held after its worker was lost, whose answer may still come.
    Held,
    Ended,
}

const STARTS: [Start; 5] = [Start::Queued, Start::Running, Start::Lost, Start::Held, Start::Ended];

/// Races one after the other, in a lane of its own.
struct Track {
    random: StdRng,
    seed: u64,
    store: Store,
    pool: PgPool,
    queue: String,
    lane: LaneId,
    /// Who leases during races.
    lessee: IncarnationId,
    tally: Tally,
}

/// What contenders act upon.
struct Race {
    job: JobId,
    /// The lease that the job had before the race, with whose it is.
    lease: Option<(IncarnationId, LeasedJob)>,
}

impl Track {
    async fn new(database: &TestDatabase, seed: u64, place: u64) -> Result<Self> {
        let mut options = StoreOptions::new(database.url());
        options.max_connections = 6;
        let store = Store::connect(&options).await?;
        let queue = format!("track-{place}");
        let lane: i64 = sqlx::query_scalar("SELECT sluice.lane_id('default', $1, 'deepseek-flash')")
            .bind(&queue)
            .fetch_one(database.pool())
            .await?;
        let lessee = by_hand::begin_incarnation(&store).await?;
        let random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(place));
        let pool = database.pool().clone();
        let lane = LaneId(lane);
        Ok(Self { random, seed, store, pool, queue, lane, lessee, tally: Tally::default() })
    }

    async fn race(&mut self) -> Result<()> {
        let start = STARTS[self.random.random_range(0..STARTS.len())];
        let race = self.prepare(start).await.with_context(|| format!("prepare a race from {start:?}"))?;
        let before = Facts::of(&self.pool, race.job).await?;
        let contenders = Contender::some(&mut self.random, start, race.lease.is_some());
        let starts: Vec<Duration> = contenders
            .iter()
            .map(|_| Duration::from_micros(self.random.random_range(0..LATEST_START_US)))
            .collect();
        let racing = contenders.iter().zip(starts).map(|(contender, start)| {
            let (track, race) = (&*self, &race);
            async move {
                tokio::time::sleep(start).await;
                contender.act(track, race).await
            }
        });
        let told: Vec<Told> = join_all(racing).await.into_iter().collect::<Result<_>>()?;
        let after = Facts::of(&self.pool, race.job).await?;
        let lie = truth::lie(&race, &before, &after, &told);
        self.tally.note(&told);
        if let Some(lie) = lie {
            bail!(
                "seed {}, {}, race {} from {start:?}: {lie}\n told {told:#?}\n before {before:#?}\n after {after:#?}",
                self.seed,
                self.queue,
                self.tally.races,
            );
        }
        self.clear(&race, &told).await
    }

    /// Brings a job to where the race begins.
    async fn prepare(&self, start: Start) -> Result<Race> {
        let store = &self.store;
        let on_unknown = if start == Start::Held { OnUnknown::Hold } else { OnUnknown::Retry };
        let submitted = job().queue(&self.queue).on_unknown(on_unknown).build();
        store.submit(&submitted).await?;
        let mut race = Race { job: submitted.id, lease: None };
        if start == Start::Queued {
            return Ok(race);
        }
        let incarnation = by_hand::begin_incarnation(store).await?;
        let leased = self.lease_as(incarnation).await?.context("lease the job")?;
        match start {
            Start::Lost | Start::Held => drop(store.incarnation_end(incarnation).await?),
            Start::Ended => {
                let fail = Decision::Fail { is_retryable: true };
                let settlement = by_hand::without_answer(incarnation, &leased, Outcome::Failed, fail);
                store.settle_many(&[settlement]).await?;
                return Ok(race);
            }
            Start::Queued | Start::Running => {}
        }
        race.lease = Some((incarnation, leased));
        Ok(race)
    }

    /// Leases the track's one job, if it can be had.
    async fn lease_as(&self, incarnation: IncarnationId) -> Result<Option<LeasedJob>> {
        let grant = Grant {
            lane_id: self.lane,
            priority: Priority::default(),
            limit: 1,
            floors: PairFloors::default(),
        };
        Ok(self.store.lease_many(incarnation, &[grant], 1).await?.pop())
    }

    /// Ends the job and lets go of all its leases, so that the lane is empty for the next race.
    async fn clear(&self, race: &Race, told: &[Told]) -> Result<()> {
        self.store.job_cancel(&TenantName::default_tenant(), race.job).await?;
        if let Some((incarnation, leased)) = &race.lease {
            self.store.incarnation_end(*incarnation).await?;
            self.store.lease_hand_back_many(*incarnation, &[(race.job, leased.lease_id)]).await?;
        }
        for leased in told.iter().filter_map(Told::leased) {
            self.store.lease_hand_back_many(self.lessee, &[(race.job, leased.lease_id)]).await?;
        }
        let left = Facts::of(&self.pool, race.job).await?;
        let is_clear = left.places.is_empty() && left.slots_taken == 0;
        if !is_clear {
            bail!("seed {}, {}: a cancelled job stands somewhere still: {left:#?}", self.seed, self.queue);
        }
        Ok(())
    }

    fn hold() -> Decision {
        Decision::Hold(HoldReason::UnknownOutcome)
    }

    fn requeue() -> Decision {
        Decision::Requeue { delay: Duration::ZERO, spends_try: true, is_refusal: false }
    }
}
