//! Row 12: an API that answers in every bad way there is: not at all, a byte a second, half, cut, with garbage, with too
//! much, with figures that can't be. Each job orders one of them from an upstream of its own, while good ones go on.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use serde_json::{Value, json};
use sluice_domain::JobId;
use uuid::Uuid;

use super::{Case, Findings, Report, Row};
use crate::{
    history::{Acknowledged, WhenUnknown},
    lab::{Lab, Recovery, Told, until},
};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 12,
    name: "an API that hangs, drips, stalls, cuts, lies and floods",
    done: "Jobs order each bad answer of the simulator, plain and streamed, with one try each, among good jobs.",
    must_hold: "Each ends with its class; slots are free within 30 s after the stall clock; memory is capped; costs are sound; nobody panics.",
    run: |case| run(case).boxed_local(),
};

/// What a fault ends as, plain and streamed. `None` is a success.
const ENDS: [(&str, Option<&str>, Option<&str>); 26] = [
    ("hang", Some("stalled"), Some("stalled")),
    ("hang_keepalive", Some("stalled"), Some("stalled")),
    ("drip", Some("call_timeout"), Some("stalled")),
    ("stall", Some("stalled"), Some("stalled")),
    ("stall_keepalive", Some("stalled"), Some("stalled")),
    ("reset_before_answer", Some("connection_lost"), Some("connection_lost")),
    ("reset_mid_stream", Some("connection_lost"), Some("connection_lost")),
    ("close_mid_stream", Some("connection_lost"), Some("connection_lost")),
    ("cut_json", Some("malformed_answer"), Some("connection_lost")),
    ("garbage_after_json", Some("malformed_answer"), None),
    ("bad_utf8", None, None),
    ("wrong_type", Some("malformed_answer"), Some("malformed_answer")),
    ("gzip_bomb", Some("oversized_answer"), Some("oversized_answer")),
    ("body_10mb", None, None),
    ("body_1gb", Some("oversized_answer"), Some("oversized_answer")),
    ("header_1mb", Some("malformed_answer"), Some("malformed_answer")),
    ("error_event", Some("malformed_answer"), Some("malformed_answer")),
    ("html", Some("malformed_answer"), Some("connection_lost")),
    ("empty_body", Some("malformed_answer"), Some("malformed_answer")),
    ("nul", None, None),
    ("raw_nul", None, None),
    ("blank_lines", None, None),
    ("usage_missing", None, None),
    ("usage_negative", None, None),
    ("usage_huge", None, None),
    ("empty_stop", Some("incomplete_answer"), Some("incomplete_answer")),
];

/// The most memory that a worker may ever have held: some answers of 32 MiB at once, in a few copies, and what it is itself.
const MOST_MEMORY_KB: u64 = 1024 * 1024;
/// Slots are free so long after the longest stall clock.
const FREE_WITHIN: Duration = Duration::from_secs(30);

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut lab = Lab::start(&case.folder, case.plan("20ms")).await?;
    let total = case.pick(Duration::from_secs(12), Duration::from_secs(30));
    lab.configure(&configuration(&lab, total)).await?;
    lab.start_scheduler().await?;
    let worker = lab.start_worker(200).await?;
    let mut told = Told::default();
    let mut expected = BTreeMap::new();
    for round in 0..case.pick(1, 5) {
        for (fault, plain, streamed) in ENDS {
            for (is_streamed, end) in [(false, plain), (true, streamed)] {
                let key = format!("{fault}-{}-{round}", if is_streamed { "streamed" } else { "plain" });
                let job = submit(&lab, fault, is_streamed, &key).await?;
                expected.insert(job, (key.clone(), end));
                told.acknowledged.push(Acknowledged { key, job_id: job, when_unknown: WhenUnknown::Repeat });
            }
        }
    }
    let begun = std::time::Instant::now();
    let all_end =
        until("all jobs to end", case.bound(total + FREE_WITHIN), async || Ok(lab.unrested().await? == 0));
    all_end.await?;
    let mut findings = Findings::default();
    findings.recovered(Recovery::of(begun.elapsed()));
    judge(&lab, &expected, &mut findings).await?;
    let process = lab.workers[worker].process.id().context("the worker has ended")?;
    let peak = memory_peak_kb(process)?;
    findings.demand(peak <= MOST_MEMORY_KB, || format!("a worker held {peak} kB"));
    findings.note(format!("a worker held {} MB at most", peak / 1024));
    // The same worker still works.
    let last = submit(&lab, "none", false, "last").await?;
    told.acknowledged.push(Acknowledged {
        key: "last".to_owned(),
        job_id: last,
        when_unknown: WhenUnknown::Repeat,
    });
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(1)).await?;
    let lives: i64 = sqlx::query_scalar("SELECT count(DISTINCT pid) FROM sluice.incarnations")
        .fetch_one(lab.pool())
        .await?;
    findings.demand(lives == 1, || "the worker did not live through it".to_owned());
    Ok(findings.report(case, &reckoning))
}

/// How each job ended, and what it cost.
async fn judge(
    lab: &Lab,
    expected: &BTreeMap<JobId, (String, Option<&str>)>,
    findings: &mut Findings,
) -> Result<()> {
    let ends: Vec<(Uuid, String, Option<String>)> =
        sqlx::query_as("SELECT job_id, state::text, error_class FROM sluice.done")
            .fetch_all(lab.pool())
            .await?;
    ensure!(ends.len() == expected.len(), "{} ends of {} jobs", ends.len(), expected.len());
    for (id, state, class) in ends {
        let (key, end) = expected.get(&JobId::from_uuid(id)).context("a job that nobody submitted")?;
        let (wanted, got) = (end.unwrap_or("succeeded"), class.as_deref().unwrap_or(&state));
        findings.demand(wanted == got, || format!("{key}: {got} instead of {wanted}"));
    }
    let unsound: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sluice.attempts_ended WHERE cost_nano_usd < 0")
            .fetch_one(lab.pool())
            .await?;
    findings.demand(unsound == 0, || format!("{unsound} attempts have costs below nothing"));
    Ok(())
}

/// An upstream and a model for each fault, so that no breaker of one stands before another; short clocks, one try.
fn configuration(lab: &Lab, total: Duration) -> Value {
    let names = || ENDS.iter().map(|(fault, ..)| *fault).chain(["none"]);
    let timeouts = json!({
        "first_byte": "4s", "first_token": "5s", "between_tokens": "2s", "total": format!("{}s", total.as_secs()),
    });
    let upstream = |name| {
        json!({"name": name, "provider": "deepseek", "base_url": lab.upstream.base_url(), "api_key": "${SIM_KEY}",
               "timeouts": timeouts})
    };
    let route = |name| json!({"model": name, "targets": [{"upstream": name, "model": "deepseek-flash"}]});
    json!({
        "upstreams": names().map(upstream).collect::<Vec<_>>(),
        "routes": names().map(route).collect::<Vec<_>>(),
        "queues": [{"name": "default", "retry": {"max_attempts": 1}}],
        "breaker": {"failure_threshold": 1000},
    })
}

async fn submit(lab: &Lab, fault: &str, is_streamed: bool, key: &str) -> Result<JobId> {
    let body = json!({
        "body": {"model": fault, "user": key, "stream": is_streamed,
                 "messages": [{"role": "user", "content": format!("{key} [[sim:{fault}]]")}]},
        "idempotency_key": key,
    });
    let url = format!("{}/v1/jobs", lab.schedulers[0].url);
    let answer = reqwest::Client::new().post(url).json(&body).send().await?.error_for_status()?;
    let job: Value = answer.json().await?;
    Ok(job["id"].as_str().context("find an id")?.parse()?)
}

/// The most memory that a process ever had, as Linux tells it.
fn memory_peak_kb(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read a process's status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("find the peak")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
