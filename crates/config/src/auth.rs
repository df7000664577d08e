//! How requests to an upstream are authorised. Keys are references; what is signed with them is the workers' business.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    duration,
    problem::Problems,
    secret::SecretRef,
    section::{Field, Section},
    tree::Value,
    upstream::base_url,
};

/// How requests to an upstream are authorised.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Auth {
    /// Not at all.
    None,
    /// `Authorization: Bearer …`.
    Bearer {
        /// The key.
        api_key: SecretRef,
    },
    /// A header of the user's choice.
    Header {
        /// The header's name.
        name: String,
        /// Its value.
        value: SecretRef,
    },
    /// A token that is signed for each lifetime.
    Jwt {
        /// How it is signed.
        algorithm: JwtAlgorithm,
        /// The key.
        secret: SecretRef,
        /// Claims beside the times.
        claims: BTreeMap<String, String>,
        /// How long a token is good for.
        #[serde(serialize_with = "duration::serialize")]
        lifetime: Duration,
    },
    /// Client credentials, refreshed.
    OAuth2 {
        /// Where tokens are had.
        token_url: String,
        /// Who asks.
        client_id: String,
        /// The client's secret.
        client_secret: SecretRef,
        /// What for.
        #[serde(skip_serializing_if = "Option::is_none")]
        scope: Option<String>,
    },
    /// A signature over the request, a timestamp and a nonce.
    Hmac {
        /// The key.
        secret: SecretRef,
    },
}

/// How a JWT is signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are those of RFC 7518")]
pub enum JwtAlgorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Es256,
}

impl Auth {
    /// Whether requests carry no credential.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// The word for its kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bearer { .. } => "bearer",
            Self::Header { .. } => "header",
            Self::Jwt { .. } => "jwt",
            Self::OAuth2 { .. } => "oauth2",
            Self::Hmac { .. } => "hmac",
        }
    }
}

/// Reads `api_key` or `auth` of an upstream.
pub(crate) fn read(upstream: &Section<'_>, problems: &mut Problems) -> Auth {
    let api_key = upstream.get("api_key");
    let auth = upstream.get("auth");
    if let (Some(_), Some(auth)) = (&api_key, &auth) {
        auth.problem("api_key and auth exclude each other", problems);
    }
    match (api_key, auth) {
        (Some(key), None) => key.secret(problems).map_or(Auth::None, |api_key| Auth::Bearer { api_key }),
        (_, Some(auth)) => read_auth_block(&auth, problems).unwrap_or(Auth::None),
        (None, None) => Auth::None,
    }
}

fn read_auth_block(field: &Field<'_>, problems: &mut Problems) -> Option<Auth> {
    let Value::Mapping(entries) = &field.node.value else {
        Section::of(field, &[], problems);
        return None;
    };
    // The kind says which keys are known.
    let Some((_, kind)) = entries.iter().find(|(key, _)| key.value == "kind") else {
        field.problem("kind is missing; known are bearer, header, jwt, oauth2, hmac", problems);
        return None;
    };
    let kind = Field { path: format!("{}.kind", field.path), node: kind };
    let kinds = ["bearer", "header", "jwt", "oauth2", "hmac"].map(|kind| (kind, kind));
    match kind.word(&kinds, problems)? {
        "bearer" => {
            let section = Section::of(field, &["kind", "api_key"], problems)?;
            Some(Auth::Bearer { api_key: section.require("api_key", problems)?.secret(problems)? })
        }
        "header" => {
            let section = Section::of(field, &["kind", "name", "value"], problems)?;
            let name = section.require("name", problems).and_then(|f| f.parsed(header_name, problems));
            let value = section.require("value", problems).and_then(|f| f.secret(problems));
            Some(Auth::Header { name: name?, value: value? })
        }
        "jwt" => read_jwt(field, problems),
        "oauth2" => read_oauth2(field, problems),
        _ => {
            let section = Section::of(field, &["kind", "secret"], problems)?;
            Some(Auth::Hmac { secret: section.require("secret", problems)?.secret(problems)? })
        }
    }
}

fn read_jwt(field: &Field<'_>, problems: &mut Problems) -> Option<Auth> {
    let section = Section::of(field, &["kind", "algorithm", "secret", "claims", "lifetime"], problems)?;
    let algorithms = [
        ("HS256", JwtAlgorithm::Hs256),
        ("HS384", JwtAlgorithm::Hs384),
        ("HS512", JwtAlgorithm::Hs512),
        ("RS256", JwtAlgorithm::Rs256),
        ("ES256", JwtAlgorithm::Es256),
    ];
    let algorithm = section.require("algorithm", problems).and_then(|f| f.word(&algorithms, problems));
    let secret = section.require("secret", problems).and_then(|f| f.secret(problems));
    let lifetimes = Duration::from_secs(1)..=Duration::from_hours(24);
    let lifetime =
        section.get("lifetime").map_or(Some(Duration::from_hours(1)), |f| f.duration(lifetimes, problems));
    let mut claims = BTreeMap::new();
    if let Some(field) = section.get("claims") {
        let Value::Mapping(entries) = &field.node.value else {
            Section::of(&field, &[], problems);
            return None;
        };
        let known: Vec<_> = entries.iter().map(|(key, _)| key.value.as_str()).collect();
        for (key, value) in Section::of(&field, &known, problems)?.fields() {
            claims.insert(key.to_owned(), value.text(problems).unwrap_or_default().to_owned());
        }
    }
    Some(Auth::Jwt { algorithm: algorithm?, secret: secret?, claims, lifetime: lifetime? })
}

fn read_oauth2(field: &Field<'_>, problems: &mut Problems) -> Option<Auth> {
    let section =
        Section::of(field, &["kind", "token_url", "client_id", "client_secret", "scope"], problems)?;
    let token_url = section.require("token_url", problems).and_then(|f| f.parsed(base_url, problems));
    let client_id = section.require("client_id", problems).and_then(|f| f.text(problems)).map(str::to_owned);
    let client_secret = section.require("client_secret", problems).and_then(|f| f.secret(problems));
    let scope = section.get("scope").and_then(|f| f.text(problems)).map(str::to_owned);
    Some(Auth::OAuth2 { token_url: token_url?, client_id: client_id?, client_secret: client_secret?, scope })
}

fn header_name(text: &str) -> Result<String, String> {
    let is_token =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if is_token { Ok(text.to_owned()) } else { Err("is not the name of an HTTP header".to_owned()) }
}
