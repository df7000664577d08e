//! An upstream: a base URL with a credential, and where the paths of jobs lie below it.

use std::str::FromStr;

use reqwest::Url;
use sluice_domain::{ApiPath, UnknownWord, UpstreamName};

use crate::{Credential, ProviderError, Timeouts};

/// The largest answer that is kept, in bytes after decompression (32 MiB).
pub const DEFAULT_MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;
/// Idle connections that are kept open.
pub const DEFAULT_MAX_IDLE_CONNECTIONS: usize = 64;

/// A dialect of the API.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dialect {
    /// DeepSeek.
    DeepSeek,
    /// `OpenAI` and whatever is compatible with it.
    OpenAi,
}

impl Dialect {
    /// The word for it in the configuration and in spans.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeepSeek => "deepseek",
            Self::OpenAi => "openai",
        }
    }
}

impl FromStr for Dialect {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let all = [Self::DeepSeek, Self::OpenAi];
        all.into_iter()
            .find(|dialect| dialect.as_str() == text)
            .ok_or_else(|| UnknownWord::new("provider", text, all.iter().map(|d| d.as_str())))
    }
}

/// Where calls go to, and with what.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Its name in the configuration.
    pub name: UpstreamName,
    /// The dialect it speaks.
    pub dialect: Dialect,
    /// Its base URL, with or without `/v1`.
    pub base_url: String,
    /// How requests are authorised.
    pub credential: Credential,
    /// Idle connections kept open at most, for each hundred calls under way.
    pub max_idle_connections: usize,
    /// How long the parts of a call may take.
    pub timeouts: Timeouts,
    /// The largest answer that is kept, in bytes after decompression; more is cut off.
    pub max_answer_bytes: usize,
    /// Whether large and slow calls are streamed although nobody asked for it.
    pub is_streamed_if_worth_it: bool,
}

impl Upstream {
    /// An upstream with the defaults and no credential.
    pub fn new(name: UpstreamName, dialect: Dialect, base_url: impl Into<String>) -> Self {
        Self {
            name,
            dialect,
            base_url: base_url.into(),
            credential: Credential::None,
            max_idle_connections: DEFAULT_MAX_IDLE_CONNECTIONS,
            timeouts: Timeouts::default(),
            max_answer_bytes: DEFAULT_MAX_ANSWER_BYTES,
            is_streamed_if_worth_it: true,
        }
    }
}

/// A base URL that was checked, and the URLs below it.
#[derive(Clone, Debug)]
pub(crate) struct BaseUrl {
    url: Url,
    dialect: Dialect,
}

impl BaseUrl {
    pub(crate) fn of(upstream: &Upstream) -> Result<Self, ProviderError> {
        let invalid = |problem| ProviderError::InvalidBaseUrl { upstream: upstream.name.clone(), problem };
        let url = Url::parse(&upstream.base_url).map_err(|_| invalid("it is no URL"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(invalid("it must begin with http:// or https:// and a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("credentials belong into api_key or auth, not into the URL"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("it must have no query and no fragment"));
        }
        Ok(Self { url, dialect: upstream.dialect })
    }

    /// The URL of a job's path. Jobs say `/v1/…`; a base that ends with a version (`/v1`, `/api/v4`, DeepSeek's
    /// `/beta`) has it already.
    pub(crate) fn call_url(&self, path: &ApiPath) -> Url {
        let path = path.as_str();
        let unversioned = path.strip_prefix("/v1").filter(|rest| rest.starts_with('/'));
        self.below(self.base(), if self.has_version() { unversioned.unwrap_or(path) } else { path })
    }

    /// The URL of the list of models.
    pub(crate) fn models_url(&self) -> Url {
        match self.dialect {
            Dialect::DeepSeek => self.below(self.unversioned_base(), "/models"),
            Dialect::OpenAi if self.has_version() => self.below(self.base(), "/models"),
            Dialect::OpenAi => self.below(self.base(), "/v1/models"),
        }
    }

    /// The URL of DeepSeek's balance.
    pub(crate) fn balance_url(&self) -> Url {
        self.below(self.unversioned_base(), "/user/balance")
    }

    fn base(&self) -> &str {
        self.url.path().trim_end_matches('/')
    }

    fn has_version(&self) -> bool {
        let last = self.base().rsplit('/').next().unwrap_or_default();
        let digits = last.strip_prefix('v').unwrap_or_default();
        let is_numbered = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        is_numbered || (self.dialect == Dialect::DeepSeek && last == "beta")
    }

    fn unversioned_base(&self) -> &str {
        let base = self.base();
        if self.has_version() { base.rsplit_once('/').map_or("", |(rest, _)| rest) } else { base }
    }

    fn below(&self, base: &str, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{base}{path}"));
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    fn base(dialect: Dialect, url: &str) -> Result<BaseUrl, ProviderError> {
        BaseUrl::of(&Upstream::new(UpstreamName::new("u").unwrap(), dialect, url))
    }

    #[test]
    fn a_version_is_never_doubled() {
        use Dialect::{DeepSeek, OpenAi};
        for (dialect, base_url, path, expected) in [
            (DeepSeek, "https://d.test", "/v1/chat/completions", "https://d.test/v1/chat/completions"),
            (DeepSeek, "https://d.test/", "/v1/chat/completions", "https://d.test/v1/chat/completions"),
            (DeepSeek, "https://d.test/v1", "/v1/chat/completions", "https://d.test/v1/chat/completions"),
            (DeepSeek, "https://d.test/v1/", "/chat/completions", "https://d.test/v1/chat/completions"),
            (DeepSeek, "https://d.test/beta", "/v1/completions", "https://d.test/beta/completions"),
            (
                OpenAi,
                "http://[::1]:8000/api/paas/v4",
                "/v1/embeddings",
                "http://[::1]:8000/api/paas/v4/embeddings",
            ),
            (OpenAi, "http://o.test/proxy", "/v1/embeddings", "http://o.test/proxy/v1/embeddings"),
            (OpenAi, "http://o.test/v1", "/v1x", "http://o.test/v1/v1x"),
        ] {
            let path = ApiPath::new(path).unwrap();
            assert_eq!(base(dialect, base_url).unwrap().call_url(&path).as_str(), expected);
        }
    }

    #[test]
    fn probes_have_their_urls() {
        let deepseek = base(Dialect::DeepSeek, "https://d.test/v1").unwrap();
        assert_eq!(deepseek.models_url().as_str(), "https://d.test/models");
        assert_eq!(deepseek.balance_url().as_str(), "https://d.test/user/balance");
        for url in ["http://o.test", "http://o.test/v1/"] {
            assert_eq!(base(Dialect::OpenAi, url).unwrap().models_url().as_str(), "http://o.test/v1/models");
        }
    }

    #[test]
    fn a_base_url_that_is_none_is_refused() {
        for url in
            ["", "d.test", "ftp://d.test", "https://u:p@d.test", "https://d.test?x=1", "https://d.test#a"]
        {
            assert!(base(Dialect::OpenAi, url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let mut upstream = Upstream::new(UpstreamName::new("u").unwrap(), Dialect::OpenAi, "http://o.test");
        upstream.credential = Credential::Bearer(Secret::new("sk-hidden"));
        assert!(!format!("{upstream:?}").contains("hidden"));
    }
}
