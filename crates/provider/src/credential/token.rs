//! Bearer tokens that end, and why there may be none.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::HeaderValue;
use tokio::time::Instant;

use crate::NotSentReason;

/// So long before its end a token is renewed at the latest: a request that leaves now may take a while to arrive, and
/// clocks differ.
const MAX_MARGIN: Duration = Duration::from_mins(1);

/// A token, as the header that carries it.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    pub(crate) renew_at: Instant,
    pub(crate) ends_at: Instant,
    was_accepted: AtomicBool,
}

impl Token {
    /// A token that was had at `now` and is good for `lifetime`; `None` where it can stand in no header.
    pub(crate) fn new(text: &str, lifetime: Duration, now: Instant) -> Option<Self> {
        let mut header = HeaderValue::from_str(&format!("Bearer {text}")).ok()?;
        header.set_sensitive(true);
        let margin = MAX_MARGIN.min(lifetime / 4);
        Some(Self {
            header,
            renew_at: now + lifetime.saturating_sub(margin),
            ends_at: now + lifetime,
            was_accepted: AtomicBool::new(false),
        })
    }

    /// The upstream took it.
    pub(crate) fn accepted(&self) {
        self.was_accepted.store(true, Ordering::Relaxed);
    }

    /// Whether the upstream ever took it.
    pub(crate) fn was_accepted(&self) -> bool {
        self.was_accepted.load(Ordering::Relaxed)
    }
}

/// Why no request can be authorised now. The text holds no secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NoToken {
    pub(crate) reason: NotSentReason,
    pub(crate) detail: String,
}

impl NoToken {
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self { reason: NotSentReason::NoCredential, detail: detail.into() }
    }

    pub(crate) fn refused(detail: impl Into<String>) -> Self {
        Self { reason: NotSentReason::CredentialRefused, detail: detail.into() }
    }
}
