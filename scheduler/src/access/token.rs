//! Tokens that somebody else signs (JWT, RFC 7519), and what is demanded of them.
//!
//! A token counts if its issuer is configured, its algorithm is one that this issuer may use, one key of the issuer that
//! is made for that algorithm verifies it, it is meant for us (`aud`), and its time has come and is not over (`exp` must
//! be there). Pure: keys and time come in.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sluice_config::{TokenAlgorithm, TokenIssuer};
use sluice_domain::{Scope, Scopes, TenantName};
use thiserror::Error;

use super::jwks::VerifyingKey;

/// A longer token is not read.
const MOST_BYTES: usize = 16 * 1024;
/// How far the clocks of issuer and server may differ.
const LEEWAY_S: f64 = 30.0;

/// What a token says, once it is believed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct TokenSays {
    pub(super) tenant: TenantName,
    pub(super) scopes: Scopes,
    /// Seconds for which it is good yet.
    pub(super) remaining_s: u64,
}

/// Why a token does not count. For the log and the client: it holds nothing of the token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(super) enum BadToken {
    #[error("it is no JSON Web Token")]
    Malformed,
    #[error("its issuer is not known here")]
    Issuer,
    #[error("its algorithm is not one that its issuer may use")]
    Algorithm,
    #[error("its signature is not its issuer's")]
    Signature,
    #[error("it is meant for somebody else")]
    Audience,
    #[error("it has expired, or says not when it does")]
    Expired,
    #[error("its time has not come")]
    TooEarly,
    #[error("it names no tenant")]
    Tenant,
    #[error("it gives none of the scopes submit, read, cancel, replay, admin")]
    Scopes,
}

/// An issuer with its keys.
pub(super) struct Issuer {
    pub(super) rules: TokenIssuer,
    pub(super) keys: Vec<VerifyingKey>,
}

/// Whether a text looks like a token.
pub(super) fn looks_like_token(text: &str) -> bool {
    text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Verifies a token and reads what it says.
pub(super) fn read_token(token: &str, issuers: &[Issuer], now: DateTime<Utc>) -> Result<TokenSays, BadToken> {
    if token.len() > MOST_BYTES {
        return Err(BadToken::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(BadToken::Malformed)?;
    let (head, claims) = signed.split_once('.').ok_or(BadToken::Malformed)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| BadToken::Malformed)?;
    let (head, claims) = (object(head)?, object(claims)?);
    // Read before it is believed: it only says whose keys to try.
    let issuer =
        text(&claims, "iss").and_then(|name| issuers.iter().find(|known| known.rules.issuer == name));
    let issuer = issuer.ok_or(BadToken::Issuer)?;
    verify(issuer, &head, signed.as_bytes(), &signature)?;
    says(&issuer.rules, &claims, now)
}

fn verify(
    issuer: &Issuer,
    head: &Map<String, Value>,
    signed: &[u8],
    signature: &[u8],
) -> Result<(), BadToken> {
    // What is critical to the token's sender and unknown here makes it unreadable (RFC 7515, section 4.1.11).
    if head.contains_key("crit") {
        return Err(BadToken::Malformed);
    }
    let algorithm = text(head, "alg")
        .and_then(|word| TokenAlgorithm::WORDS.iter().find(|(known, _)| *known == word))
        .map(|(_, algorithm)| *algorithm)
        .filter(|algorithm| issuer.rules.algorithms.contains(algorithm))
        .ok_or(BadToken::Algorithm)?;
    let key_id = text(head, "kid");
    let is_verified = issuer
        .keys
        .iter()
        .filter(|key| key.algorithm() == algorithm)
        .filter(|key| key_id.is_none() || key.id.is_none() || key.id.as_deref() == key_id)
        .any(|key| key.verifies(signed, signature));
    if is_verified { Ok(()) } else { Err(BadToken::Signature) }
}

fn says(rules: &TokenIssuer, claims: &Map<String, Value>, now: DateTime<Utc>) -> Result<TokenSays, BadToken> {
    let is_for_us = match claims.get("aud") {
        Some(Value::String(audience)) => *audience == rules.audience,
        Some(Value::Array(list)) => list.iter().any(|one| one.as_str() == Some(rules.audience.as_str())),
        _ => false,
    };
    if !is_for_us {
        return Err(BadToken::Audience);
    }
    let now = now.timestamp_micros() as f64 / 1e6;
    let expires = claims.get("exp").and_then(Value::as_f64).filter(|at| at.is_finite());
    let remaining = expires.ok_or(BadToken::Expired)? + LEEWAY_S - now;
    if remaining <= 0.0 {
        return Err(BadToken::Expired);
    }
    if let Some(begins) = claims.get("nbf")
        && !begins.as_f64().is_some_and(|at| at <= now + LEEWAY_S)
    {
        return Err(BadToken::TooEarly);
    }
    Ok(TokenSays {
        tenant: tenant(rules, claims).ok_or(BadToken::Tenant)?,
        scopes: scopes(rules, claims).filter(|scopes| !scopes.is_empty()).ok_or(BadToken::Scopes)?,
        remaining_s: remaining as u64,
    })
}

fn tenant(rules: &TokenIssuer, claims: &Map<String, Value>) -> Option<TenantName> {
    match (&rules.tenant, &rules.tenant_claim) {
        (Some(tenant), _) => Some(tenant.clone()),
        (None, Some(claim)) => TenantName::new(text(claims, claim)?).ok(),
        (None, None) => None,
    }
}

/// A claim with words that are ours among others: `"openid submit read"`, or a list.
fn scopes(rules: &TokenIssuer, claims: &Map<String, Value>) -> Option<Scopes> {
    if let Some(scopes) = rules.scopes {
        return Some(scopes);
    }
    let known = |word: &str| word.parse::<Scope>().ok();
    match claims.get(rules.scope_claim.as_ref()?)? {
        Value::String(words) => Some(words.split_ascii_whitespace().filter_map(known).collect()),
        Value::Array(list) => Some(list.iter().filter_map(|word| known(word.as_str()?)).collect()),
        _ => None,
    }
}

fn object(part: &str) -> Result<Map<String, Value>, BadToken> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| BadToken::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| BadToken::Malformed)
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

#[cfg(test)]
mod tests;
