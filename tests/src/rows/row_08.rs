//! Row 8: workers are cut off from the API, in each way in which nothing can be sent: refused, no answer to a SYN, no answer
//! to a TLS handshake, a name that does not resolve, certificates that are bad in three ways, and a server without TLS.
//! Then all are healed.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use futures::FutureExt;
use serde_json::{Value, json};
use sluice_domain::{JobId, Outcome};

use super::{Case, Findings, Report, Row};
use crate::{
    history::{Acknowledged, WhenUnknown},
    lab::{
        Lab, Told,
        proxy::{Direction, FaultProxy, Target},
        tls_front::{Authority, Certificate, TlsFront},
        unreachable::Unreachable,
        until,
    },
    processes::Start,
};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 8,
    name: "cut worker ↔ API",
    done: "Upstreams refuse, answer neither SYN nor handshake, do not resolve, show certificates of three faults, or speak no TLS.",
    must_hold: "Every attempt is not_sent and spends no try; no byte of a body reaches a bad certificate; all succeed once healed.",
    run: |case| run(case).boxed_local(),
};

/// Large enough to be missed nowhere among the bytes of a handshake.
const BODY_BYTES: usize = 64 * 1024;
/// More than the client's part of a handshake has.
const HANDSHAKE_BYTES: u64 = 4 * 1024;
const ENOUGH_ATTEMPTS: usize = 2;

/// What stands where the API should.
struct Site {
    refusing: FaultProxy,
    silent: FaultProxy,
    nobody: Unreachable,
    bad: Vec<TlsFront>,
    /// Before each front: how much came there.
    counted: BTreeMap<&'static str, FaultProxy>,
    good: TlsFront,
    authority: Authority,
}

impl Site {
    async fn start(case: &Case, lab: &Lab) -> Result<Self> {
        let server = lab.upstream.address().parse()?;
        let refusing = FaultProxy::start(case.seed, Target::Tcp(server))?;
        refusing.refuse().await;
        let silent = FaultProxy::start(case.seed, Target::Tcp(server))?;
        silent.black_hole_both();
        let authority = Authority::new()?;
        let (mut fronts, mut counted) = (Vec::new(), BTreeMap::new());
        let bad = [
            ("expired", Certificate::Expired),
            ("other-name", Certificate::OtherName),
            ("self-signed", Certificate::SelfSigned),
        ];
        for (name, certificate) in bad {
            let front = TlsFront::start(&authority, certificate, server).await?;
            counted.insert(name, FaultProxy::start(case.seed, Target::Tcp(front.address()))?);
            fronts.push(front);
        }
        // It answers a handshake with an error in plain HTTP.
        counted.insert("no-tls", FaultProxy::start(case.seed, Target::Tcp(server))?);
        let good = TlsFront::start(&authority, Certificate::Good, server).await?;
        let nobody = Unreachable::start().await?;
        Ok(Self { refusing, silent, nobody, bad: fronts, counted, good, authority })
    }

    /// Where each upstream is.
    fn upstreams(&self) -> BTreeMap<&'static str, String> {
        let mut urls = BTreeMap::from([
            ("refused", format!("http://{}", self.refusing.address())),
            ("no-answer", format!("http://{}", self.nobody.address())),
            ("no-handshake", format!("https://{}", self.silent.address())),
            ("no-such-name", "http://no-such-host.invalid".to_owned()),
            ("good", format!("https://{}", self.good.address())),
        ]);
        urls.extend(self.counted.iter().map(|(name, proxy)| (*name, format!("https://{}", proxy.address()))));
        urls
    }
}

/// Runs the row.
pub async fn run(case: &Case) -> Result<Report> {
    let mut lab = Lab::start(&case.folder, case.plan("20ms")).await?;
    let site = Site::start(case, &lab).await?;
    let upstreams = site.upstreams();
    lab.configure(&configuration(&upstreams)).await?;
    lab.start_scheduler().await?;
    let mut told = Told::default();
    let mut jobs: BTreeMap<&str, Vec<JobId>> = BTreeMap::new();
    for (name, place) in
        upstreams.keys().flat_map(|name| (0..case.pick(1, 5)).map(move |place| (*name, place)))
    {
        let acknowledged = submit(&lab, name, &format!("{name}-{place}")).await?;
        jobs.entry(name).or_default().push(acknowledged.job_id);
        told.acknowledged.push(acknowledged);
    }
    let trusted = case.folder.join("trusted.pem");
    std::fs::write(&trusted, &site.authority.pem)?;
    let variables = [("SSL_CERT_FILE", trusted.display().to_string())];
    lab.start_worker_as(50, Start { variables: &variables, ..Start::default() }).await?;

    let mut findings = Findings::default();
    let cut: Vec<(&str, JobId)> = jobs
        .iter()
        .filter(|(name, _)| **name != "good")
        .flat_map(|(name, jobs)| jobs.iter().map(move |job| (*name, *job)))
        .collect();
    let tried = until("each job to be tried", Duration::from_mins(1), async || {
        let tries = outcomes(&lab).await?;
        Ok(cut.iter().all(|(_, job)| tries.get(job).is_some_and(|of| of.len() >= ENOUGH_ATTEMPTS)))
    });
    tried.await?;
    judge_cut(&lab, &site, &cut, &mut findings).await?;

    let sound: BTreeMap<&str, String> =
        upstreams.keys().map(|name| (*name, lab.upstream.base_url())).collect();
    lab.configure(&configuration(&sound)).await?;
    let reckoning = lab.reckon(&told, Vec::new(), Duration::from_mins(2)).await?;
    findings.demand_no_repetition(&reckoning);
    for (name, job) in &cut {
        let (end, spent) = state_and_tries(&lab, *job).await?;
        findings.demand(end == "succeeded" && spent == 1, || {
            format!("{name}: once healed, the job {end} after {spent} tries")
        });
    }
    findings.demand(reckoning.figures.calls == told.acknowledged.len(), || {
        format!("{} calls arrived for {} jobs", reckoning.figures.calls, told.acknowledged.len())
    });
    Ok(findings.report(case, &reckoning))
}

/// While all are cut off: what the ledger says, and what was sent.
async fn judge_cut(lab: &Lab, site: &Site, cut: &[(&str, JobId)], findings: &mut Findings) -> Result<()> {
    let outcomes = outcomes(lab).await?;
    for (name, job) in cut {
        let of_job = outcomes.get(job).map(Vec::as_slice).unwrap_or_default();
        let other = of_job.iter().find(|outcome| **outcome != Outcome::NotSent);
        findings.demand(other.is_none(), || format!("{name}: an attempt ended as {other:?}"));
        let (state, tries) = state_and_tries(lab, *job).await?;
        findings.demand(tries == 0, || format!("{name}: {tries} tries were spent"));
        findings
            .demand(matches!(state.as_str(), "queued" | "running"), || format!("{name}: the job is {state}"));
    }
    findings.note(format!("{} attempts were not sent", outcomes.values().map(Vec::len).sum::<usize>()));
    for (name, proxy) in &site.counted {
        let (connections, bytes) = (proxy.accepted(), proxy.passed(Direction::ToServer));
        findings.demand(connections > 0 && bytes < connections * HANDSHAKE_BYTES, || {
            format!("{name}: {bytes} bytes were sent over {connections} connections")
        });
    }
    for front in &site.bad {
        findings.demand(front.handshakes() == 0, || "a client went on after a bad certificate".to_owned());
    }
    findings.demand(site.good.handshakes() > 0, || "not even the good certificate was trusted".to_owned());
    Ok(())
}

/// A model and an upstream of each name, where retries come once a second.
fn configuration(upstreams: &BTreeMap<&str, String>) -> Value {
    let upstream = |(name, url): (&&str, &String)| json!({"name": name, "provider": "deepseek", "base_url": url, "api_key": "${SIM_KEY}"});
    let route =
        |name: &&str| json!({"model": name, "targets": [{"upstream": name, "model": "deepseek-flash"}]});
    json!({
        "upstreams": upstreams.iter().map(upstream).collect::<Vec<_>>(),
        "routes": upstreams.keys().map(route).collect::<Vec<_>>(),
        "queues": [{"name": "default",
                    "retry": {"max_attempts": 2, "strategy": "fixed", "base_delay": "1s", "max_delay": "1s"}}],
        // Each job is to be tried, also after others could not be sent.
        "breaker": {"failure_threshold": 1000},
    })
}

async fn submit(lab: &Lab, model: &str, key: &str) -> Result<Acknowledged> {
    let body = json!({
        "body": {"model": model, "user": key, "max_tokens": 16,
                 "messages": [{"role": "user", "content": "x".repeat(BODY_BYTES)}]},
        "idempotency_key": key,
    });
    let url = format!("{}/v1/jobs", lab.schedulers[0].url);
    let answer = reqwest::Client::new().post(url).json(&body).send().await?.error_for_status()?;
    let job: Value = answer.json().await?;
    let job_id = job["id"].as_str().context("find an id")?.parse()?;
    Ok(Acknowledged { key: key.to_owned(), job_id, when_unknown: WhenUnknown::Repeat })
}

/// The outcomes of each job's attempts that have ended.
async fn outcomes(lab: &Lab) -> Result<BTreeMap<JobId, Vec<Outcome>>> {
    let mut outcomes: BTreeMap<JobId, Vec<Outcome>> = BTreeMap::new();
    for attempt in lab.attempts().await? {
        if let Some(outcome) = attempt.outcome {
            outcomes.entry(attempt.job_id).or_default().push(outcome);
        }
    }
    Ok(outcomes)
}

async fn state_and_tries(lab: &Lab, job: JobId) -> Result<(String, i16)> {
    let details = "SELECT state::text, tries FROM sluice.job_details(ARRAY[$1]::uuid[], false)";
    Ok(sqlx::query_as(details).bind(job.as_uuid()).fetch_one(lab.pool()).await?)
}
