//! Drops databases whose tests are over, on a thread of its own: a test's runtime may end with its test.
//!
//! What is not dropped when the process ends is found by the next one: the names hold the process' number.

use std::{
    collections::BTreeSet,
    env,
    sync::{
        OnceLock,
        mpsc::{self, Receiver, Sender},
    },
    thread,
};

use anyhow::Result;
use sqlx::PgConnection;

use crate::{
    processes,
    server::{ServerKind, TestServer},
    template::run,
};

/// Set, databases stay when their tests are over, for whoever looks into them afterwards and drops them.
const KEEP: &str = "SLUICE_KEEP_TEST_DATABASES";
/// What every test database's name begins with.
pub const PREFIX: &str = "sluice_test_";

static DROPS: OnceLock<Sender<String>> = OnceLock::new();

/// Starts the thread, the first time.
pub fn start(server: &'static TestServer) {
    if env::var_os(KEEP).is_some() {
        return;
    }
    DROPS.get_or_init(|| {
        let (sender, names) = mpsc::channel();
        thread::spawn(move || drop_all(server, &names));
        sender
    });
}

/// Has a database dropped soon.
pub fn drop_later(name: &str) {
    if let Some(drops) = DROPS.get() {
        // Only fails when the thread gave up; then the next process drops it.
        let _ = drops.send(name.to_owned());
    }
}

fn drop_all(server: &'static TestServer, names: &Receiver<String>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let dropped: Result<()> = runtime.block_on(async {
        let mut admin = server.connect().await?;
        if server.kind() == ServerKind::Ours {
            drop_leftovers(&mut admin).await?;
        }
        while let Ok(name) = names.recv() {
            drop_database(&mut admin, &name).await?;
        }
        Ok(())
    });
    if let Err(error) = dropped {
        eprintln!("test databases are left behind: {error:#}");
    }
}

async fn drop_leftovers(admin: &mut PgConnection) -> Result<()> {
    let names: Vec<String> =
        sqlx::query_scalar("SELECT datname::text FROM pg_database WHERE starts_with(datname, $1)")
            .bind(PREFIX)
            .fetch_all(&mut *admin)
            .await?;
    let owner = |name: &str| name.strip_prefix(PREFIX)?.split('_').next()?.parse::<i32>().ok();
    let owners: BTreeSet<i32> = names.iter().filter_map(|name| owner(name)).collect();
    let dead: BTreeSet<i32> = owners.into_iter().filter(|pid| !processes::is_alive(*pid)).collect();
    for name in names.iter().filter(|name| owner(name).is_some_and(|pid| dead.contains(&pid))) {
        drop_database(admin, name).await?;
    }
    Ok(())
}

async fn drop_database(admin: &mut PgConnection, name: &str) -> Result<()> {
    run(admin, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await
}
