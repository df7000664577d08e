//! The database: version, settings, connections, clocks, schema.

use std::time::Duration;

use sluice_store::{SchemaState, ServerFacts};

use super::{
    pooler,
    report::{Report, Verdict},
    snapshots,
};
use crate::{commands::Context, database::Database, exit::CliError, times};

/// The oldest Postgres that is supported, as the server counts.
const OLDEST_VERSION: u32 = 150_000;
/// The first that nobody has tried.
const UNTRIED_VERSION: u32 = 190_000;
/// Clocks that differ by more are worth a word.
const CLOCKS_APART: Duration = Duration::from_secs(1);
/// A scheduler and a worker together want about so many connections.
const CONNECTIONS_WANTED: u32 = 40;

/// Checks the server.
pub async fn check(database: &Database, context: &Context<'_>, report: &mut Report) -> Result<(), CliError> {
    let facts = database.store.server_facts().await?;
    if facts.version_number < OLDEST_VERSION {
        let text = format!("Postgres {} is too old; use 15 or newer", facts.version);
        report.add(Verdict::Fail, "database", &text);
    } else if facts.version_number >= UNTRIED_VERSION {
        let text = format!(
            "Postgres {} ({}) is newer than those that this program was tried with, 15 to 18; see whether there is \
             a newer sluice",
            facts.version, database.place
        );
        report.add(Verdict::Warn, "database", &text);
    } else {
        report.add(Verdict::Ok, "database", &format!("Postgres {} ({})", facts.version, database.place));
    }
    if facts.is_standby {
        report.add(
            Verdict::Fail,
            "database",
            "it is a standby that takes no writes; point DATABASE_URL at the primary",
        );
    }
    check_settings(&facts, report);
    check_connections(&facts, report);
    check_clocks(database, report).await?;
    snapshots::check(&facts, report);
    pooler::check(database, context, report).await
}

/// What would lose or corrupt accepted jobs, and what would let dead rows pile up.
fn check_settings(facts: &ServerFacts, report: &mut Report) {
    let durable = facts.synchronous_commit.as_str();
    let is_waited_for = !facts.synchronous_standby_names.is_empty();
    let unsafe_settings = [
        (facts.fsync != "on").then_some((
            Verdict::Fail,
            "fsync is off: a crash of the machine can destroy the whole database; set it to on".to_owned(),
        )),
        (facts.full_page_writes != "on").then_some((
            Verdict::Fail,
            "full_page_writes is off: a crash in the middle of a page's writing corrupts it; set it to on unless the \
             file system writes pages whole (ZFS)"
                .to_owned(),
        )),
        (durable == "off").then_some((
            Verdict::Warn,
            "synchronous_commit is off: a crash can lose jobs and results that were accepted a moment before, and \
             calls are then made twice; set it to on"
                .to_owned(),
        )),
        (is_waited_for && matches!(durable, "local")).then_some((
            Verdict::Warn,
            "synchronous_commit is local: commits do not wait for the standbys in synchronous_standby_names, and a \
             fail-over can lose the last ones; set it to on"
                .to_owned(),
        )),
        (facts.autovacuum != "on").then_some((
            Verdict::Warn,
            "autovacuum is off: dead rows pile up and everything slows down; set it to on".to_owned(),
        )),
    ];
    let mut is_safe = true;
    for (verdict, text) in unsafe_settings.into_iter().flatten() {
        is_safe = false;
        report.add(verdict, "settings", &text);
    }
    if is_safe {
        let text = format!("fsync, full_page_writes and autovacuum are on, synchronous_commit is {durable}");
        report.add(Verdict::Ok, "settings", &text);
    }
}

fn check_connections(facts: &ServerFacts, report: &mut Report) {
    let (open, most) = (facts.connections_open, facts.max_connections);
    let text = format!("{open} of {most} are open, {} are left", most.saturating_sub(open));
    if most.saturating_sub(open) < 5 {
        let text =
            format!("{text}: new ones will be refused; raise max_connections, or put a pooler in front");
        report.add(Verdict::Fail, "connections", &text);
    } else if most.saturating_sub(open) < CONNECTIONS_WANTED {
        let text = format!(
            "{text}; a scheduler and a worker want about {CONNECTIONS_WANTED} more: raise max_connections"
        );
        report.add(Verdict::Warn, "connections", &text);
    } else {
        report.add(Verdict::Ok, "connections", &text);
    }
}

/// Leases and schedules live by the database's clock alone; this host's matters to logs, tokens and certificates.
async fn check_clocks(database: &Database, report: &mut Report) -> Result<(), CliError> {
    let (asked_at, asked) = (host_now(), std::time::Instant::now());
    let database_now = database.store.database_now().await?;
    let half_way = chrono::TimeDelta::from_std(asked.elapsed() / 2).unwrap_or_default();
    let apart = (database_now - (asked_at + half_way)).abs().to_std().unwrap_or_default();
    let text = format!("this host and the database are {} apart", times::span_shown(apart));
    if apart > CLOCKS_APART {
        let text = format!("{text}; leases don't mind, but logs and signed keys do: synchronise both by NTP");
        report.add(Verdict::Warn, "clocks", &text);
    } else {
        report.add(Verdict::Ok, "clocks", &text);
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the host's clock is what is checked here")]
fn host_now() -> chrono::DateTime<chrono::Utc> {
    chrono::Utc::now()
}

/// Checks the schema; says whether there is one to look into.
pub async fn check_schema(database: &Database, report: &mut Report) -> Result<bool, CliError> {
    let mut state = database.store.schema_state().await?;
    if database.is_private() && matches!(state, SchemaState::Absent | SchemaState::Behind(_)) {
        // As every other command does with a private database.
        database.store.migrate().await?;
        state = database.store.schema_state().await?;
    }
    let (verdict, text) = match state {
        SchemaState::Current => (Verdict::Ok, "it is the one that this program needs".to_owned()),
        SchemaState::Ahead => (
            Verdict::Warn,
            "a newer program has migrated it; this one still works: replace it when the new one stays"
                .to_owned(),
        ),
        SchemaState::Absent => (Verdict::Fail, "there is none; run `sluice migrate`".to_owned()),
        SchemaState::Behind(missing) => {
            (Verdict::Fail, format!("it lacks {missing} migrations; run `sluice migrate`"))
        }
    };
    report.add(verdict, "schema", &text);
    if matches!(state, SchemaState::Current | SchemaState::Ahead) {
        check_compression(database, report).await?;
    }
    Ok(!matches!(state, SchemaState::Absent | SchemaState::Behind(_)))
}

async fn check_compression(database: &Database, report: &mut Report) -> Result<(), CliError> {
    let text = match database.store.body_compression().await?.as_str() {
        "lz4" => "bodies are compressed by lz4".to_owned(),
        other => format!(
            "bodies are compressed by {other}, which costs more processor time: the server was built without lz4, \
             or the schema was made on one that was"
        ),
    };
    report.add(Verdict::Ok, "compression", &text);
    Ok(())
}
