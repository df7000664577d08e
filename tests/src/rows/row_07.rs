//! Row 7: workers are cut off from the database while calls are under way, each in another way, and all are healed
//! together. The scheduler is not cut off: it finds those dead that can't beat, and others do their jobs.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sluice_domain::IncarnationId;
use sqlx::postgres::PgConnectOptions;

use super::{Case, Findings, Report, Row};
use crate::{
    history::History,
    lab::{
        Lab, Load, LoadPlan, Reckoning,
        proxy::{Direction, FaultProxy},
    },
    processes::Start,
};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 7,
    name: "cut worker ↔ database",
    done: "Each worker in its own way for 2.5 TTLs: black hole either way and both, connections lost for ever, RSTs, refusals, losses.",
    must_hold: "No call begins after the lease's end; answers are settled after healing; all workers work again.",
    run: |case| run(case).boxed_local(),
};

/// How a worker is cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cut {
    SilentToServer,
    SilentToClient,
    SilentBoth,
    /// Silent, and the connections that were open then are never heard of again.
    Abandoned,
    /// All connections are reset, again and again.
    Resets,
    Refused,
    Losses,
}

const CUTS: [Cut; 7] = [
    Cut::SilentToServer,
    Cut::SilentToClient,
    Cut::SilentBoth,
    Cut::Abandoned,
    Cut::Resets,
    Cut::Refused,
    Cut::Losses,
];

impl Cut {
    /// Whether no beat gets through.
    fn is_whole(self) -> bool {
        !matches!(self, Self::Resets | Self::Losses)
    }

    async fn begin(self, proxy: &FaultProxy) {
        match self {
            Self::SilentToServer => proxy.black_hole(Direction::ToServer),
            Self::SilentToClient => proxy.black_hole(Direction::ToClient),
            Self::SilentBoth | Self::Abandoned => proxy.black_hole_both(),
            Self::Resets => proxy.reset(),
            Self::Refused => {
                proxy.refuse().await;
                proxy.reset();
            }
            Self::Losses => proxy.lose(0.3),
        }
    }

    async fn end(self, proxy: &FaultProxy) {
        if self == Self::Abandoned {
            proxy.abandon();
        }
        proxy.heal().await;
    }
}

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut random = StdRng::seed_from_u64(case.seed);
    let mut lab = Lab::start(&case.folder, case.plan("1s..3s")).await?;
    lab.start_scheduler().await?;
    let database: PgConnectOptions = lab.cluster.url().parse()?;
    let mut proxies = Vec::new();
    for _ in CUTS {
        let proxy = FaultProxy::before_database(case.seed, &database).await?;
        let variables = [("DATABASE_URL", proxy.database_url(&database))];
        let more = Start { variables: &variables, ..Start::default() };
        lab.start_worker_as(case.pick(6, 20), more).await?;
        proxies.push(proxy);
    }
    // One that is never cut off, for the jobs of the others.
    lab.start_worker(case.pick(30, 100)).await?;
    lab.brake_is_released(0).await?;
    let plan =
        LoadPlan { seed: case.seed, per_second: case.pick(15.0, 40.0), most: usize::MAX, hold_share: 0.05 };
    let load = Load::start(&lab, plan)?;
    for (at, cut) in CUTS.iter().enumerate() {
        lab.worker_holds(at, 1).await.with_context(|| format!("before {cut:?}"))?;
    }
    tokio::time::sleep(Duration::from_millis(random.random_range(0..1_500))).await;

    let cut_at = lab.now().await?;
    for (cut, proxy) in CUTS.into_iter().zip(&proxies) {
        cut.begin(proxy).await;
    }
    let resets = (lab.timing.ttl * 5 / 2).as_millis() as u64 / 500;
    for _ in 0..resets {
        tokio::time::sleep(Duration::from_millis(500)).await;
        for (cut, proxy) in CUTS.into_iter().zip(&proxies) {
            if cut == Cut::Resets {
                proxy.reset();
            }
        }
    }
    for (cut, proxy) in CUTS.into_iter().zip(&proxies) {
        cut.end(proxy).await;
    }
    let healed_at = lab.now().await?;
    let mut findings = Findings::default();
    for (at, cut) in CUTS.into_iter().enumerate() {
        let worked = works_again(&lab, at, healed_at).await;
        findings.demand(worked.is_ok(), || {
            format!("{cut:?}: the worker leased nothing within a minute after healing")
        });
    }
    let again_after = (lab.now().await? - healed_at).to_std()?;
    findings.note(format!("all workers leased again within {again_after:?}"));
    let told = load.stop().await?;
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(3)).await?;
    findings.demand(told.failed.is_empty(), || format!("{} submits were refused", told.failed.len()));
    findings.demand(reckoning.figures.late_lost == 0, || {
        format!("{} answers were lost", reckoning.figures.late_lost)
    });
    judge_cuts(&lab, &reckoning, cut_at, healed_at, &mut findings).await?;
    Ok(findings.report(case, &reckoning))
}

/// Waits until a worker has leased since.
async fn works_again(lab: &Lab, at: usize, since: DateTime<Utc>) -> Result<()> {
    crate::lab::until("a worker to lease again", Duration::from_mins(1), async || {
        let lives = lab.lives_of(at).await?;
        Ok(lab
            .attempts()
            .await?
            .iter()
            .any(|attempt| lives.contains(&attempt.incarnation) && attempt.begun_at > since))
    })
    .await
}

/// No call of a worker that can't beat begins after its lease's end.
async fn judge_cuts(
    lab: &Lab,
    reckoning: &Reckoning,
    cut_at: DateTime<Utc>,
    healed_at: DateTime<Utc>,
    findings: &mut Findings,
) -> Result<()> {
    let lease_over = cut_at + TimeDelta::from_std(lab.timing.ttl)?;
    for (at, cut) in CUTS.into_iter().enumerate() {
        let calls = calls_of(&reckoning.history, &lab.lives_of(at).await?);
        let during: Vec<_> =
            calls.iter().filter(|arrived| **arrived > cut_at && **arrived < healed_at).collect();
        let late = during.iter().filter(|arrived| ***arrived > lease_over).count();
        findings.demand(!cut.is_whole() || late == 0, || {
            format!("{cut:?}: {late} calls began after the lease's end")
        });
        findings.note(format!("{cut:?}: {} calls began while it lasted", during.len()));
    }
    Ok(())
}

/// When the calls of these lives arrived, as far as the ledger or a late answer names them.
fn calls_of(history: &History, lives: &BTreeSet<IncarnationId>) -> Vec<DateTime<Utc>> {
    let attempts: Vec<_> =
        history.attempts.iter().filter(|attempt| lives.contains(&attempt.incarnation)).collect();
    let leases: BTreeSet<_> = attempts.iter().map(|attempt| attempt.lease_id).collect();
    let named = attempts.iter().filter_map(|attempt| attempt.call_id.as_deref());
    let late = history.late.iter().filter(|answer| leases.contains(&answer.lease_id));
    let ids: BTreeSet<&str> = named.chain(late.filter_map(|answer| answer.call_id.as_deref())).collect();
    let is_theirs = |id: &Option<String>| id.as_deref().is_some_and(|id| ids.contains(id));
    history.calls.iter().filter(|call| is_theirs(&call.call_id)).map(|call| call.arrived_at).collect()
}

#[cfg(test)]
mod tests {
    use sluice_store::{Doorbell, Store, StoreOptions};
    use sluice_testkit::TestDatabase;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn connections_that_were_lost_without_a_word_are_replaced() {
        let database = TestDatabase::new().await;
        let options = database.connect_options();
        let proxy = FaultProxy::before_database(1, &options).await.unwrap();
        let mut through_proxy = StoreOptions::new(proxy.database_url(&options));
        through_proxy.max_connections = 2;
        let store = Store::connect(&through_proxy).await.unwrap();
        let ask = || timeout(Duration::from_millis(1_500), store.database_now());
        let (one, other) = tokio::join!(ask(), ask());
        assert!(one.is_ok() && other.is_ok());
        proxy.abandon();
        let (one, other) = tokio::join!(ask(), ask());
        assert!(one.is_err() && other.is_err(), "nothing is heard of either connection");
        timeout(Duration::from_secs(10), store.ping()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_listener_that_was_lost_without_a_word_says_so() {
        let database = TestDatabase::new().await;
        let options = database.connect_options();
        let proxy = FaultProxy::before_database(1, &options).await.unwrap();
        let store = Store::connect(&StoreOptions::new(proxy.database_url(&options))).await.unwrap();
        let listener = store.listen(&[Doorbell::Ended]).await.unwrap();
        let mut listener = listener.asking_after(Duration::from_millis(100));
        let silence = timeout(Duration::from_millis(500), listener.heard()).await;
        assert!(silence.is_err(), "a connection that is there is listened on, however often it was asked");
        store.ring(Doorbell::Ended).await.unwrap();
        assert_eq!(listener.heard().await.unwrap(), Some(Doorbell::Ended));
        proxy.abandon();
        let heard =
            timeout(Duration::from_secs(20), listener.heard()).await.expect("it is deaf and says nothing");
        assert!(heard.is_err());
    }
}
