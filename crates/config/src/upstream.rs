//! Upstreams: base URLs with their credentials.

use std::time::Duration;

use serde::Serialize;
use sluice_domain::UpstreamName;
use url::Url;

use crate::{
    auth::{self, Auth},
    duration,
    problem::Problems,
    section::{Field, Section},
    timeouts::Timeouts,
};

const KEYS: [&str; 12] = [
    "name",
    "provider",
    "base_url",
    "api_key",
    "auth",
    "account",
    "priority",
    "weight",
    "connect_timeout",
    "timeouts",
    "max_idle_connections",
    "stream",
];
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_MAX_IDLE_CONNECTIONS: u32 = 64;

/// A dialect of the API.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// DeepSeek.
    DeepSeek,
    /// Any OpenAI-compatible server.
    OpenAi,
}

impl Provider {
    const WORDS: [(&str, Self); 2] = [("deepseek", Self::DeepSeek), ("openai", Self::OpenAi)];

    /// The word for it, in the configuration and in `gen_ai.provider.name`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeepSeek => "deepseek",
            Self::OpenAi => "openai",
        }
    }
}

/// One base URL with a credential.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Upstream {
    /// Its name.
    pub name: UpstreamName,
    /// Its dialect.
    pub provider: Provider,
    /// Where it is, without a slash at the end.
    pub base_url: String,
    /// How requests are authorised.
    #[serde(skip_serializing_if = "Auth::is_none")]
    pub auth: Auth,
    /// What the provider counts limits against; its own name where it says nothing.
    pub account: String,
    /// Lower ones are tried first.
    pub priority: u16,
    /// Its share among those of the same priority.
    pub weight: u16,
    /// How long connecting may take.
    #[serde(serialize_with = "duration::serialize")]
    pub connect_timeout: Duration,
    /// How long the rest of a call may take.
    #[serde(skip_serializing_if = "Timeouts::are_default")]
    pub timeouts: Timeouts,
    /// Connections that are kept open while nothing is sent.
    pub max_idle_connections: u32,
    /// Whether calls are streamed that did not ask for it.
    #[serde(skip_serializing_if = "Streaming::is_auto")]
    pub stream: Streaming,
}

/// Whether calls are streamed that did not ask for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Streaming {
    /// Those that are large or slow.
    #[default]
    Auto,
    /// None.
    Never,
}

impl Streaming {
    const WORDS: [(&str, Self); 2] = [("auto", Self::Auto), ("never", Self::Never)];

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "this is how serde calls it")]
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl Upstream {
    /// An upstream with all defaults.
    pub fn new(name: UpstreamName, provider: Provider, base_url: impl Into<String>, auth: Auth) -> Self {
        Self {
            account: name.as_str().to_owned(),
            name,
            provider,
            base_url: base_url.into(),
            auth,
            priority: 1,
            weight: 1,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            timeouts: Timeouts::default(),
            max_idle_connections: DEFAULT_MAX_IDLE_CONNECTIONS,
            stream: Streaming::Auto,
        }
    }

    /// Reads one item of `upstreams`. What is wrong is noted and replaced by a default, so that reading goes on.
    pub(crate) fn read(field: &Field<'_>, problems: &mut Problems) -> Option<Self> {
        let section = Section::of(field, &KEYS, problems)?;
        let name = section.require("name", problems);
        let name = name
            .and_then(|name| name.parsed(|text| UpstreamName::new(text).map_err(|e| e.problem), problems));
        let provider =
            section.require("provider", problems).and_then(|word| word.word(&Provider::WORDS, problems));
        let base_url = section.require("base_url", problems).and_then(|url| url.parsed(base_url, problems));
        let auth = auth::read(&section, problems);
        let name = name?;
        let mut upstream =
            Self::new(name, provider.unwrap_or(Provider::OpenAi), base_url.unwrap_or_default(), auth);
        if let Some(account) = section.get("account") {
            let checked = account.parsed(|text| UpstreamName::new(text).map_err(|e| e.problem), problems);
            upstream.account = checked.map_or_else(String::new, |name| name.as_str().to_owned());
        }
        let mut small = |key: &str, default: u16| {
            section.get(key).and_then(|f| f.integer(1..=1000, problems)).map_or(default, |n| n as u16)
        };
        upstream.priority = small("priority", upstream.priority);
        upstream.weight = small("weight", upstream.weight);
        let timeouts = Duration::from_millis(1)..=Duration::from_mins(5);
        if let Some(wait) = section.get("connect_timeout").and_then(|f| f.duration(timeouts, problems)) {
            upstream.connect_timeout = wait;
        }
        if let Some(count) =
            section.get("max_idle_connections").and_then(|f| f.integer(0..=100_000, problems))
        {
            upstream.max_idle_connections = count as u32;
        }
        if let Some(timeouts) = section.get("timeouts") {
            upstream.timeouts = Timeouts::read(&timeouts, problems);
        }
        if let Some(stream) = section.get("stream").and_then(|f| f.word(&Streaming::WORDS, problems)) {
            upstream.stream = stream;
        }
        Some(upstream)
    }
}

/// Checks a URL that paths are appended to. The error never repeats it: it may hold a password.
pub(crate) fn base_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("is not a URL such as https://api.deepseek.com: {error}"))?;
    let problem = if !matches!(url.scheme(), "http" | "https") {
        Some("must begin with https:// or http://")
    } else if url.host_str().is_none_or(str::is_empty) {
        Some("names no host")
    } else if !url.username().is_empty() || url.password().is_some() {
        Some("must not hold a user or a password: the configuration is stored in the database; use auth")
    } else if url.query().is_some() || url.fragment().is_some() {
        Some("must not hold a query or a fragment: paths are appended to it")
    } else if text.len() > 2048 {
        Some("is longer than 2048 bytes")
    } else {
        None
    };
    problem
        .map_or_else(|| Ok(text.trim().trim_end_matches('/').to_owned()), |problem| Err(problem.to_owned()))
}
