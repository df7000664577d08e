//! The client of one upstream.

use crate::{Credential, ProviderError, Upstream, credential::Authorizer, pool::Pool, upstream::BaseUrl};

/// Makes calls to one upstream. Cheap to share behind an `Arc`; connections are pooled inside.
pub struct Client {
    pub(crate) upstream: Upstream,
    pub(crate) base_url: BaseUrl,
    pub(crate) authorizer: Authorizer,
    pub(crate) pool: Pool,
}

impl Client {
    /// Checks the upstream and loads what its connections need. Connects nowhere yet.
    pub fn new(upstream: Upstream) -> Result<Self, ProviderError> {
        let base_url = BaseUrl::of(&upstream)?;
        let authorizer = Authorizer::new(&upstream.credential);
        let authorizer = authorizer.map_err(|problem| ProviderError::InvalidCredential {
            upstream: upstream.name.clone(),
            problem,
        })?;
        let pool = Pool::new(upstream.clone())?;
        Ok(Self { upstream, base_url, authorizer, pool })
    }

    /// The upstream it calls.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// The credential for a process that makes one call in our place: where it is a token, the token itself, so that
    /// all calls share it. The error says why there is none.
    pub async fn credential_to_tell(&self) -> Result<Credential, String> {
        let told = self.authorizer.told(&self.upstream.credential, self.pool.acquire().http()).await;
        told.map_err(|none| none.detail)
    }
}
