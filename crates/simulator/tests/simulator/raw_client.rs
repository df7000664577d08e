//! An HTTP/1.1 client that forgives nothing and repairs nothing: one connection a request, the raw bytes, and how
//! the connection ended.

use std::{fmt::Write as _, io, net::SocketAddr, time::Duration};

use serde_json::Value;
use sluice_simulator::{SimulatorConfig, SimulatorHandle, start};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// With all that was promised.
    Complete,
    /// With a goodbye, before all that was promised.
    Incomplete,
    /// With a TCP reset.
    Reset,
    /// Not at all while the client had patience.
    TimedOut,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 0 where there was none.
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    pub end: End,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let find =
            |line: &'_ str| line.split_once(": ").is_some_and(|(found, _)| found.eq_ignore_ascii_case(name));
        let line = self.head.lines().find(|line| find(line))?;
        line.split_once(": ").map(|(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The chunks of a stream before `[DONE]`.
    pub fn events(&self) -> Vec<Value> {
        let text = self.text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub patience: Duration,
}

impl Ask {
    pub fn post(path: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![
            ("authorization", "Bearer sk-test".to_owned()),
            ("content-type", "application/json".to_owned()),
        ];
        let patience = Duration::from_secs(20);
        Self { method: "POST", path: path.to_owned(), headers, body: body.into(), patience }
    }

    pub fn chat(body: &Value) -> Self {
        Self::post("/v1/chat/completions", body.to_string())
    }

    pub fn get(path: &str) -> Self {
        Self { method: "GET", ..Self::post(path, "") }
    }

    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    pub fn with_patience_ms(mut self, ms: u64) -> Self {
        self.patience = Duration::from_millis(ms);
        self
    }

    /// Sends it and reads until the connection ends or patience does.
    pub async fn send(&self, simulator: &SimulatorHandle) -> Answer {
        self.send_to(simulator.addr()).await
    }

    pub async fn send_to(&self, addr: SocketAddr) -> Answer {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let mut head =
            format!("{} {} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        write!(head, "content-length: {}\r\n\r\n", self.body.len()).unwrap();
        let sent = async {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&self.body).await
        };
        // A server may answer (413) and close before it has read everything.
        let _ = sent.await;
        let mut raw = Vec::new();
        let read = tokio::time::timeout(self.patience, stream.read_to_end(&mut raw)).await;
        parse(&raw, &read)
    }
}

fn parse(raw: &[u8], read: &Result<io::Result<usize>, tokio::time::error::Elapsed>) -> Answer {
    let end_of_head = raw.windows(4).position(|w| w == b"\r\n\r\n");
    let head = String::from_utf8_lossy(&raw[..end_of_head.unwrap_or(0)]).into_owned();
    let body = end_of_head.map_or(&[][..], |at| &raw[at + 4..]);
    let status = head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    let mut answer = Answer { status, head, body: body.to_vec(), end: End::Complete };
    let is_whole = if answer.header("transfer-encoding") == Some("chunked") {
        let (body, is_whole) = unchunk(body);
        answer.body = body;
        is_whole
    } else {
        let promised = answer.header("content-length").and_then(|length| length.parse().ok());
        promised == Some(body.len())
    };
    answer.end = match read {
        Err(_) => End::TimedOut,
        Ok(Err(_)) => End::Reset,
        Ok(Ok(_)) if is_whole => End::Complete,
        Ok(Ok(_)) => End::Incomplete,
    };
    answer
}

fn unchunk(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(line_end) = raw.windows(2).position(|w| w == b"\r\n") else { return (body, false) };
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..line_end]).unwrap(), 16).unwrap();
        raw = &raw[line_end + 2..];
        if size == 0 {
            return (body, raw == b"\r\n");
        }
        let there = size.min(raw.len());
        body.extend_from_slice(&raw[..there]);
        if raw.len() < size + 2 {
            return (body, false);
        }
        raw = &raw[size + 2..];
    }
}

/// A simulator without delays.
pub async fn simulator() -> SimulatorHandle {
    started(SimulatorConfig::default()).await
}

pub async fn started(config: SimulatorConfig) -> SimulatorHandle {
    start(config).await.unwrap()
}

/// A chat request with one message.
pub fn chat_body(model: &str, prompt: &str) -> Value {
    serde_json::json!({"model": model, "messages": [{"role": "user", "content": prompt}]})
}
