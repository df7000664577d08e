//! Webhooks: who is told when a job ends, and how far that has come.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{JobId, JobState, TenantName, UnknownWord, WebhookId};

/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// Where somebody is told. That it can be reached, and may be, is not checked here.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WebhookUrl(String);

/// A text that can't be the URL of a webhook. It does not repeat the text, which may hold a secret.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("webhook {0}")]
pub struct InvalidWebhookUrl(&'static str);

impl WebhookUrl {
    /// Checks the form: `http` or `https`, printable ASCII, no credentials and no fragment.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidWebhookUrl> {
        let text = text.into();
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let rest = rest.ok_or(InvalidWebhookUrl("must begin with https:// or http://"))?;
        if text.len() > MAX_URL_BYTES {
            return Err(InvalidWebhookUrl("has more than 2048 bytes"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err(InvalidWebhookUrl("may hold printable ASCII only; encode what is not"));
        }
        if text.contains('#') {
            return Err(InvalidWebhookUrl("must not have a fragment (#…)"));
        }
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority.is_empty() {
            return Err(InvalidWebhookUrl("names no host"));
        }
        if authority.contains('@') {
            return Err(InvalidWebhookUrl("must not hold a user name or password; deliveries are signed"));
        }
        Ok(Self(text))
    }

    /// Takes a URL that was checked before it was stored.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How far telling somebody has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WebhookState {
    /// It is to be sent.
    Pending,
    /// Its target took it.
    Delivered,
    /// It was tried for days in vain.
    Failed,
    /// Its target wants no more.
    Disabled,
}

impl WebhookState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Delivered, Self::Failed, Self::Disabled];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Disabled => "disabled",
        }
    }
}

impl FromStr for WebhookState {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let state = Self::ALL.into_iter().find(|state| state.as_str() == word);
        state.ok_or_else(|| {
            UnknownWord::new("state of a webhook", word, Self::ALL.iter().map(|state| state.as_str()))
        })
    }
}

/// A delivery that is leased to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebhookDelivery {
    /// The same at each try.
    pub id: WebhookId,
    /// The job that ended.
    pub job_id: JobId,
    /// Which life of it.
    pub generation: u32,
    /// Whose it is.
    pub tenant: TenantName,
    /// Where to.
    pub url: WebhookUrl,
    /// A hash of tenant and URL.
    pub target: i64,
    /// How the job ended.
    pub job_state: JobState,
    /// When.
    pub ended_at: DateTime<Utc>,
    /// Tries, this one included.
    pub tries: u32,
}

/// A delivery as it is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebhookView {
    /// The same at each try.
    pub id: WebhookId,
    /// The job that ended.
    pub job_id: JobId,
    /// Which life of it.
    pub generation: u32,
    /// Where to.
    pub url: WebhookUrl,
    /// How the job ended.
    pub job_state: JobState,
    /// How far it has come.
    pub state: WebhookState,
    /// Tries since it was written, or sent anew.
    pub tries: u32,
    /// When the job ended.
    pub created_at: DateTime<Utc>,
    /// When it is to be tried, while it is pending.
    pub due_at: Option<DateTime<Utc>>,
    /// When it was tried last.
    pub last_try_at: Option<DateTime<Utc>>,
    /// What the target answered last.
    pub status_code: Option<u16>,
    /// Why the last try was in vain.
    pub problem: Option<String>,
    /// When it was delivered or given up.
    pub ended_at: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests {
    use super::WebhookUrl;
    use crate::JobId;

    #[test]
    fn urls_have_a_host_and_nothing_that_does_not_belong_there() {
        for good in [
            "https://example.com",
            "http://10.0.0.1:8080/a?b=c",
            "https://[2001:db8::1]/x",
            "https://e.com?a@b",
        ] {
            assert_eq!(WebhookUrl::new(good).unwrap().as_str(), good);
        }
        let long = format!("https://example.com/{}", "a".repeat(2048));
        for bad in [
            "",
            "https://",
            "https:///path",
            "ftp://example.com",
            "HTTPS://example.com",
            "//example.com",
            "example.com",
            "https://user:secret@example.com/",
            "https://example.com/#top",
            "https://example.com/a b",
            "https://exämple.com",
            "https://example.com\r\nX: y",
            "https://a.com\\@b.com",
            long.as_str(),
        ] {
            assert!(WebhookUrl::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_of_jobs_with_webhooks_are_known_by_their_end() {
        let (one, other) = (JobId::generate_for_webhook(), JobId::generate_for_webhook());
        assert!(one.to_string().ends_with("5eed") && one != other);
        assert_eq!(one.as_uuid().get_version_num(), 7);
    }
}
