//! Sends one message once, and says what came of it.

use std::{error::Error, sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use rustls::crypto::ring;
use rustls_platform_verifier::BuilderVerifierExt;
use sluice_domain::WebhookUrl;
use thiserror::Error;
use url::Url;

use crate::{Guard, RefusedTarget, SigningSecrets, resolver::GuardedResolver};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Standard Webhooks asks for 15 to 30 s.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Shorter than most servers', so that no message is written to a connection that is just being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Connections to one host that are kept for the next message.
const IDLE_CONNECTIONS: usize = 2;

/// The client could not be made.
#[derive(Debug, Error)]
pub enum SenderError {
    /// The system's certificates can't be had.
    #[error("load the certificates that targets of webhooks are verified with")]
    Certificates(#[source] rustls::Error),
    /// The client could not be built.
    #[error("build the client of webhooks")]
    Build(#[source] reqwest::Error),
}

/// What somebody is told.
#[derive(Clone, Debug)]
pub struct Message {
    /// The header `webhook-id`: the same at each try.
    pub id: String,
    /// Seconds since 1970, now.
    pub timestamp: i64,
    /// JSON.
    pub body: Vec<u8>,
}

/// What came of a try.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// The target took it.
    Taken(StatusCode),
    /// The target wants no more: 410.
    Gone,
    /// The target answered something else.
    Refused {
        /// What.
        status: StatusCode,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// No answer came, for this reason, in words that tell nothing of our network.
    Unanswered(&'static str),
}

/// A client that goes to no address which is not allowed, follows no redirect, and reads no answer but its status.
#[derive(Clone)]
pub struct Sender {
    guard: Guard,
    encrypted: reqwest::Client,
    plain: reqwest::Client,
}

impl Sender {
    /// Loads what connections need. Connects nowhere yet.
    pub fn new(guard: Guard) -> Result<Self, SenderError> {
        // Other libraries in the process ask for the default; a second install only says that there is one.
        let _ = ring::default_provider().install_default();
        let tls = tls_config().map_err(SenderError::Certificates)?;
        let client = |is_encrypted| {
            let resolver = GuardedResolver { guard: guard.clone(), is_encrypted };
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .dns_resolver(Arc::new(resolver))
                .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")))
                .https_only(is_encrypted)
                .retry(reqwest::retry::never())
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                // A proxy would look names up for us, where nobody judges what they lead to.
                .no_proxy()
                .gzip(false)
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
                .build()
                .map_err(SenderError::Build)
        };
        Ok(Self { encrypted: client(true)?, plain: client(false)?, guard })
    }

    /// Signs a message and sends it.
    pub async fn send(&self, url: &WebhookUrl, message: Message, secrets: &SigningSecrets) -> Told {
        // Names are judged when they are looked up; addresses are never looked up.
        match self.guard.check(url) {
            Ok(url) => self.send_to(url, message, secrets).await,
            Err(refused) => Told::Unanswered(said_of_refused(&refused)),
        }
    }

    async fn send_to(&self, url: Url, message: Message, secrets: &SigningSecrets) -> Told {
        let client = if url.scheme() == "https" { &self.encrypted } else { &self.plain };
        let signature = secrets.header(&message.id, message.timestamp, &message.body);
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", message.timestamp)
            .header("webhook-signature", signature)
            .body(message.body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Told::Taken(answer.status()),
            Ok(answer) if answer.status() == StatusCode::GONE => Told::Gone,
            Ok(answer) => {
                Told::Refused { status: answer.status(), retry_after: retry_after(answer.headers()) }
            }
            Err(error) => Told::Unanswered(said_of(&error)),
        }
    }
}

fn said_of_refused(refused: &RefusedTarget) -> &'static str {
    match refused {
        RefusedTarget::NotCallable => "it is no URL that can be called",
        RefusedTarget::NotPublic => "it leads to an address that is not public and not allowed",
        RefusedTarget::NotEncrypted => "http leads to an address that is not allowed",
    }
}

fn said_of(error: &reqwest::Error) -> &'static str {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<RefusedTarget>() {
            return said_of_refused(refused);
        }
        cause = error.source();
    }
    if error.is_timeout() {
        "no answer came in time"
    } else if error.is_connect() {
        "no connection could be made"
    } else {
        "the connection broke off before an answer came"
    }
}

/// Whole seconds; a date is taken for nothing, since it would need a clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The system's certificates; HTTP/2 where the target has it.
fn tls_config() -> Result<rustls::ClientConfig, rustls::Error> {
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::SigningSecret;

    fn secrets() -> SigningSecrets {
        let present = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        SigningSecrets { present, previous: None }
    }

    fn message() -> Message {
        Message { id: "msg_1".to_owned(), timestamp: 1_700_000_000, body: b"{}".to_vec() }
    }

    async fn told(guard: Guard, url: &str) -> Told {
        let url = WebhookUrl::new(url).unwrap();
        Sender::new(guard).unwrap().send(&url, message(), &secrets()).await
    }

    /// Answers one request; gives back what it was.
    async fn answering(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                assert!(socket.read_buf(&mut request).await.unwrap() > 0);
            }
            socket.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        (port, task)
    }

    fn loopback() -> Guard {
        Guard::new(vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()])
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_host_is_not_called() {
        // Were it called, the connection would be refused instead.
        let expected = Told::Unanswered("it leads to an address that is not public and not allowed");
        assert_eq!(told(Guard::default(), "https://localhost:1/").await, expected);
        let elsewhere = Guard::new(vec!["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(told(elsewhere, "http://localhost:1/").await, expected);
        assert_eq!(told(Guard::default(), "https://127.0.0.1:1/").await, expected);
        assert_eq!(
            told(loopback(), "http://localhost:1/").await,
            Told::Unanswered("no connection could be made")
        );
    }

    #[tokio::test]
    async fn a_message_carries_its_signature_and_a_redirect_is_not_followed() {
        let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let (port, asked) = answering(moved).await;
        let told = told(loopback(), &format!("http://localhost:{port}/hook?x=1")).await;
        assert_eq!(told, Told::Refused { status: StatusCode::FOUND, retry_after: None });
        let request = asked.await.unwrap().to_ascii_lowercase();
        assert!(request.starts_with("post /hook?x=1 http/1.1\r\n"), "{request}");
        let signature = secrets().header("msg_1", 1_700_000_000, b"{}").to_ascii_lowercase();
        for header in ["webhook-id: msg_1", "webhook-timestamp: 1700000000", "content-type: application/json"]
        {
            assert!(request.contains(&format!("{header}\r\n")), "{request}");
        }
        assert!(request.contains(&format!("webhook-signature: {signature}\r\n")), "{request}");
    }

    #[tokio::test]
    async fn answers_are_told_apart() {
        let table = [
            ("HTTP/1.1 204 No Content\r\n\r\n", Told::Taken(StatusCode::NO_CONTENT)),
            ("HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", Told::Gone),
            (
                "HTTP/1.1 503 Away\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
                Told::Refused {
                    status: StatusCode::SERVICE_UNAVAILABLE,
                    retry_after: Some(Duration::from_secs(7)),
                },
            ),
            ("nonsense\r\n\r\n", Told::Unanswered("the connection broke off before an answer came")),
        ];
        for (answer, expected) in table {
            let (port, asked) = answering(answer).await;
            assert_eq!(told(loopback(), &format!("http://127.0.0.1:{port}/")).await, expected);
            asked.await.unwrap();
        }
    }
}
