//! The database: version, settings, connections, clocks, old snapshots, poolers, schema.

use std::time::Duration;

use sluice_store::{ConnectionKind, DatabaseUrl, SchemaState, ServerFacts};

use super::report::{Report, Verdict};
use crate::{commands::Context, database::Database, exit::CliError, times};

/// The oldest Postgres that is supported, as the server counts.
const OLDEST_VERSION: u32 = 150_000;
/// Clocks that differ by more are worth a word.
const CLOCKS_APART: Duration = Duration::from_secs(1);
/// A snapshot that is older keeps dead rows from being cleaned up.
const OLD_SNAPSHOT: Duration = Duration::from_mins(5);
/// A scheduler and a worker together want about so many connections.
const CONNECTIONS_WANTED: u32 = 40;

/// Checks the server.
pub async fn check(database: &Database, context: &Context<'_>, report: &mut Report) -> Result<(), CliError> {
    let facts = database.store.server_facts().await?;
    if facts.version_number < OLDEST_VERSION {
        let text = format!("Postgres {} is too old; use 15 or newer", facts.version);
        report.add(Verdict::Fail, "database", &text);
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
    check_snapshots(&facts, report);
    check_pooler(database, context, report).await
}

fn check_settings(facts: &ServerFacts, report: &mut Report) {
    let mut is_safe = true;
    for (name, value) in [("fsync", &facts.fsync), ("full_page_writes", &facts.full_page_writes)] {
        if value != "on" {
            is_safe = false;
            let text = format!("{name} is {value}: a crash can lose or corrupt accepted jobs; set it to on");
            report.add(Verdict::Fail, "settings", &text);
        }
    }
    if facts.synchronous_commit == "off" {
        is_safe = false;
        let text = "synchronous_commit is off: a crash can lose jobs that were accepted a moment before; set it to on";
        report.add(Verdict::Warn, "settings", text);
    }
    if is_safe {
        let text =
            format!("fsync and full_page_writes are on, synchronous_commit is {}", facts.synchronous_commit);
        report.add(Verdict::Ok, "settings", &text);
    }
}

fn check_connections(facts: &ServerFacts, report: &mut Report) {
    let (open, most) = (facts.connections_open, facts.max_connections);
    let text = format!("{open} of {most} are open");
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

fn check_snapshots(facts: &ServerFacts, report: &mut Report) {
    let mut is_clean = true;
    if let Some(age) = facts.oldest_snapshot_age.filter(|age| *age > OLD_SNAPSHOT) {
        is_clean = false;
        let holder = facts.oldest_snapshot_holder.as_deref().unwrap_or("an unknown process");
        let text = format!(
            "{holder} has held a transaction open for {}: dead rows pile up; end it, or set \
             idle_in_transaction_session_timeout",
            times::span_shown(age)
        );
        report.add(Verdict::Warn, "snapshots", &text);
    }
    if let Some(age) = facts.oldest_prepared_age.filter(|age| *age > OLD_SNAPSHOT) {
        is_clean = false;
        let text = format!(
            "a prepared transaction has waited for {}; see pg_prepared_xacts, and commit it or roll it back",
            times::span_shown(age)
        );
        report.add(Verdict::Warn, "snapshots", &text);
    }
    if is_clean {
        let age = facts.oldest_snapshot_age.map_or_else(|| "none is open".to_owned(), times::span_shown);
        report.add(Verdict::Ok, "snapshots", &format!("the oldest transaction: {age}"));
    }
}

async fn check_pooler(
    database: &Database,
    context: &Context<'_>,
    report: &mut Report,
) -> Result<(), CliError> {
    if database.is_private() {
        return Ok(());
    }
    let has_direct = context.global.database_direct_url.as_deref().is_some_and(|url| !url.trim().is_empty());
    let kind = database.store.connection_kind(DatabaseUrl::Pooled).await?;
    let (verdict, text) = match (kind, has_direct) {
        (ConnectionKind::Direct, _) => (Verdict::Ok, "DATABASE_URL leads straight to Postgres"),
        (ConnectionKind::SessionPooler, _) => (Verdict::Ok, "DATABASE_URL leads to a pooler in session mode"),
        (ConnectionKind::TransactionPooler, true) => (
            Verdict::Ok,
            "DATABASE_URL leads to a pooler in transaction mode, and DATABASE_DIRECT_URL is given",
        ),
        (ConnectionKind::TransactionPooler, false) => (
            Verdict::Warn,
            "DATABASE_URL leads to a pooler in transaction mode: set DATABASE_DIRECT_URL to Postgres itself, for \
             heartbeats, LISTEN and migrations (and max_prepared_statements above 0 in the pooler)",
        ),
    };
    report.add(verdict, "pooler", text);
    if has_direct && database.store.connection_kind(DatabaseUrl::Direct).await? != ConnectionKind::Direct {
        let text = "DATABASE_DIRECT_URL leads to a pooler too; point it at Postgres itself";
        report.add(Verdict::Warn, "pooler", text);
    }
    Ok(())
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
        SchemaState::Ahead => {
            (Verdict::Ok, "a newer program has migrated it; this one still works".to_owned())
        }
        SchemaState::Absent => (Verdict::Fail, "there is none; run `sluice migrate`".to_owned()),
        SchemaState::Behind(missing) => {
            (Verdict::Fail, format!("it lacks {missing} migrations; run `sluice migrate`"))
        }
    };
    report.add(verdict, "schema", &text);
    Ok(!matches!(state, SchemaState::Absent | SchemaState::Behind(_)))
}
