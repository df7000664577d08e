//! A small installation: a database, the simulator, a scheduler, and workers, each a process of its own.

use std::path::PathBuf;

use serde_json::{Value, json};
use sluice_testkit::TestDatabase;
use sluice_tests::processes::{Process, free_port};

pub struct Site {
    pub database: TestDatabase,
    pub folder: tempfile::TempDir,
    pub workers: Vec<Process>,
    variables: Vec<(&'static str, String)>,
    _simulator: Process,
    pub scheduler: Process,
    pub url: String,
    pub client: reqwest::Client,
}

impl Site {
    /// Starts everything but the workers. `simulator_options` go to `sluice sim`.
    pub async fn start(simulator_options: &[&str]) -> Self {
        Self::start_with(simulator_options, &[]).await
    }

    /// As [`Self::start`], with more variables for the scheduler and the workers.
    pub async fn start_with(simulator_options: &[&str], more: &[(&'static str, String)]) -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let database = TestDatabase::new().await;
        let folder = tempfile::tempdir().unwrap();
        let (simulator_port, port) = (free_port(), free_port());
        let ledger = folder.path().join("ledger.jsonl");
        let listen = format!("127.0.0.1:{simulator_port}");
        let mut arguments = vec!["sim", "--listen", &listen, "--ledger", ledger.to_str().unwrap()];
        arguments.extend_from_slice(simulator_options);
        let mut simulator = Process::start("simulator", folder.path(), &arguments, &[]).unwrap();
        simulator.wait_for_url(&format!("http://{listen}/sim/stats")).await;

        let configuration = folder.path().join("sluice.yaml");
        let upstream = json!({"upstreams": [{"name": "sim", "provider": "deepseek",
            "base_url": format!("http://{listen}"), "api_key": "${SIM_KEY}"}],
            "queues": [{"name": "default", "retry": {"max_attempts": 10, "base_delay": "50ms", "max_delay": "1s"}}]});
        std::fs::write(&configuration, upstream.to_string()).unwrap();
        let mut variables = Self::variables_of(&database, port);
        variables.extend_from_slice(more);
        let apply = ["apply", "-f", configuration.to_str().unwrap()];
        Process::run(folder.path(), &apply, &variables).await.unwrap();
        let mut scheduler = Process::start("scheduler", folder.path(), &["scheduler"], &variables).unwrap();
        let url = format!("http://127.0.0.1:{port}");
        scheduler.wait_for_url(&format!("{url}/readyz")).await;
        Self {
            database,
            folder,
            workers: Vec::new(),
            variables,
            _simulator: simulator,
            scheduler,
            url,
            client: reqwest::Client::new(),
        }
    }

    fn variables_of(database: &TestDatabase, port: u16) -> Vec<(&'static str, String)> {
        vec![
            ("DATABASE_URL", database.url()),
            ("SLUICE_LISTEN", format!("127.0.0.1:{port}")),
            ("SLUICE_GRPC_LISTEN", format!("127.0.0.1:{}", free_port())),
            ("SLUICE_LOG_FORMAT", "json".to_owned()),
            ("SIM_KEY", "sk-sim".to_owned()),
        ]
    }

    /// Starts one more worker process.
    pub fn start_worker(&mut self, concurrency: &str) {
        let name = format!("worker-{}", self.workers.len());
        let arguments = ["worker", "--name", &name, "--concurrency", concurrency];
        self.workers.push(Process::start(&name, self.folder.path(), &arguments, &self.variables).unwrap());
    }

    /// What a command of this installation finds in its environment.
    pub fn variables(&self) -> &[(&'static str, String)] {
        &self.variables
    }

    /// Where the simulator writes what it received.
    pub fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger.jsonl")
    }

    /// Submits lines of NDJSON and returns the answers in order.
    pub async fn submit_bulk(&self, lines: &[Value]) -> Vec<Value> {
        let body = lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let answer = self.client.post(format!("{}/v1/jobs/bulk", self.url)).body(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        let text = answer.text().await.unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How many jobs have ended.
    pub async fn ended(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM sluice.done").fetch_one(self.database.pool()).await.unwrap()
    }
}
