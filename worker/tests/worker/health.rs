//! What a worker tells probes and scrapers.

use sluice_domain::JobState;
use sluice_testkit::job;
use sluice_worker::{Worker, WorkerOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::world::World;

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_worker_says_that_it_is_ready_and_what_it_did() {
    let world = World::new().await;
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let options = WorkerOptions { metrics_listen: Some(address), ..world.options() };
    let handle = Worker::start(options).await.unwrap();
    let id = world.submit(job().build()).await;
    world.until_state(id, JobState::Succeeded).await;
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = get(address, "/metrics").await;
    for name in ["sluice_leases_total", "sluice_attempts_total", "gen_ai_client_operation_duration_seconds"] {
        assert!(metrics.contains(name), "{name} is missing in {metrics}");
    }
    handle.drain().await;
}
