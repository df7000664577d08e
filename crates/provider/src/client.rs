//! The client of one upstream.

use http::{HeaderMap, HeaderValue, header};

use crate::{ProviderError, Upstream, pool::Pool, upstream::BaseUrl};

/// Makes calls to one upstream. Cheap to share behind an `Arc`; connections are pooled inside.
pub struct Client {
    pub(crate) upstream: Upstream,
    pub(crate) base_url: BaseUrl,
    pub(crate) credentials: HeaderMap,
    pub(crate) pool: Pool,
}

impl Client {
    /// Checks the upstream and loads what its connections need. Connects nowhere yet.
    pub fn new(upstream: Upstream) -> Result<Self, ProviderError> {
        let base_url = BaseUrl::of(&upstream)?;
        let credentials = credentials(&upstream)?;
        let pool = Pool::new(upstream.clone())?;
        Ok(Self { upstream, base_url, credentials, pool })
    }

    /// The upstream it calls.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }
}

fn credentials(upstream: &Upstream) -> Result<HeaderMap, ProviderError> {
    let mut headers = HeaderMap::new();
    if let Some(key) = &upstream.api_key {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
            .map_err(|_| ProviderError::InvalidApiKey { upstream: upstream.name.clone() })?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    Ok(headers)
}
