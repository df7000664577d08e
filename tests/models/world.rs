//! A migrated database, a scheduler that serves REST on it, and a runtime to wait on: what sequences share.
//!
//! A sequence has queues and keys of its own, so that a database serves many.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    rc::Rc,
    time::Duration,
};

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::Value;
use sluice_scheduler::{Server, ServerHandle, ServerOptions};
use sluice_store::Store;
use sluice_telemetry::MetricsRegistry;
use sluice_testkit::TestDatabase;
use tokio::runtime::Runtime;

thread_local! {
    /// `proptest` makes systems out of nothing: they find their world here.
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

pub struct World {
    pub store: Store,
    pub database: TestDatabase,
    client: Client,
    base: String,
    sequences: Cell<u32>,
    // Behind what needs it, so that it ends last.
    _server: ServerHandle,
    runtime: Runtime,
}

impl World {
    /// Makes one, breaks it by some statements, and lets `test` run in it.
    pub fn with(breaking: &[String], test: impl FnOnce()) {
        let runtime = Runtime::new().expect("a runtime can be had");
        let world = Rc::new(runtime.block_on(Self::make(breaking)).in_runtime(runtime));
        WORLD.set(Some(world));
        test();
        WORLD.set(None);
    }

    /// The world of this thread.
    pub fn here() -> Rc<Self> {
        WORLD.with_borrow(|world| Rc::clone(world.as_ref().expect("a test made a world")))
    }

    /// A number for a sequence.
    pub fn next_sequence(&self) -> u32 {
        self.sequences.set(self.sequences.get() + 1);
        self.sequences.get()
    }

    pub fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    pub fn get(&self, path: &str) -> (StatusCode, Value) {
        let (status, text) = self.text(self.client.get(format!("{}{path}", self.base)));
        (status, serde_json::from_str(&text).expect("REST answers with JSON"))
    }

    pub fn post(&self, path: &str, body: String) -> (StatusCode, Value) {
        let (status, text) = self.post_lines(path, body);
        (status, serde_json::from_str(&text).expect("REST answers with JSON"))
    }

    pub fn post_lines(&self, path: &str, body: String) -> (StatusCode, String) {
        self.text(self.client.post(format!("{}{path}", self.base)).body(body))
    }

    fn text(&self, request: RequestBuilder) -> (StatusCode, String) {
        self.wait(async {
            let response = request.send().await.expect("the scheduler answers");
            (response.status(), response.text().await.expect("an answer can be read"))
        })
    }

    async fn make(breaking: &[String]) -> Parts {
        let database = TestDatabase::new().await;
        for statement in breaking {
            let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.clone())).execute(database.pool()).await;
            done.expect("the database can be broken");
        }
        let store = Store::from_pool(database.pool().clone());
        let metrics = MetricsRegistry::new().expect("metrics can be registered");
        let address = "127.0.0.1:0".parse().expect("an address");
        let server = Server::start(ServerOptions::new(store.clone(), address, metrics)).await;
        Parts { store, database, server: server.expect("the scheduler starts") }
    }
}

/// What a world is made of, but for the runtime that made it.
struct Parts {
    store: Store,
    database: TestDatabase,
    server: ServerHandle,
}

impl Parts {
    fn in_runtime(self, runtime: Runtime) -> World {
        // The client wants a TLS provider, although it never speaks TLS here.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().timeout(Duration::from_mins(1)).build();
        World {
            store: self.store,
            database: self.database,
            client: client.expect("a client can be made"),
            base: format!("http://{}", self.server.addr()),
            sequences: Cell::new(0),
            _server: self.server,
            runtime,
        }
    }
}
