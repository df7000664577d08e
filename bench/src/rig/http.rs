//! An HTTP client that costs next to nothing, so that the server is what is measured: requests are bytes that were made
//! beforehand, one connection is kept, and of an answer only the status and the length are looked at.

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The most bytes of an answer's head.
const MOST_HEAD: usize = 16 * 1024;

/// A kept connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
}

/// The bytes of a POST of JSON.
pub fn post(host: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The bytes of a GET.
pub fn get(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes()
}

/// `host:port` of an `http://` URL.
pub fn host_of(url: &str) -> Result<&str> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} is no http URL"))?;
    Ok(rest.split('/').next().unwrap_or(rest))
}

impl Connection {
    /// Connects to `host:port`.
    pub async fn open(host: &str) -> Result<Self> {
        let stream = TcpStream::connect(host).await.with_context(|| format!("connect to {host}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(8 * 1024) })
    }

    /// Sends a request and waits for the whole answer, which must name its length.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).await.context("send a request")?;
        self.buffer.clear();
        let (head, status, length) = loop {
            self.read_more().await?;
            if let Some(head) = head_length(&self.buffer) {
                let (status, length) = parse_head(&self.buffer[..head])?;
                break (head, status, length);
            }
            if self.buffer.len() > MOST_HEAD {
                bail!("an answer whose head does not end");
            }
        };
        while self.buffer.len() < head + length {
            self.read_more().await?;
        }
        Ok(Answer { status, body: &self.buffer[head..head + length] })
    }

    async fn read_more(&mut self) -> Result<()> {
        let count = self.stream.read_buf(&mut self.buffer).await.context("read an answer")?;
        if count == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }
}

fn head_length(buffer: &[u8]) -> Option<usize> {
    buffer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

fn parse_head(head: &[u8]) -> Result<(u16, usize)> {
    let text = std::str::from_utf8(head).context("read an answer's head")?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    status.zip(length).with_context(|| format!("understand the head {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_understood_in_any_case() {
        let head = b"HTTP/1.1 201 Created\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(head_length(head), Some(head.len()));
        assert_eq!(parse_head(head).unwrap(), (201, 12));
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn requests_name_host_and_length() {
        let text = String::from_utf8(post("h:1", "/v1/jobs", b"{}")).unwrap();
        assert!(text.starts_with("POST /v1/jobs HTTP/1.1\r\nhost: h:1\r\n"), "{text}");
        assert!(text.ends_with("content-length: 2\r\n\r\n{}"), "{text}");
    }
}
