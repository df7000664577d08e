//! Questions to an upstream that cost nothing: its models, and DeepSeek's balance.

use std::time::Duration;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::{Client, Dialect, ProviderError, intake::Intake};

/// A probe that takes longer has failed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// More than any list of models.
const MAX_PROBE_BYTES: usize = 4 * 1024 * 1024;

/// What is left on an account, as DeepSeek tells it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Balance {
    /// Whether calls are served.
    pub is_available: bool,
    /// The amounts, by currency.
    #[serde(rename = "balance_infos", default)]
    pub currencies: Vec<CurrencyBalance>,
}

/// Amounts in one currency, as decimal strings.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CurrencyBalance {
    /// `USD` or `CNY`.
    pub currency: String,
    /// All of it.
    pub total_balance: String,
    /// What was given.
    #[serde(default)]
    pub granted_balance: String,
    /// What was paid in.
    #[serde(default)]
    pub topped_up_balance: String,
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<ListedModel>,
}

#[derive(Deserialize)]
struct ListedModel {
    id: String,
}

impl Client {
    /// The names of the upstream's models (`GET /models`): also the free probe of a breaker that is open.
    pub async fn models(&self) -> Result<Vec<String>, ProviderError> {
        let list: ModelList = self.ask(self.base_url.models_url()).await?;
        Ok(list.data.into_iter().map(|model| model.id).collect())
    }

    /// What is left on the account (`GET /user/balance`, DeepSeek only).
    pub async fn balance(&self) -> Result<Balance, ProviderError> {
        if self.upstream.dialect != Dialect::DeepSeek {
            return Err(ProviderError::Unsupported { upstream: self.upstream.name.clone(), what: "balance" });
        }
        self.ask(self.base_url.balance_url()).await
    }

    async fn ask<T: for<'de> Deserialize<'de>>(&self, url: Url) -> Result<T, ProviderError> {
        let upstream = || self.upstream.name.clone();
        let unreachable = |source: reqwest::Error| ProviderError::Unreachable {
            upstream: upstream(),
            source: source.without_url(),
        };
        let permit = self.pool.acquire();
        let authorized = self.authorizer.authorize(permit.http(), &[]).await;
        let authorized = authorized
            .map_err(|none| ProviderError::NoCredential { upstream: upstream(), problem: none.detail })?;
        let request = permit.http().get(url).headers(authorized.headers).timeout(PROBE_TIMEOUT);
        let mut response = request.send().await.map_err(unreachable)?;
        if !response.status().is_success() {
            return Err(ProviderError::Refused {
                upstream: upstream(),
                status_code: response.status().as_u16(),
            });
        }
        let mut intake = Intake::json(MAX_PROBE_BYTES);
        while let Some(piece) = response.chunk().await.map_err(unreachable)? {
            intake.take(&piece);
        }
        let body = intake.finish();
        serde_json::from_slice(&body.bytes).map_err(|_| ProviderError::Malformed { upstream: upstream() })
    }
}
