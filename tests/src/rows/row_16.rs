//! Row 16: the primary dies under load and its standby takes its place, at the same address. Once the standby followed
//! synchronously; once it lagged behind, so that commits are lost that had been acknowledged.
//!
//! What a lagging standby loses can't be got back, and is no fault of the queue. But it must be exactly that: it is read
//! from the disk of the primary (`history::taken_back`), and everything else is judged as ever. The clients, workers and
//! schedulers reach the server through a proxy, as through an address that moves.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::FutureExt;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sluice_testkit::TestCluster;
use sqlx::postgres::PgConnectOptions;

use super::{Case, Findings, Report, Row};
use crate::{
    facts,
    history::Standing,
    lab::{
        Lab, Load, LoadPlan, Recovery, Told,
        proxy::{FaultProxy, Target},
        until,
    },
};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 16,
    name: "fail-over to a standby, synchronous and not",
    done: "The primary is killed under load and its standby promoted at the same address; once it was synchronous, once it lagged behind.",
    must_hold: "Synchronous: nothing is lost, no call is repeated. Lagging: lost is what never reached it, and nothing else; no id is used again; no stale lease is accepted.",
    run: |case| run(case).boxed_local(),
};

const NAME: &str = "standby";
const WORKERS: usize = 2;
/// Long after the address leads to the new primary, even on a busy machine.
const GOES_ON_WITHIN: Duration = Duration::from_mins(3);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standby {
    Synchronous,
    Lagging,
}

/// An installation whose server has a standby, both behind proxies.
struct Pair {
    lab: Lab,
    /// The standby; the primary that was left, once they have changed places.
    other: TestCluster,
    /// Before whichever server is the primary.
    address: FaultProxy,
    /// Between the two.
    replication: FaultProxy,
}

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let synchronous = fail_over(case, Standby::Synchronous).await.context("with a synchronous standby")?;
    let lagging = fail_over(case, Standby::Lagging).await.context("with a standby that lags behind")?;
    Ok(synchronous.and(&lagging))
}

async fn fail_over(case: &Case, kind: Standby) -> Result<Report> {
    let mut random = StdRng::seed_from_u64(case.seed);
    let mut pair = Pair::start(case, kind).await?;
    let lab = &mut pair.lab;
    lab.start_scheduler().await?;
    for _ in 0..WORKERS {
        lab.start_worker(case.pick(10, 40)).await?;
    }
    lab.brake_is_released(0).await?;
    let plan =
        LoadPlan { seed: case.seed, per_second: case.pick(30.0, 80.0), most: usize::MAX, hold_share: 0.05 };
    let load = Load::start(lab, plan)?;
    for at in 0..WORKERS {
        lab.worker_holds(at, case.pick(3, 10)).await?;
    }
    tokio::time::sleep(Duration::from_millis(random.random_range(1_000..3_000))).await;
    if kind == Standby::Lagging {
        pair.replication.black_hole_both();
        tokio::time::sleep(Duration::from_millis(random.random_range(500..4_000))).await;
    }
    let seen_ends = pair.lab.ends().await?;
    let went_on = pair.take_over(Duration::from_millis(random.random_range(0..4_000))).await?;
    let recovery = pair.calls_begin_again().await?;
    if kind == Standby::Lagging {
        // A synchronous standby has nothing to be excused.
        pair.lab.note_taken_back(&pair.other, &went_on).await?;
    }
    tokio::time::sleep(pair.lab.timing.ttl * 3).await;
    let told = load.stop().await?;
    let reckoning = pair.lab.reckon(&told, seen_ends, Duration::from_mins(3)).await?;
    let mut findings = Findings::default();
    findings.recovered(recovery);
    findings.demand(told.failed.is_empty(), || format!("{} submits were refused", told.failed.len()));
    match kind {
        Standby::Synchronous => findings.demand_no_repetition(&reckoning),
        Standby::Lagging => judge_loss(&pair.lab, &told, &mut findings),
    }
    findings.note(format!("{} submits were answered 503 or not at all", told.unknown_answers));
    Ok(findings.report(case, &reckoning).of_part(&format!("{kind:?}")))
}

/// What was lost is counted, and it must have been something, or the row shows nothing.
fn judge_loss(lab: &Lab, told: &Told, findings: &mut Findings) {
    let lost = &lab.taken_back;
    let acknowledged = told.acknowledged.iter().filter(|told| lost.jobs.contains_key(&told.job_id)).count();
    findings.demand(acknowledged > 0 && !lost.attempts.is_empty(), || {
        "the fail-over lost nothing: the row shows nothing".to_owned()
    });
    findings.note(format!(
        "the fail-over took back {acknowledged} acknowledged jobs, {} ends, {} attempts and {} answers",
        lost.ends.len(),
        lost.attempts.len(),
        lost.answers.len()
    ));
}

impl Pair {
    async fn start(case: &Case, kind: Standby) -> Result<Self> {
        let folder = case.folder.join(format!("{kind:?}"));
        let mut plan = case.plan("200ms..1s");
        plan.server_settings = vec![("wal_keep_size", "1GB")];
        let mut lab = Lab::start(&folder, plan).await?;
        let options: PgConnectOptions = lab.cluster.url().parse()?;
        let address = FaultProxy::before_database(case.seed, &options).await?;
        let replication = FaultProxy::before_database(case.seed, &options).await?;
        lab.variables.push(("DATABASE_URL", address.database_url(&options)));
        let other = lab.cluster.start_standby(NAME, replication.address()).await?;
        if kind == Standby::Synchronous {
            sqlx::query("ALTER SYSTEM SET synchronous_standby_names = '*'").execute(lab.pool()).await?;
            sqlx::query("SELECT pg_reload_conf()").execute(lab.pool()).await?;
        }
        let pair = Self { lab, other, address, replication };
        pair.standby_follows(kind).await?;
        Ok(pair)
    }

    async fn standby_follows(&self, kind: Standby) -> Result<()> {
        until("the standby to follow", Duration::from_mins(1), async || {
            let state: Option<String> =
                sqlx::query_scalar("SELECT sync_state FROM pg_stat_replication WHERE application_name = $1")
                    .bind(NAME)
                    .fetch_optional(self.lab.pool())
                    .await?;
            Ok(state.as_deref() == Some(if kind == Standby::Synchronous { "sync" } else { "async" }))
        })
        .await
    }

    /// Kills the primary, promotes its standby after a while, and moves the address. Gives what the standby held before
    /// anybody reached it.
    async fn take_over(&mut self, nobody_serves: Duration) -> Result<Standing> {
        self.lab.cluster.kill().await;
        tokio::time::sleep(nobody_serves).await;
        self.other.promote().await?;
        let promoted: PgConnectOptions = self.other.url().parse()?;
        self.lab.change_places_with(&mut self.other).await?;
        let went_on = facts::standing(self.lab.pool()).await.context("read what the standby holds")?;
        self.address.lead_to(Target::database(&promoted).await?);
        Ok(went_on)
    }

    async fn calls_begin_again(&self) -> Result<Recovery> {
        let (calls_before, served) = (self.lab.upstream.calls()?.len(), Instant::now());
        until("calls to begin again", GOES_ON_WITHIN, async || {
            Ok(self.lab.upstream.calls()?.len() > calls_before)
        })
        .await?;
        Ok(Recovery::of(served.elapsed()))
    }
}
