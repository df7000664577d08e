//! The export over HTTP with protobuf, as a receiver sees it on the wire.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use tracing::{dispatcher::with_default, info_span};

use super::{Kept, process};

/// A request's head and body.
type Received = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Answers every request with 200 and keeps it; gives its endpoint.
fn receiver(received: &Received) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let received = Arc::clone(received);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let received = Arc::clone(&received);
            thread::spawn(move || answer(connection.unwrap(), &received));
        }
    });
    endpoint
}

fn answer(mut connection: TcpStream, received: &Received) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        received.lock().unwrap().push((head, body));
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    }
}

#[test]
fn spans_and_metrics_go_to_their_paths() {
    let received = Received::default();
    let endpoint = receiver(&received);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ];
    let (dispatch, guard) = process(&variables, &Kept::default());
    with_default(&dispatch, || drop(info_span!("a telling name").entered()));
    guard.metrics().worker().beat_failed();
    guard.shutdown(Duration::from_secs(10));

    let received = received.lock().unwrap();
    for (path, content) in [("/v1/traces", "a telling name"), ("/v1/metrics", "sluice.beats.failed")] {
        let (head, body) =
            received.iter().find(|(head, _)| head.starts_with(&format!("post {path} "))).unwrap();
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        assert!(String::from_utf8_lossy(body).contains(content), "{content}");
    }
}
