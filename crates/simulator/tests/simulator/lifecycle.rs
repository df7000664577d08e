//! Starting, stopping, and what a stop does to calls under way.

use std::time::{Duration, Instant};

use sluice_simulator::{Ended, Fault, FaultKind, SimulatorConfig, SimulatorError, read_ledger, start};
use tokio::net::TcpStream;

use crate::raw_client::{Ask, End, chat_body, simulator, started};

/// Waits until so many calls have been received.
async fn received(simulator: &sluice_simulator::SimulatorHandle, calls: u64) {
    while simulator.stats().calls < calls {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_shutdown_lets_calls_end_cuts_those_that_hang_and_leaves_a_whole_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let simulator =
        started(SimulatorConfig { ledger: Some(path.clone()), ..SimulatorConfig::default() }).await;
    let addr = simulator.addr();
    let slow = Ask::chat(&chat_body("gpt-sim", "[[sim:none latency_ms=300]]"));
    let hanging = Ask::chat(&chat_body("gpt-sim", "[[sim:hang]]"));
    let slow = tokio::spawn(async move { slow.send_to(addr).await });
    let hanging = tokio::spawn(async move { hanging.send_to(addr).await });
    received(&simulator, 2).await;
    let begin = Instant::now();
    simulator.shutdown().await;
    assert!(begin.elapsed() < Duration::from_secs(3));
    assert_eq!((slow.await.unwrap().status, hanging.await.unwrap().end == End::Complete), (200, false));
    assert!(TcpStream::connect(addr).await.is_err());
    let mut ends: Vec<Ended> =
        read_ledger(path).unwrap().iter().map(sluice_simulator::CallRecord::ended).collect();
    ends.sort();
    assert_eq!(ends, [Ended::Answered, Ended::Cut]);
}

#[tokio::test]
async fn dropping_the_handle_stops_it() {
    let simulator = simulator().await;
    let addr = simulator.addr();
    drop(simulator);
    for _ in 0..500 {
        if TcpStream::connect(addr).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{addr} still listens");
}

#[tokio::test]
async fn a_taken_port_and_a_wrong_configuration_are_errors() {
    let simulator = simulator().await;
    let taken = SimulatorConfig { listen: simulator.addr(), ..SimulatorConfig::default() };
    assert!(matches!(start(taken).await, Err(SimulatorError::Listen { .. })));
    let wrong = SimulatorConfig { models: Vec::new(), ..SimulatorConfig::default() };
    assert!(matches!(start(wrong).await, Err(SimulatorError::Config(_))));
}

#[tokio::test]
async fn kept_alive_connections_carry_many_calls() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let simulator = simulator().await;
    let mut stream = TcpStream::connect(simulator.addr()).await.unwrap();
    let body = chat_body("gpt-sim", "Hi").to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\n\
                content-type: application/json\r\n";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    let mut buffer = vec![0; 64 * 1024];
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200 OK") && buffer[..read].ends_with(b"}"));
    }
    assert_eq!(simulator.stats().answered, 3);
}

#[test]
fn an_order_is_public_syntax() {
    assert_eq!(Fault::from_header("hang").unwrap(), Fault::new(FaultKind::Hang));
}
