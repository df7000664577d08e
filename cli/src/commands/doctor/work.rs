//! Workers, queues and pauses.

use sluice_domain::TenantName;
use sluice_store::PausedKind;

use super::report::{Report, Verdict};
use crate::{database::Database, exit::CliError, times};

/// A beat that is older than this is late; leases end at 15 s.
const LATE_BEAT_MS: i64 = 10_000;

/// Checks who works and what waits.
pub async fn check(database: &Database, report: &mut Report) -> Result<(), CliError> {
    let queues = database.store.queue_depths(Some(&TenantName::default_tenant())).await?;
    let waiting: u64 = queues.iter().map(|queue| queue.ready).sum();
    check_workers(database, waiting, report).await?;
    for queue in queues.iter().filter(|queue| queue.held > 0) {
        let text = format!(
            "{} holds {} jobs that wait for you; look with `sluice list --state held --queue {}`, then release or cancel",
            queue.name, queue.held, queue.name
        );
        report.add(Verdict::Warn, "queues", &text);
    }
    for queue in &queues {
        if let Some(since) = queue.paused_at {
            let text = format!(
                "{} is paused since {}, with {} jobs ready; `sluice resume {}`",
                queue.name,
                times::shown(since),
                queue.ready,
                queue.name
            );
            report.add(Verdict::Warn, "queues", &text);
        }
    }
    let oldest = queues.iter().filter_map(|queue| queue.oldest_age).max();
    let age = oldest.map(|age| format!(", the oldest for {}", times::span_shown(age))).unwrap_or_default();
    report.add(Verdict::Ok, "queues", &format!("{waiting} jobs are ready{age}"));
    check_pauses(database, report).await
}

async fn check_workers(database: &Database, waiting: u64, report: &mut Report) -> Result<(), CliError> {
    let workers = database.store.workers().await?;
    let late = workers.iter().filter(|worker| worker.beat_age_ms > LATE_BEAT_MS).count();
    let in_flight: u32 = workers.iter().map(|worker| worker.in_flight).sum();
    let alive = workers.len() - late;
    if late > 0 {
        let text =
            format!("{late} have not beaten for over 10 s; a scheduler ends their leases (is one running?)");
        report.add(Verdict::Warn, "workers", &text);
    }
    if alive == 0 && waiting > 0 {
        let text = format!("none is alive and {waiting} jobs are ready; start one with `sluice worker`");
        report.add(Verdict::Warn, "workers", &text);
    } else if alive == 0 {
        report.add(Verdict::Ok, "workers", "none is alive, and nothing is ready");
    } else {
        report.add(Verdict::Ok, "workers", &format!("{alive} alive, {in_flight} calls under way"));
    }
    Ok(())
}

async fn check_pauses(database: &Database, report: &mut Report) -> Result<(), CliError> {
    for pause in database.store.pauses().await? {
        let kind = pause.kind.as_str();
        // A person's pause is meant; one that a worker made is a fault to be seen to.
        let (verdict, remedy) = match (&*pause.reason, pause.kind) {
            ("operator", _) => (Verdict::Warn, "resume it when you are done"),
            (_, PausedKind::Account) => (Verdict::Fail, "see to its balance or quota, then resume it"),
            (_, PausedKind::Upstream) => (Verdict::Fail, "see to its key, then resume it"),
            (_, PausedKind::Model) => (Verdict::Fail, "see to the key's rights, then resume its upstream"),
        };
        let (flag, name) = match (pause.kind, pause.name.split_once(' ')) {
            (PausedKind::Model, Some((upstream, _))) => ("upstream", upstream),
            _ => (kind, pause.name.as_str()),
        };
        let text = format!(
            "{kind} {} is paused since {} ({}); {remedy}: `sluice resume --{flag} {name}`",
            pause.name,
            times::shown(pause.paused_at),
            pause.reason,
        );
        report.add(verdict, "pauses", &text);
    }
    Ok(())
}
