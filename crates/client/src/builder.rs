//! How a client is made: where the server is, who asks, and how patient it is.

use std::{sync::Arc, time::Duration};

use sluice_proto::v1::job_service_client::JobServiceClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::{ApiKey, Client, Error, client::Settings};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_PATIENCE: Duration = Duration::from_mins(1);
/// Between two signs of life of a connection on which something is under way, and how long an answer to one may take. So a
/// server that vanished without a word is noticed, also by who watches.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read: a job with the largest result that is kept, and room.
const MAX_ANSWER_BYTES: usize = 128 * 1024 * 1024;

/// What happens to a submit without an idempotency key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MissingKey {
    /// It gets a UUID as its key, so that it can be repeated without storing the job twice.
    #[default]
    MakeUp,
    /// It is sent as it is, once: if the connection breaks, nobody knows whether the job was stored. The server stores
    /// jobs without keys somewhat faster.
    SendOnce,
}

/// Makes a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    url: String,
    api_key: Option<ApiKey>,
    timeout: Duration,
    patience: Duration,
    missing_key: MissingKey,
    ca_certificates: Vec<Certificate>,
}

impl ClientBuilder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            api_key: None,
            timeout: DEFAULT_TIMEOUT,
            patience: DEFAULT_PATIENCE,
            missing_key: MissingKey::default(),
            ca_certificates: Vec::new(),
        }
    }

    /// Who asks. Without a key the server must be one that has none.
    #[must_use]
    pub fn api_key(mut self, key: impl Into<ApiKey>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// How long a single try of a call may take; 30 s where nothing is said. What a call waits for on purpose, and the sending
    /// of many jobs, comes on top.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// For how long a call is made again that met an outage; a minute where nothing is said, zero for never. A stream of
    /// many jobs, a list and a watch count from when something last went on.
    #[must_use]
    pub fn retry_for(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// What happens to a submit without an idempotency key.
    #[must_use]
    pub fn missing_key(mut self, missing_key: MissingKey) -> Self {
        self.missing_key = missing_key;
        self
    }

    /// Trusts this certificate (PEM) beside those of the system, for servers with one of their own making.
    #[must_use]
    pub fn ca_certificate(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.ca_certificates.push(Certificate::from_pem(pem));
        self
    }

    /// Connects now.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] where there is no connection within 5 s; nothing is tried a second time. Whether the key is
    /// good, the first call tells.
    pub async fn connect(self) -> Result<Client, Error> {
        let endpoint = self.endpoint()?;
        let channel = endpoint.connect().await.map_err(|error| Error::Unreachable(Box::new(error)))?;
        self.client_on(channel)
    }

    /// Connects with the first call, which is made again if it does not succeed at once. Must be called on a Tokio runtime.
    pub fn connect_lazily(self) -> Result<Client, Error> {
        let channel = self.endpoint()?.connect_lazy();
        self.client_on(channel)
    }

    fn client_on(self, channel: Channel) -> Result<Client, Error> {
        let authorization = self.api_key.as_ref().map(ApiKey::authorization).transpose()?;
        let service = JobServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        let settings = Settings {
            authorization,
            timeout: self.timeout,
            patience: self.patience,
            missing_key: self.missing_key,
        };
        Ok(Client::new(service, Arc::new(settings)))
    }

    fn endpoint(&self) -> Result<Endpoint, Error> {
        let is_tls = check_url(&self.url)?;
        let endpoint = Endpoint::from_shared(self.url.clone()).map_err(|_| Error::InvalidUrl(FORM))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            // Windows grow with what the way holds; the fixed ones are small for many jobs over a long way.
            .http2_adaptive_window(true)
            .user_agent(concat!("sluice-client/", env!("CARGO_PKG_VERSION")))
            .map_err(|_| Error::InvalidUrl(FORM))?;
        if !is_tls {
            return Ok(endpoint);
        }
        let roots = self.ca_certificates.iter().cloned();
        let tls = ClientTlsConfig::new().with_native_roots().ca_certificates(roots).timeout(CONNECT_TIMEOUT);
        endpoint.tls_config(tls).map_err(Error::Tls)
    }
}

const FORM: &str = "it must look like http://host:8081 or https://host";

/// Whether a URL means TLS. One that holds a name or a password is refused: it would end up in errors.
fn check_url(url: &str) -> Result<bool, Error> {
    let (is_tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err(Error::InvalidUrl(FORM)),
    };
    if rest.contains('@') {
        return Err(Error::InvalidUrl("it must not hold a name or a password; an API key is given apart"));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.is_empty() || !path.is_empty() || rest.contains(['?', '#']) {
        return Err(Error::InvalidUrl(FORM));
    }
    Ok(is_tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_those_of_a_server_and_nothing_more() {
        assert!(!check_url("http://127.0.0.1:8081").unwrap());
        assert!(check_url("https://sluice.example.com/").unwrap());
        for wrong in [
            "",
            "127.0.0.1:8081",
            "ftp://h",
            "http://",
            "http:///x",
            "https://host/v1/jobs",
            "http://host?x=1",
            "https://me:s3cret@host",
        ] {
            let error = check_url(wrong).unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[tokio::test]
    async fn nothing_that_is_shown_holds_the_key() {
        let builder = ClientBuilder::new("http://127.0.0.1:1".to_owned()).api_key("canary");
        assert!(!format!("{builder:?}").contains("canary"));
        let client = builder.connect_lazily().unwrap();
        assert!(!format!("{client:?}").contains("canary"));
    }
}
