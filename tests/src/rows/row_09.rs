//! Row 9: a storm of 429, each time with another `Retry-After`: seconds, a date, milliseconds, below zero, nonsense, and far
//! too long.

use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use serde_json::json;
use sluice_domain::JobId;

use super::{Case, Findings, Report, Row};
use crate::{
    history::{Acknowledged, Call, CallEnd, WhenUnknown},
    lab::{Lab, Load, LoadPlan, Recovery, Told, rate_is_back, until},
};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 9,
    name: "429 storm",
    done: "Under load every call is refused for a moment, with a `Retry-After` in seconds, as a date, below zero or without sense; at last with one of weeks.",
    must_hold: "No call before the time told; after it at most 5 % of the fleet in any 100 ms, and one of each worker; no try is spent; the full rate is back within 30 s; over an hour counts as an hour.",
    run: |case| run(case).boxed_local(),
};

/// Forms of `Retry-After`, and whether they tell a time; in small the first few.
const FORMS: [(&str, bool); 5] = [
    ("retry_after_seconds", true),
    ("retry_after_date", true),
    ("retry_after_nonsense", false),
    ("retry_after_negative", false),
    ("retry_after_ms", true),
];
/// What is told, in milliseconds. A date has no parts of a second.
const TOLD_MS: i64 = 3_000;
const DATE_LACKS: TimeDelta = TimeDelta::seconds(1);
/// Calls that were under way at the first refusal arrive, and all workers hear of it, within so long.
const UNTIL_ALL_KNOW: TimeDelta = TimeDelta::milliseconds(700);
/// The fleet follows by a ramp of so long.
const RAMP: TimeDelta = TimeDelta::milliseconds(2_500);
/// Within the ramp, so many in a hundred of the fleet's slots may begin in any tenth of a second.
const RAMP_PERCENT: usize = 5;
const RATE_IS_BACK_WITHIN: Duration = Duration::from_secs(30);

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut lab = Lab::start(&case.folder, case.plan("200ms")).await?;
    lab.start_scheduler().await?;
    let (workers, slots): (usize, usize) = (case.pick(2, 5), case.pick(20, 200));
    for _ in 0..workers {
        lab.start_worker(slots).await?;
    }
    let mut findings = Findings::default();
    let per_second = case.pick(40.0, 100.0);
    let mut told = Told::default();
    for (number, (form, tells)) in FORMS.into_iter().take(case.pick(3, FORMS.len())).enumerate() {
        let plan =
            LoadPlan { seed: case.seed * 10 + number as u64, per_second, most: usize::MAX, hold_share: 0.0 };
        let load = Load::start(&lab, plan)?;
        let calm_at = lab.now().await?;
        tokio::time::sleep(Duration::from_secs(case.pick(3, 8))).await;
        let storm = Storm::strike(&lab, form).await?;
        let calm_calls = calls_between(&lab.upstream.calls()?, calm_at, storm.began_at);
        let usual = calm_calls as f64 / (storm.began_at - calm_at).as_seconds_f64();
        let most = case.bound(RATE_IS_BACK_WITHIN + Duration::from_secs(5));
        // Recognised by the calls that are answered: what is refused is no rate.
        let back = until("the rate to be back", most, async || {
            let calls = answered(&lab.upstream.calls()?);
            Ok(rate_is_back(&calls, storm.told_until, usual * 0.9, Duration::from_secs(2), most).is_some())
        });
        back.await.with_context(|| form.to_owned())?;
        told.add(load.stop().await?);
        judge(&lab, form, tells, &storm, (workers, slots), &mut findings)?;
        let calls = answered(&lab.upstream.calls()?);
        if let Some(took) = rate_is_back(&calls, storm.told_until, usual * 0.9, Duration::from_secs(2), most)
        {
            findings.recovered(Recovery::of(took));
            let promised = case.bound(RATE_IS_BACK_WITHIN);
            findings.demand(took <= promised, || format!("{form}: the rate was back after {took:?}"));
        }
        until("all jobs to end", case.bound(Duration::from_mins(2)), async || Ok(lab.unrested().await? == 0))
            .await?;
    }
    let (spent, all) = tries(&lab).await?;
    findings.demand(spent == all, || format!("{} tries were spent by refusals", spent - all));
    far_too_long(&lab, &mut told, &mut findings).await?;
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(2)).await?;
    findings.demand_no_repetition(&reckoning);
    Ok(findings.report(case, &reckoning))
}

/// A moment in which all calls are refused.
struct Storm {
    /// When the first was.
    began_at: DateTime<Utc>,
    /// When the last of those that nobody could keep back arrived.
    last_at: DateTime<Utc>,
    /// No call before this time, where one was told.
    told_until: DateTime<Utc>,
}

impl Storm {
    async fn strike(lab: &Lab, form: &str) -> Result<Self> {
        let known = lab.upstream.calls()?.len();
        let rule = json!({"kind": form, "probability": 1.0, "params": {"after_ms": TOLD_MS}});
        lab.upstream.change(&json!({ "faults": [rule] })).await?;
        until("a call to be refused", Duration::from_secs(30), async || {
            Ok(refusals(&lab.upstream.calls()?[known..]).next().is_some())
        })
        .await?;
        tokio::time::sleep(UNTIL_ALL_KNOW.to_std()?).await;
        lab.upstream.change(&json!({ "faults": [] })).await?;
        let calls = lab.upstream.calls()?;
        let mut refused = refusals(&calls[known..]).map(|call| call.arrived_at);
        let began_at = refused.next().context("find the first refusal")?;
        let last_at = refused.max().unwrap_or(began_at);
        Ok(Self { began_at, last_at, told_until: began_at + TimeDelta::milliseconds(TOLD_MS) })
    }
}

fn judge(
    lab: &Lab,
    form: &str,
    tells: bool,
    storm: &Storm,
    (workers, slots): (usize, usize),
    findings: &mut Findings,
) -> Result<()> {
    let calls = lab.upstream.calls()?;
    let refused = refusals(&calls).filter(|call| call.arrived_at >= storm.began_at).count();
    findings.note(format!("{form}: {refused} refused"));
    if !tells {
        return Ok(());
    }
    let late_known = storm.began_at + UNTIL_ALL_KNOW;
    findings.demand(storm.last_at <= late_known, || {
        format!("{form}: refused until {:?} after the first", storm.last_at - storm.began_at)
    });
    // Each refusal tells its own time; the first one's is the earliest that any worker could have heard.
    let lacks = if form == "retry_after_date" { DATE_LACKS } else { TimeDelta::zero() };
    let until = storm.told_until - lacks;
    let early = calls_between(&calls, late_known, until);
    findings.demand(early == 0, || format!("{form}: {early} calls came before the time that was told"));
    // No worker lets less than one begin.
    let most = workers * ((slots * RAMP_PERCENT / 100).max(1) + 1);
    let after: Vec<_> = calls.iter().map(|call| call.arrived_at).filter(|at| *at >= until).collect();
    // From the probe on; the ramp begins when that was answered, or a second later.
    let Some(probed_at) = after.first().copied() else { return Ok(()) };
    let ramp: Vec<_> = after.into_iter().filter(|at| *at < probed_at + RAMP).collect();
    let within = |from: DateTime<Utc>| {
        ramp.iter().filter(|at| **at >= from && **at < from + TimeDelta::milliseconds(100)).count()
    };
    let densest = ramp.iter().map(|at| within(*at)).max().unwrap_or(0);
    findings.demand(densest <= most, || format!("{form}: {densest} calls within 100 ms; at most {most}"));
    Ok(())
}

/// Weeks count as an hour, and nobody waits for that here.
async fn far_too_long(lab: &Lab, told: &mut Told, findings: &mut Findings) -> Result<()> {
    let rule = json!({"kind": "retry_after_huge", "probability": 1.0});
    lab.upstream.change(&json!({ "faults": [rule] })).await?;
    let key = "far-too-long";
    let job_id = lab.submit(key, "patience").await?;
    told.acknowledged.push(Acknowledged { key: key.to_owned(), job_id, when_unknown: WhenUnknown::Repeat });
    let closed_for =
        "SELECT extract(epoch FROM max(until) - clock_timestamp())::float8 FROM sluice.cooldowns";
    let mut left = 0.0;
    until("the gate to be closed", Duration::from_secs(30), async || {
        left = sqlx::query_scalar::<_, Option<f64>>(closed_for).fetch_one(lab.pool()).await?.unwrap_or(0.0);
        Ok(left > 60.0)
    })
    .await?;
    findings.demand((3_500.0..=3_601.0).contains(&left), || format!("weeks counted as {left:.0} s"));
    let alerts =
        lab.workers.iter().filter(|worker| worker.process.log().contains("for over an hour")).count();
    findings.demand(alerts > 0, || "nobody was told of it".to_owned());
    cancel(lab, job_id).await
}

async fn cancel(lab: &Lab, job: JobId) -> Result<()> {
    let url = format!("{}/v1/jobs/{job}/cancel", lab.schedulers[0].url);
    reqwest::Client::new().post(url).send().await?.error_for_status().context("cancel a job")?;
    Ok(())
}

fn refusals(calls: &[Call]) -> impl Iterator<Item = &Call> {
    calls.iter().filter(|call| call.end == CallEnd::AnsweredBadly)
}

fn answered(calls: &[Call]) -> Vec<Call> {
    calls.iter().filter(|call| call.end == CallEnd::AnsweredWell).cloned().collect()
}

fn calls_between(calls: &[Call], from: DateTime<Utc>, to: DateTime<Utc>) -> usize {
    calls.iter().filter(|call| (from..to).contains(&call.arrived_at)).count()
}

/// Tries that were spent, and jobs.
async fn tries(lab: &Lab) -> Result<(i64, i64)> {
    let sums = "SELECT coalesce(sum(tries), 0)::bigint, count(*) FROM sluice.done";
    Ok(sqlx::query_as(sums).fetch_one(lab.pool()).await?)
}
