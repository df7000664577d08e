//! A database, a gRPC server on it, and a way to each that can be broken.

use std::time::Duration;

use sluice_client::{Client, ClientBuilder, SubmitRequest};
use sluice_scheduler::{GrpcServer, ServerHandle, ServerOptions};
use sluice_store::{Store, StoreOptions};
use sluice_telemetry::MetricsRegistry;
use sluice_testkit::{TestDatabase, wait_until};
use sluice_tests::lab::proxy::{FaultProxy, Target};

pub const BODY: &str = r#"{"model":"deepseek-flash","messages":[{"role":"user","content":"hello"}]}"#;
/// Longer than any outage of these tests, also on a slow machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub struct World {
    pub database: TestDatabase,
    /// Past all faults.
    pub store: Store,
    /// Between server and database.
    pub to_database: FaultProxy,
    /// Between client and server.
    pub to_server: FaultProxy,
    server: Option<ServerHandle>,
}

impl World {
    pub async fn new() -> Self {
        let database = TestDatabase::new().await;
        let store = Store::from_pool(database.pool().clone());
        let to_database = FaultProxy::before_database(1, &database.connect_options()).await.unwrap();
        let server = start_server(&database, &to_database).await;
        let to_server = FaultProxy::start(1, Target::Tcp(server.addr())).unwrap();
        Self { database, store, to_database, to_server, server: Some(server) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.to_server.address())
    }

    pub fn builder(&self) -> ClientBuilder {
        Client::builder(self.url()).retry_for(PATIENCE).timeout(PATIENCE)
    }

    pub async fn client(&self) -> Client {
        self.builder().connect().await.unwrap()
    }

    /// Ends the server with all that is under way on it, and starts another.
    pub async fn restart_server(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown(Duration::ZERO).await;
        }
        self.to_server.reset();
        let server = start_server(&self.database, &self.to_database).await;
        self.to_server.lead_to(Target::Tcp(server.addr()));
        self.server = Some(server);
    }

    /// Ends all connections to the server; what was held back on them is lost. New ones are taken without faults.
    pub async fn break_connections(&self) {
        self.to_server.refuse().await;
        self.to_server.reset();
        wait_until("all connections to end", PATIENCE, async || self.to_server.open() == 0).await;
        self.to_server.heal().await;
    }

    /// Jobs that are stored.
    pub async fn stored(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM sluice.jobs").fetch_one(self.database.pool()).await.unwrap()
    }
}

async fn start_server(database: &TestDatabase, to_database: &FaultProxy) -> ServerHandle {
    let mut options = StoreOptions::new(to_database.database_url(&database.connect_options()));
    options.acquire_timeout = Duration::from_secs(2);
    let store = Store::connect_lazily(&options).unwrap();
    let metrics = MetricsRegistry::new().unwrap();
    GrpcServer::start(ServerOptions::new(store, "127.0.0.1:0".parse().unwrap(), metrics)).await.unwrap()
}

/// A job that can be submitted.
pub fn chat() -> SubmitRequest {
    SubmitRequest { body: BODY.into(), ..SubmitRequest::default() }
}
