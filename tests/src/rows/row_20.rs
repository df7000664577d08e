//! Row 20: many workers share limits that bind, of slots, requests and tokens, and some of them are killed.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use futures::FutureExt;
use serde_json::{Value, json};
use sluice_domain::LimitKind;
use sluice_store::{Store, StoreOptions};
use tokio::time::{Instant, sleep};

use super::{Case, Findings, Report, Row};
use crate::{
    history::CallEnd,
    lab::{Lab, Load, LoadPlan, until},
};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 20,
    name: "64 workers and limits for few calls",
    done: "64 workers work under limits of slots, requests and tokens that let few calls through, which the upstream enforces, too; a quarter of them is killed on the way.",
    must_hold: "No limit is exceeded in the books, at any look; the upstream refuses nothing but what the killed had under way; in the end no slot, request or token is held by anybody.",
    run: |case| run(case).boxed_local(),
};

const SLOTS: u32 = 6;
const REQUESTS_PER_SECOND: u32 = 20;
const TOKENS_PER_SECOND: u64 = 2_000;
/// The windows of the books are a second, and half of one and a slice more.
const UNTIL_FALLEN: Duration = Duration::from_millis(2_500);

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut lab = Lab::start(&case.folder, case.plan("100ms")).await?;
    let limits = json!({
        "concurrency": SLOTS, "requests_per_minute": REQUESTS_PER_SECOND, "tokens_per_minute": TOKENS_PER_SECOND,
        "window_ms": 1_000,
    });
    lab.upstream.change(&json!({ "limits": limits })).await?;
    lab.configure(&configuration(&lab)).await?;
    lab.start_scheduler().await?;
    let workers = case.pick(8, 64);
    for _ in 0..workers {
        lab.start_worker(4).await?;
    }
    let store = Store::connect(&StoreOptions::new(lab.cluster.url())).await?;
    let plan = LoadPlan { seed: case.seed, per_second: 100.0, most: case.pick(200, 2_000), hold_share: 0.0 };
    let load = Load::start(&lab, plan)?;
    let mut findings = Findings::default();
    let mut watch = Watch::default();

    until("some jobs to end", Duration::from_mins(1), async || Ok(lab.ended().await? > 20)).await?;
    watch.look_for(&store, Duration::from_secs(2)).await?;
    for at in (0..workers).step_by(4) {
        lab.kill_worker(at).await?;
    }
    watch.look_for(&store, Duration::from_secs(case.pick(5, 30))).await?;
    let told = load.finish().await?;
    let rested = Instant::now() + case.bound(Duration::from_mins(5));
    while lab.unrested().await? > 0 && Instant::now() < rested {
        watch.look_for(&store, Duration::from_millis(500)).await?;
    }
    sleep(UNTIL_FALLEN).await;
    for known in store.limits().await? {
        findings.demand(known.used == 0, || format!("{} of {} are held by nobody", known.used, known.limit));
    }
    watch.judge(&mut findings);
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(1)).await?;
    let refused = reckoning.history.calls.iter().filter(|call| call.end == CallEnd::AnsweredBadly).count();
    let killed = reckoning.figures.unknown_or_lost;
    findings.demand(refused <= killed, || format!("{refused} calls were refused, {killed} were lost"));
    findings.note(format!("{refused} calls refused, {killed} attempts lost with their workers"));
    Ok(findings.report(case, &reckoning))
}

fn configuration(lab: &Lab) -> Value {
    let mut configuration = lab.configuration(&lab.upstream.base_url());
    configuration["limits"] = json!([{
        "account": "sim", "model": "deepseek-flash", "concurrency": SLOTS,
        "requests_per_second": REQUESTS_PER_SECOND, "tokens_per_second": TOKENS_PER_SECOND,
    }]);
    configuration
}

/// What was seen of the books.
#[derive(Default)]
struct Watch {
    looks: usize,
    exceeded: Vec<String>,
    /// The most that was seen used of each kind.
    most: BTreeMap<&'static str, i64>,
}

impl Watch {
    async fn look_for(&mut self, store: &Store, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            for known in store.limits().await? {
                let most = self.most.entry(known.limit.kind.as_str()).or_default();
                *most = known.used.max(*most);
                if known.used > known.limit.cap as i64 {
                    self.exceeded.push(format!("{} of {}", known.used, known.limit));
                }
            }
            self.looks += 1;
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn judge(&self, findings: &mut Findings) {
        findings.demand(self.exceeded.is_empty(), || {
            format!(
                "limits were exceeded at {} of {} looks, first by {}",
                self.exceeded.len(),
                self.looks,
                self.exceeded[0]
            )
        });
        let slots = self.most.get(LimitKind::Concurrency.as_str()).copied().unwrap_or(0);
        findings.demand(slots == i64::from(SLOTS), || {
            format!("at most {slots} slots were in use: nothing was proved")
        });
        findings.note(format!("{} looks, most used: {:?}", self.looks, self.most));
    }
}
