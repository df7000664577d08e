//! What a simulator is told at its start; parts of it can be changed while it runs (`control`).
//! Not here: the faults' words (`fault`), and how limits are kept (`limits`).

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::{credentials::CredentialCheck, error::SimulatorError, fault::FaultRule, latency::Latency};

/// All settings. Every field has a default, and unknown fields are errors.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimulatorConfig {
    /// Decides answers, latencies and faults. The same seed and requests give the same answers.
    pub seed: u64,
    /// Where to listen. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// How long answers take.
    pub latency: Latency,
    /// Whether a call without a key is refused with 401.
    pub require_key: bool,
    /// The keys that are good. `None`: any non-empty bearer token is, and is an account of its own.
    pub api_keys: Option<Vec<ApiKey>>,
    /// What a request must bring in place of a key; its account is then `default`.
    pub credential: Option<CredentialCheck>,
    /// The models that can be asked for.
    pub models: Vec<ModelConfig>,
    /// What each account may do with each model.
    pub limits: Limits,
    /// Faults that strike by chance.
    pub faults: Vec<FaultRule>,
    /// Whether clients may order faults by the header `x-sim-fault` or by a marker in the prompt.
    pub allow_ordered_faults: bool,
    /// The ledger's file. `None`: the ledger is kept in memory only.
    pub ledger: Option<PathBuf>,
    /// How many calls are kept in memory. Older ones are forgotten there; counts go on.
    pub max_calls_kept: usize,
    /// What each account has at the start, in USD. `None`: the balance never ends.
    pub balance_usd: Option<f64>,
    /// While an answer waits longer than this, blank lines (plain) or comments (streams) are sent at this interval,
    /// in milliseconds. 0: never.
    pub keepalive_interval_ms: u64,
    /// Tokens of an answer that nobody bounds: drawn between the two, both included.
    pub answer_tokens: TokenRange,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            latency: Latency::default(),
            require_key: true,
            api_keys: None,
            credential: None,
            models: ModelConfig::defaults(),
            limits: Limits::default(),
            faults: Vec::new(),
            allow_ordered_faults: true,
            ledger: None,
            max_calls_kept: 250_000,
            balance_usd: None,
            keepalive_interval_ms: 5_000,
            answer_tokens: TokenRange { min: 12, max: 48 },
            max_body_bytes: 32 * 1024 * 1024,
        }
    }
}

impl SimulatorConfig {
    /// Checks what types can't: probabilities, latencies, empty lists.
    pub fn validate(&self) -> Result<(), SimulatorError> {
        self.latency.validate()?;
        FaultRule::validate_all(&self.faults)?;
        if self.models.is_empty() {
            return Err(SimulatorError::Config("models must name at least one".to_owned()));
        }
        if self.balance_usd.is_some_and(|usd| sluice_domain::NanoUsd::from_usd(usd).is_none()) {
            return Err(SimulatorError::Config("balance_usd must be a number from 0".to_owned()));
        }
        if self.limits.window_ms == 0 || self.limits.per_model.values().any(|limits| limits.window_ms == 0) {
            return Err(SimulatorError::Config("limits.window_ms must be at least 1".to_owned()));
        }
        Ok(())
    }
}

/// A key that clients may use.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// The bearer token.
    pub key: String,
    /// The account whose limits and balance it shares.
    #[serde(default = "default_account")]
    pub account: String,
}

impl ApiKey {
    /// A key of the account `default`.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), account: default_account() }
    }
}

/// The account of who names none.
pub(crate) fn default_account() -> String {
    "default".to_owned()
}

/// How many tokens an answer has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRange {
    /// At least.
    pub min: u64,
    /// At most.
    pub max: u64,
}

/// What an account may do with one model. `None` means no limit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Calls under way at once, from their arrival to their last byte.
    pub concurrency: Option<u32>,
    /// Calls in any window.
    pub requests_per_minute: Option<u32>,
    /// Tokens in any window: prompt and `max_tokens` at the arrival, corrected to the true ones at the end.
    pub tokens_per_minute: Option<u64>,
    /// The window's length in milliseconds: a minute, unless a test shortens it.
    pub window_ms: u64,
    /// Models whose limits are others than these (all fields are then theirs).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub per_model: BTreeMap<String, Limits>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrency: None,
            requests_per_minute: None,
            tokens_per_minute: None,
            window_ms: 60_000,
            per_model: BTreeMap::new(),
        }
    }
}

impl Limits {
    /// The limits that hold for `model`.
    pub fn of_model(&self, model: &str) -> &Self {
        self.per_model.get(model).unwrap_or(self)
    }

    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        self.concurrency.is_none() && self.requests_per_minute.is_none() && self.tokens_per_minute.is_none()
    }
}

/// Whose shapes a model's answers have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// DeepSeek: reasoning, cache tokens, its own error texts, no rate-limit headers.
    Deepseek,
    /// OpenAI and whoever copies it.
    Openai,
}

/// What a model can be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// Chat and text completions.
    Chat,
    /// Embeddings.
    Embeddings,
    /// Images.
    Images,
}

/// A model that can be asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Its name.
    pub id: String,
    /// Whose shapes its answers have.
    pub dialect: Dialect,
    /// What it is for.
    pub kind: ModelKind,
    /// Tokens of prompt and answer together, at most.
    pub context_tokens: u64,
    /// Tokens of an answer, at most.
    pub max_output_tokens: u64,
}

impl ModelConfig {
    fn new(id: &str, dialect: Dialect, kind: ModelKind, context_tokens: u64, max_output_tokens: u64) -> Self {
        Self { id: id.to_owned(), dialect, kind, context_tokens, max_output_tokens }
    }

    /// DeepSeek's models as they are sold, and a chat, an embedding and an image model of OpenAI's shapes.
    pub fn defaults() -> Vec<Self> {
        // A million and 384 thousand of the kind that the real refusals name.
        const CONTEXT: u64 = 1024 * 1024;
        const OUTPUT: u64 = 384 * 1024;
        vec![
            Self::new("deepseek-flash", Dialect::Deepseek, ModelKind::Chat, CONTEXT, OUTPUT),
            Self::new("deepseek-v4-pro", Dialect::Deepseek, ModelKind::Chat, CONTEXT, OUTPUT),
            Self::new("gpt-sim", Dialect::Openai, ModelKind::Chat, 128_000, 16_384),
            Self::new("text-embedding-sim", Dialect::Openai, ModelKind::Embeddings, 8_192, 0),
            Self::new("image-sim", Dialect::Openai, ModelKind::Images, 8_192, 0),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_document_is_the_default_and_unknown_fields_are_errors() {
        assert_eq!(serde_json::from_str::<SimulatorConfig>("{}").unwrap(), SimulatorConfig::default());
        let error = serde_json::from_str::<SimulatorConfig>(r#"{"sead":1}"#).unwrap_err();
        assert!(error.to_string().contains("sead"), "{error}");
    }

    #[test]
    fn a_full_document_is_read() {
        let config: SimulatorConfig = serde_json::from_str(
            r#"{"seed":7,"latency":{"first_token":{"kind":"lognormal","p50_ms":300,"p99_ms":2000},
                "per_token":{"kind":"fixed","ms":5}},"api_keys":[{"key":"k1","account":"main"},{"key":"k2"}],
                "limits":{"concurrency":5,"per_model":{"gpt-sim":{"requests_per_minute":3}}},
                "faults":[{"kind":"http_500","probability":0.2},{"kind":"stall","probability":0.1,"model":"gpt-sim"}],
                "balance_usd":1.5}"#,
        )
        .unwrap();
        config.validate().unwrap();
        assert_eq!(config.limits.of_model("gpt-sim").requests_per_minute, Some(3));
        assert_eq!(config.limits.of_model("deepseek-flash").concurrency, Some(5));
        assert_eq!(config.api_keys.unwrap()[1].account, "default");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            r#"{"models":[]}"#,
            r#"{"balance_usd":-1}"#,
            r#"{"limits":{"window_ms":0}}"#,
            r#"{"faults":[{"kind":"hang","probability":1.5}]}"#,
            r#"{"latency":{"first_token":{"kind":"uniform","min_ms":5,"max_ms":1}}}"#,
            r#"{"latency":{"per_token":{"kind":"lognormal","p50_ms":9,"p99_ms":1}}}"#,
        ] {
            let config: SimulatorConfig = serde_json::from_str(bad).unwrap();
            assert!(config.validate().is_err(), "{bad}");
        }
    }
}
