//! A server that does what a script says, byte for byte, and keeps what it was sent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the server does next on a connection.
#[derive(Clone)]
pub enum Step {
    /// Read one whole request.
    Read,
    /// Read the head of a request only.
    ReadHead,
    /// Send these bytes.
    Send(Vec<u8>),
    /// Send these bytes this many times.
    Repeat(Vec<u8>, usize),
    /// Do nothing for this long.
    Wait(Duration),
    /// Do nothing until the client goes away.
    Hang,
}

/// A server on the loopback.
pub struct Server {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    seen: watch::Receiver<usize>,
}

impl Server {
    /// Plays the same script on every connection.
    pub async fn start(script: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen_sender, seen) = watch::channel(0);
        let kept = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(play(connection, script.clone(), Arc::clone(&kept), seen_sender.clone()));
            }
        });
        Self { address, requests, seen }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, heads and bodies.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Comes back when a request has been read.
    pub async fn request_read(&self) {
        self.seen.clone().wait_for(|count| *count > 0).await.unwrap();
    }
}

async fn play(
    mut connection: TcpStream,
    script: Vec<Step>,
    requests: Arc<Mutex<Vec<String>>>,
    seen: watch::Sender<usize>,
) {
    for step in script {
        let alive = match step {
            Step::Read | Step::ReadHead => {
                let request = read_request(&mut connection, matches!(step, Step::Read)).await;
                if let Some(request) = &request {
                    requests.lock().unwrap().push(request.clone());
                    seen.send_modify(|count| *count += 1);
                }
                request.is_some()
            }
            Step::Send(bytes) => connection.write_all(&bytes).await.is_ok(),
            Step::Repeat(bytes, times) => {
                let mut is_ok = true;
                for _ in 0..times {
                    is_ok = is_ok && connection.write_all(&bytes).await.is_ok();
                }
                is_ok
            }
            Step::Wait(time) => {
                tokio::time::sleep(time).await;
                true
            }
            Step::Hang => {
                let mut ignored = [0; 1024];
                while connection.read(&mut ignored).await.is_ok_and(|count| count > 0) {}
                false
            }
        };
        if !alive {
            return;
        }
    }
    let _ = connection.shutdown().await;
}

async fn read_request(connection: &mut TcpStream, whole: bool) -> Option<String> {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            if !whole || body.len() >= length.unwrap_or(0) {
                return Some(text.into_owned());
            }
        }
        match connection.read(&mut piece).await {
            Ok(count @ 1..) => bytes.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
}

/// An answer with the length of its body.
pub fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

/// The head of an answer that ends with its connection.
pub fn open_head(headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{headers}\r\n").into_bytes()
}

/// A step and a tenth of a second of silence, this many times.
pub fn every_tenth(times: usize, step: Step) -> Vec<Step> {
    let pause = Step::Wait(Duration::from_millis(100));
    std::iter::repeat_n([step, pause], times).flatten().collect()
}
