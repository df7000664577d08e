//! The migrated database that test databases are copies of: copying takes milliseconds, migrating takes a second.

use anyhow::{Context, Result};
use sqlx::{Connection, Executor, PgConnection, migrate::Migrator};

use crate::server::TestServer;

/// The migrations of the product, applied just as they lie in the repository.
pub static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// Templates of other states of the migrations are kept up to this number: branches come and go.
const MAX_TEMPLATES: i64 = 8;
/// "slui" as a number: whoever makes a template holds this advisory lock.
const TEMPLATE_LOCK: i64 = 0x736c_7569;

/// What the template is called for the migrations as they are compiled into this program.
pub fn template_name() -> String {
    format!("sluice_template_{}", fingerprint())
}

/// The template for the migrations as they are compiled into this test; made where it is missing. Returns its name.
pub async fn ensure_template(server: &TestServer, admin: &mut PgConnection) -> Result<String> {
    let name = template_name();
    if is_ready(admin, &name).await? {
        return Ok(name);
    }
    sqlx::query("SELECT pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut *admin).await?;
    let made = make_template(server, admin, &name).await;
    sqlx::query("SELECT pg_advisory_unlock($1)").bind(TEMPLATE_LOCK).execute(&mut *admin).await?;
    made?;
    Ok(name)
}

async fn make_template(server: &TestServer, admin: &mut PgConnection, name: &str) -> Result<()> {
    if is_ready(admin, name).await? {
        return Ok(());
    }
    drop_old_templates(admin).await?;
    // A half-made one of a process that was killed.
    run(admin, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
    run(admin, format!("CREATE DATABASE {name}")).await?;
    let mut connection = PgConnection::connect_with(&server.options_of(name)).await?;
    MIGRATIONS
        .run(&mut connection)
        .await
        .context("apply the migrations to the template of the test databases")?;
    connection.close().await?;
    // Closed to everybody, since nobody may be connected to what is copied; this also marks it as whole.
    run(admin, format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")).await
}

async fn is_ready(admin: &mut PgConnection, name: &str) -> Result<bool> {
    let found = sqlx::query("SELECT 1 FROM pg_database WHERE datname = $1 AND NOT datallowconn")
        .bind(name)
        .fetch_optional(admin)
        .await?;
    Ok(found.is_some())
}

async fn drop_old_templates(admin: &mut PgConnection) -> Result<()> {
    let old: Vec<String> = sqlx::query_scalar(
        "SELECT datname::text FROM pg_database WHERE datname LIKE 'sluice\\_template\\_%' ORDER BY oid DESC OFFSET $1",
    )
    .bind(MAX_TEMPLATES - 1)
    .fetch_all(&mut *admin)
    .await?;
    for name in old {
        run(admin, format!("DROP DATABASE IF EXISTS {name}")).await?;
    }
    Ok(())
}

/// Runs a statement that takes no parameters, such as those about whole databases. All names in it are ours.
pub async fn run(connection: &mut PgConnection, statement: String) -> Result<()> {
    let named = statement.clone();
    connection.execute(sqlx::AssertSqlSafe(statement)).await.with_context(|| format!("run {named}"))?;
    Ok(())
}

fn fingerprint() -> String {
    let all: Vec<u8> = MIGRATIONS.iter().flat_map(|migration| migration.checksum.to_vec()).collect();
    text_hash(&all)
}

/// FNV-1a in hexadecimal: enough to tell apart what lies on one machine.
pub fn text_hash(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}
