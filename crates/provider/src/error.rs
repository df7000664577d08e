//! Why a client can't be made or a question about an upstream has no answer. Calls don't end in errors but in reports.

use sluice_domain::UpstreamName;
use thiserror::Error;

/// What went wrong, with the upstream it is about. No text holds a credential.
#[derive(Debug, Error)]
pub enum ProviderError {
    /// The base URL can't be used.
    #[error("use the base URL of upstream {upstream}: {problem}")]
    InvalidBaseUrl {
        /// The upstream.
        upstream: UpstreamName,
        /// What is wrong with the URL.
        problem: &'static str,
    },
    /// The credential can't be used.
    #[error("use the credential of upstream {upstream}: {problem}")]
    InvalidCredential {
        /// The upstream.
        upstream: UpstreamName,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No request can be authorised now.
    #[error("authorise a request to upstream {upstream}: {problem}")]
    NoCredential {
        /// The upstream.
        upstream: UpstreamName,
        /// Why.
        problem: String,
    },
    /// The system's certificates could not be loaded.
    #[error("load the system's certificates for upstream {upstream}")]
    Certificates {
        /// The upstream.
        upstream: UpstreamName,
        /// What the TLS library says.
        source: rustls::Error,
    },
    /// The HTTP client could not be built.
    #[error("build the HTTP client of upstream {upstream}")]
    Build {
        /// The upstream.
        upstream: UpstreamName,
        /// What the HTTP library says.
        source: reqwest::Error,
    },
    /// A probe got no answer, in time or at all.
    #[error("reach upstream {upstream}")]
    Unreachable {
        /// The upstream.
        upstream: UpstreamName,
        /// What the HTTP library says, without the URL.
        source: reqwest::Error,
    },
    /// A probe was answered with an error.
    #[error("ask upstream {upstream}: it answered {status_code}")]
    Refused {
        /// The upstream.
        upstream: UpstreamName,
        /// The HTTP status.
        status_code: u16,
    },
    /// A probe was answered with something else than the API promises.
    #[error("understand what upstream {upstream} answered")]
    Malformed {
        /// The upstream.
        upstream: UpstreamName,
    },
    /// The upstream's dialect doesn't have what was asked for.
    #[error("ask upstream {upstream}: its provider has no {what}")]
    Unsupported {
        /// The upstream.
        upstream: UpstreamName,
        /// What was asked for.
        what: &'static str,
    },
}
