//! What a call was and how it ended, as seen on the wire.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sluice_domain::{ApiPath, CallId, ErrorClass, ModelName, NanoUsd, StoredAnswer, UpstreamUse, Usage};
use sluice_policy::{price, rate_limit::RateLimits, retry::Ending};

/// One call that is to be made.
#[derive(Clone, Debug)]
pub struct CallRequest {
    /// The call, as the ledger names it.
    pub call_id: CallId,
    /// The API path of the job.
    pub path: ApiPath,
    /// The model name at the upstream; the body's is replaced where it is another.
    pub model: ModelName,
    /// The job's body, as submitted.
    pub body: Bytes,
    /// W3C `traceparent` to send along.
    pub traceparent: Option<String>,
    /// How long such calls took lately: slow ones are streamed.
    pub usual_duration: Option<Duration>,
    /// Whether it may still begin: asked when it is authorised, and until its first byte is sent.
    pub may_begin: MayBegin,
}

/// Says whether a call may begin at this moment. What is asked before a call is out of date once a token, a connection or a
/// stream was waited for.
#[derive(Clone, Default)]
pub struct MayBegin(Option<Arc<dyn Fn(Waited) -> bool + Send + Sync>>);

/// What a call has waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// It is authorised, and is given to a connection next.
    Authorized,
    /// It has waited for a connection for a while, and goes on waiting.
    Connecting,
}

impl MayBegin {
    /// As `answer` says; without one a call may always begin.
    pub fn if_so(answer: impl Fn(Waited) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(answer)))
    }

    /// The answer at this moment.
    pub fn now(&self, waited: Waited) -> bool {
        self.0.as_ref().is_none_or(|answer| answer(waited))
    }
}

impl fmt::Debug for MayBegin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "MayBegin(asked)" } else { "MayBegin(always)" })
    }
}

/// How a call ended and what it took. It can be told to another process, but for the bytes of an answer, which are told
/// apart.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CallReport {
    /// What was seen on the wire.
    pub outcome: WireOutcome,
    /// Which upstream and model it was, for the ledger.
    pub upstream: UpstreamUse,
    /// When the first byte was sent, by this worker's clock: what the price depends on. `None` if none was.
    pub sent_at: Option<DateTime<Utc>>,
    /// From the first byte sent to the end of the answer. `None` if nothing was sent.
    pub duration: Option<Duration>,
    /// From the first byte sent to the first byte of the answer that was no keep-alive.
    pub time_to_first_byte: Option<Duration>,
    /// Whether a 401 was about a token that had been good before: the next call brings another one.
    pub is_token_outdated: bool,
}

/// What was seen of a call on the wire.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum WireOutcome {
    /// No byte of the body was sent: the call can be made again at no cost.
    NotSent {
        /// Why.
        reason: NotSentReason,
        /// The system's own words, for a person.
        detail: String,
    },
    /// It was sent, at least in part, and the answer is not known: it may be paid for.
    Unknown(ErrorClass),
    /// It was answered.
    Answered(Box<Answer>),
}

/// Why nothing was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NotSentReason {
    /// The upstream's address refused the connection.
    Refused,
    /// No connection within the time for it.
    ConnectTimeout,
    /// The name does not resolve, or no way leads there.
    ConnectFailed,
    /// The handshake failed: a bad certificate, or no TLS at all.
    Tls,
    /// Connected, but the connection never took the request.
    NeverTaken,
    /// The call was cancelled before it began.
    Cancelled,
    /// The body is no JSON object.
    InvalidBody,
    /// Whatever was to make the call could not begin.
    NotBegun,
    /// No token could be had to authorise it.
    NoCredential,
    /// The token endpoint refused the client's credentials.
    CredentialRefused,
}

impl NotSentReason {
    /// The class that users see.
    pub const fn class(self) -> ErrorClass {
        match self {
            Self::Cancelled => ErrorClass::Cancelled,
            Self::InvalidBody => ErrorClass::InvalidRequest,
            Self::CredentialRefused => ErrorClass::Unauthorized,
            Self::Refused
            | Self::ConnectTimeout
            | Self::ConnectFailed
            | Self::Tls
            | Self::NeverTaken
            | Self::NotBegun
            | Self::NoCredential => ErrorClass::NotSent,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "the connection was refused",
            Self::ConnectTimeout => "connecting took too long",
            Self::ConnectFailed => "it could not be reached",
            Self::Tls => "the TLS handshake failed",
            Self::NeverTaken => "the connection did not take the request",
            Self::Cancelled => "the call was cancelled",
            Self::InvalidBody => "the body is no JSON object",
            Self::NotBegun => "the call could not be begun",
            Self::NoCredential => "it could not be authorised",
            Self::CredentialRefused => "the credential was refused",
        }
    }
}

/// An answer: a status line and what could be read of the body.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// HTTP status.
    pub status_code: u16,
    /// The bytes after decompression, without the blank lines that keep a connection alive; the completion where
    /// `is_assembled`. JSON would be no place for them.
    #[serde(skip)]
    pub body: Bytes,
    /// Whether `body` was cut because it was larger than is kept.
    pub is_truncated: bool,
    /// Whether `body` was put together from a stream.
    pub is_assembled: bool,
    /// The stream as it came, where `is_assembled`.
    #[serde(skip)]
    pub raw_stream: Option<Bytes>,
    /// The class of the failure; `None` for a result.
    pub failure: Option<ErrorClass>,
    /// The provider's own word for the failure (`error.code` or `error.type`).
    pub failure_code: Option<String>,
    /// Tokens, as the provider says.
    pub usage: Option<Usage>,
    /// How long the upstream asks to be left alone.
    pub retry_after: Option<Duration>,
    /// What the upstream tells of its limits.
    pub rate_limits: RateLimits,
}

impl CallReport {
    /// Whether a byte of the body may have left.
    pub fn was_sent(&self) -> bool {
        !matches!(self.outcome, WireOutcome::NotSent { .. })
    }

    /// Whether nothing was sent for a reason that lies with this upstream or the way there, so that another one may take
    /// the call.
    pub fn could_go_elsewhere(&self) -> bool {
        use NotSentReason as R;
        match self.outcome {
            WireOutcome::NotSent { reason, .. } => match reason {
                R::Refused
                | R::ConnectTimeout
                | R::ConnectFailed
                | R::Tls
                | R::NeverTaken
                | R::NoCredential
                | R::CredentialRefused => true,
                R::Cancelled | R::InvalidBody | R::NotBegun => false,
            },
            WireOutcome::Unknown(_) | WireOutcome::Answered(_) => false,
        }
    }

    /// What `policy::retry` decides by.
    pub fn ending(&self) -> Ending {
        match &self.outcome {
            WireOutcome::NotSent { reason, .. } => Ending::NotSent(reason.class()),
            WireOutcome::Unknown(class) => Ending::Unknown(*class),
            WireOutcome::Answered(answer) => answer.failure.map_or(Ending::Succeeded, Ending::Answered),
        }
    }

    /// The answer, if there was one.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            WireOutcome::Answered(answer) => Some(answer),
            _ => None,
        }
    }

    /// How long the upstream asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.answer()?.retry_after
    }

    /// What the call cost; `None` where no usage or no price is known.
    pub fn cost(&self) -> Option<NanoUsd> {
        let usage = self.answer()?.usage?;
        let at = self.sent_at?;
        let answered = self.upstream.answered_model.as_deref();
        answered
            .and_then(|model| price::cost(model, &usage, at))
            .or_else(|| price::cost(&self.upstream.model, &usage, at))
    }

    /// The class and a text that is fit for clients, for anything but a result. The provider's own message is not in
    /// it, since some quote prompts or keys; it is in the answer's body.
    pub fn error(&self) -> Option<(ErrorClass, String)> {
        let name = &self.upstream.upstream;
        match &self.outcome {
            WireOutcome::NotSent { reason, detail } if detail.is_empty() => {
                Some((reason.class(), format!("nothing was sent to {name}: {}", reason.as_str())))
            }
            WireOutcome::NotSent { reason, detail } => {
                Some((reason.class(), format!("nothing was sent to {name}: {} ({detail})", reason.as_str())))
            }
            WireOutcome::Unknown(class) => Some((*class, format!("{name} {}", unknown_text(*class)))),
            WireOutcome::Answered(answer) => {
                let class = answer.failure?;
                let code =
                    answer.failure_code.as_deref().map(|code| format!(" ({code})")).unwrap_or_default();
                Some((
                    class,
                    format!("{name} answered {}{code}: {}", answer.status_code, answered_text(class)),
                ))
            }
        }
    }
}

impl Answer {
    /// The answer as it is stored. The bytes are not copied where nobody else holds them.
    pub fn into_stored(self) -> StoredAnswer {
        StoredAnswer {
            status_code: self.status_code,
            body: self.body.into(),
            is_truncated: self.is_truncated,
            is_assembled: self.is_assembled,
        }
    }
}

const fn unknown_text(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Stalled => "was sent the request and then sent nothing for too long",
        ErrorClass::CallTimeout => "was sent the request and took too long to answer",
        ErrorClass::MalformedAnswer => "was sent the request and answered with what can't be read",
        ErrorClass::Cancelled => {
            "was sent the request, and the call was cancelled before the answer was complete"
        }
        _ => "was sent the request, and the connection broke before the answer was complete",
    }
}

const fn answered_text(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::RateLimited => "too many requests for now",
        ErrorClass::QuotaExhausted => "no money or quota is left",
        ErrorClass::Unauthorized => "the key is wrong",
        ErrorClass::Forbidden => "the key may not do this",
        ErrorClass::NotFound => "there is no such path or model",
        ErrorClass::Overloaded => "it is overloaded",
        ErrorClass::UpstreamTimeout => "it gave up waiting",
        ErrorClass::Conflict => "a conflict on its side",
        ErrorClass::ServerError => "an error on its side",
        ErrorClass::IncompleteAnswer => "the answer is incomplete or empty",
        ErrorClass::InvalidOutput => "the model's output is blank where JSON was asked for",
        ErrorClass::MalformedAnswer => "the body is not what the API promises",
        ErrorClass::OversizedAnswer => "the answer is larger than is kept",
        _ => "the request is wrong",
    }
}
