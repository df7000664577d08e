//! Whether a pooler stands before the server, and whether bells are heard past it.

use std::time::Duration;

use sluice_store::{ConnectionKind, DatabaseUrl};

use super::report::{Report, Verdict};
use crate::{commands::Context, database::Database, exit::CliError};

/// A bell is heard within milliseconds.
const BELL_PATIENCE: Duration = Duration::from_secs(2);

/// Checks what the two URLs lead to. A private server has no pooler.
pub async fn check(database: &Database, context: &Context<'_>, report: &mut Report) -> Result<(), CliError> {
    if !database.is_private() {
        check_urls(database, context, report).await?;
    }
    check_bell(database, report).await
}

async fn check_urls(database: &Database, context: &Context<'_>, report: &mut Report) -> Result<(), CliError> {
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

/// A bell is a hint: without it work is found by polling, later.
async fn check_bell(database: &Database, report: &mut Report) -> Result<(), CliError> {
    if database.store.doorbell_is_heard(BELL_PATIENCE).await? {
        report.add(Verdict::Ok, "doorbells", "NOTIFY is heard by LISTEN");
    } else {
        let text = "NOTIFY is not heard by LISTEN: work is found by polling, within 2 s; set DATABASE_DIRECT_URL to \
                    Postgres itself";
        report.add(Verdict::Warn, "doorbells", text);
    }
    Ok(())
}
