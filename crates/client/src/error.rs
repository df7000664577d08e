//! Why a call could not be made, or was refused.

use std::{error::Error as StdError, time::Duration};

use sluice_proto::v1::SubmitError;
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt;

/// Whose codes [`Refusal::code`] holds, in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "sluice";

/// What went wrong. Each reads after "failed to"; none holds the API key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL of the server can't be used.
    #[error("use the server's URL: {0}")]
    InvalidUrl(&'static str),
    /// The API key can't be sent.
    #[error("use the API key: {0}")]
    InvalidApiKey(&'static str),
    /// The certificates for TLS can't be used.
    #[error("set up TLS")]
    Tls(#[source] tonic::transport::Error),
    /// There is no connection: nobody listens, the certificate is wrong, or it broke on the way.
    #[error("reach the server")]
    Unreachable(#[source] Box<dyn StdError + Send + Sync>),
    /// No answer came within the [timeout](crate::ClientBuilder::timeout). What was asked for may have happened.
    #[error("get an answer in time")]
    TimedOut,
    /// The server refused it.
    #[error("{what}: {refusal}", what = refusal.what())]
    Refused {
        /// What the server said.
        refusal: Box<Refusal>,
    },
    /// The answer is not what the contract promises.
    #[error("understand the server's answer: {0}")]
    Malformed(&'static str),
}

/// Why the server refused something.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The kind of error, as gRPC has them.
    pub status: Code,
    /// Sluice's stable word, the same as over REST, such as `job_not_found`; empty where something before Sluice answered.
    pub code: String,
    /// For people. It begins with the field, where there is one.
    pub message: String,
    /// The culprit as a JSON pointer, such as `/priority`.
    pub field: Option<String>,
    /// After how long trying again helps.
    pub retry_after: Option<Duration>,
}

impl Error {
    /// Sluice's stable word, the same as over REST, such as `job_not_found`. `None` where not Sluice refused.
    pub fn code(&self) -> Option<&str> {
        self.refusal().map(|refusal| refusal.code.as_str()).filter(|code| !code.is_empty())
    }

    /// The culprit of bad input as a JSON pointer, such as `/priority`.
    pub fn field(&self) -> Option<&str> {
        self.refusal()?.field.as_deref()
    }

    /// After how long trying again helps, where the server says so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refusal()?.retry_after
    }

    /// What the server said, if it was the server who refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal } => Some(refusal),
            _ => None,
        }
    }

    /// Whether the server says that there is no such job.
    pub fn is_not_found(&self) -> bool {
        self.refusal().is_some_and(|refusal| refusal.status == Code::NotFound)
    }

    /// What a call ended with. Statuses with a source were made on our side of the connection.
    pub(crate) fn of(status: &Status) -> Self {
        if is_out_of_time(status) {
            return Self::TimedOut;
        }
        if status.source().is_some() {
            return Self::Unreachable(Box::new(BrokenConnection::of(status)));
        }
        Refusal::of(status).into()
    }
}

impl Refusal {
    fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        let violation = details.bad_request().and_then(|bad| bad.field_violations.first());
        Self {
            status: status.code(),
            code: info.map(|info| info.reason.clone()).unwrap_or_default(),
            message: status.message().to_owned(),
            field: violation.map(|violation| violation.field.clone()),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }

    pub(crate) fn of_submit(error: SubmitError) -> Self {
        let message = match &error.param {
            Some(field) => format!("{field}: {}", error.message),
            None => error.message,
        };
        Self {
            status: Code::from(error.status_code),
            code: error.code,
            message,
            field: error.param,
            retry_after: None,
        }
    }

    /// What the server did not do.
    fn what(&self) -> &'static str {
        match self.status {
            Code::Unauthenticated | Code::PermissionDenied => "be let in by the server",
            Code::Unavailable => "be served",
            Code::Unimplemented => "find the service there",
            _ => "have it done by the server",
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { refusal: Box::new(refusal) }
    }
}

/// Why a connection broke, in words: a status shows itself with its fields and all its sources at once.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BrokenConnection(String);

impl BrokenConnection {
    fn of(status: &Status) -> Self {
        let mut text = String::new();
        for cause in sources(status).map(ToString::to_string) {
            // Some repeat their source in their own text.
            if !text.contains(&cause) {
                let separator = if text.is_empty() { "" } else { ": " };
                text = format!("{text}{separator}{cause}");
            }
        }
        Self(text)
    }
}

/// Whether the call's time ran out, on either side.
pub(crate) fn is_out_of_time(status: &Status) -> bool {
    status.code() == Code::DeadlineExceeded || sources(status).any(<dyn StdError>::is::<TimeoutExpired>)
}

/// What an error comes from, nearest first.
pub(crate) fn sources(error: &dyn StdError) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |error: &&(dyn StdError + 'static)| (*error).source())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn details_become_code_field_and_delay() {
        let mut details = ErrorDetails::with_error_info("idempotency_key_in_use", DOMAIN, HashMap::new());
        details.add_bad_request_violation("/idempotency_key", "in use");
        details.set_retry_info(Some(Duration::from_secs(1)));
        let status = Status::with_error_details(Code::Aborted, "/idempotency_key: in use", details);
        let error = Error::of(&status);
        assert_eq!(error.code(), Some("idempotency_key_in_use"));
        assert_eq!(error.field(), Some("/idempotency_key"));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
        assert_eq!(error.to_string(), "have it done by the server: /idempotency_key: in use");
    }

    #[test]
    fn a_code_of_somebody_else_is_not_taken_for_ours() {
        let details = ErrorDetails::with_error_info("job_not_found", "proxy.example.com", HashMap::new());
        let error = Error::of(&Status::with_error_details(Code::NotFound, "no", details));
        assert_eq!((error.code(), error.is_not_found()), (None, true));
    }

    #[test]
    fn time_that_ran_out_is_told_from_a_broken_connection() {
        let ours = Status::from_error(Box::new(TimeoutExpired(())));
        assert!(matches!(Error::of(&ours), Error::TimedOut));
        assert!(matches!(Error::of(&Status::deadline_exceeded("late")), Error::TimedOut));
        let broken = Status::from_error(Box::new(std::io::Error::other("broken pipe")));
        let error = Error::of(&broken);
        assert!(matches!(error, Error::Unreachable(_)));
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("broken pipe"));
    }
}
