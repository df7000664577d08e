//! How requests to an upstream are authorised. Keys are references; what is signed with them is the workers' business.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    duration,
    problem::Problems,
    secret::{Secret, SecretError, SecretRef},
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
    /// A token that Sluice signs itself.
    Jwt {
        /// How it is signed.
        algorithm: JwtAlgorithm,
        /// The key: any text for HS256 and its kin, else a private key in PEM.
        secret: SecretRef,
        /// Which key it is, for the header's `kid`.
        #[serde(skip_serializing_if = "Option::is_none")]
        key_id: Option<String>,
        /// Claims beside the times and `jti`.
        claims: BTreeMap<String, String>,
        /// How long a token is good for.
        #[serde(serialize_with = "duration::serialize")]
        lifetime: Duration,
        /// When a new one is signed.
        sign: JwtSigning,
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
        /// How the client says who it is.
        client_auth: ClientAuth,
    },
    /// A signature over a timestamp, a nonce and the body.
    Hmac {
        /// The key.
        secret: SecretRef,
        /// The header of the signature.
        signature_header: String,
        /// The header of the timestamp.
        timestamp_header: String,
        /// The header of the nonce.
        nonce_header: String,
    },
}

/// When a JWT is signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JwtSigning {
    /// Once for each lifetime, and some time before it is over.
    Lifetime,
    /// For each call.
    Call,
}

/// How a client says who it is where it gets its tokens (RFC 6749, 2.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// By HTTP Basic authentication.
    Basic,
    /// In the body of the request.
    Body,
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
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl JwtAlgorithm {
    const WORDS: [(&str, Self); 6] = [
        ("HS256", Self::Hs256),
        ("HS384", Self::Hs384),
        ("HS512", Self::Hs512),
        ("RS256", Self::Rs256),
        ("ES256", Self::Es256),
        ("EdDSA", Self::EdDsa),
    ];

    /// Whether its key is one of a pair, in PEM.
    pub const fn has_key_pair(self) -> bool {
        matches!(self, Self::Rs256 | Self::Es256 | Self::EdDsa)
    }
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

    /// Gets its secret: each kind has one, or none. `variable` looks up environment variables.
    pub fn resolve(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Secret>, SecretError> {
        match self {
            Self::None => Ok(None),
            Self::Jwt { algorithm, secret, .. } if algorithm.has_key_pair() => {
                secret.resolve_lines(variable).map(Some)
            }
            Self::Bearer { api_key: secret }
            | Self::Header { value: secret, .. }
            | Self::Jwt { secret, .. }
            | Self::OAuth2 { client_secret: secret, .. }
            | Self::Hmac { secret, .. } => secret.resolve(variable).map(Some),
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
        _ => read_hmac(field, problems),
    }
}

fn read_hmac(field: &Field<'_>, problems: &mut Problems) -> Option<Auth> {
    let known = ["kind", "secret", "signature_header", "timestamp_header", "nonce_header"];
    let section = Section::of(field, &known, problems)?;
    let secret = section.require("secret", problems).and_then(|f| f.secret(problems));
    let mut header = |key: &str, default: &str| match section.get(key) {
        Some(field) => field.parsed(header_name, problems),
        None => Some(default.to_owned()),
    };
    let signature_header = header("signature_header", "X-Signature");
    let timestamp_header = header("timestamp_header", "X-Timestamp");
    let nonce_header = header("nonce_header", "X-Nonce");
    Some(Auth::Hmac {
        secret: secret?,
        signature_header: signature_header?,
        timestamp_header: timestamp_header?,
        nonce_header: nonce_header?,
    })
}

fn read_jwt(field: &Field<'_>, problems: &mut Problems) -> Option<Auth> {
    let known = ["kind", "algorithm", "secret", "key_id", "claims", "lifetime", "sign"];
    let section = Section::of(field, &known, problems)?;
    let algorithm =
        section.require("algorithm", problems).and_then(|f| f.word(&JwtAlgorithm::WORDS, problems));
    let secret = section.require("secret", problems).and_then(|f| f.secret(problems));
    let key_id = section.get("key_id").and_then(|f| f.text(problems)).map(str::to_owned);
    let lifetimes = Duration::from_secs(1)..=Duration::from_hours(24);
    let lifetime =
        section.get("lifetime").map_or(Some(Duration::from_hours(1)), |f| f.duration(lifetimes, problems));
    let signings = [("lifetime", JwtSigning::Lifetime), ("call", JwtSigning::Call)];
    let sign = section.get("sign").map_or(Some(JwtSigning::Lifetime), |f| f.word(&signings, problems));
    let claims = section.get("claims").map_or(Some(BTreeMap::new()), |f| read_claims(&f, problems));
    Some(Auth::Jwt {
        algorithm: algorithm?,
        secret: secret?,
        key_id,
        claims: claims?,
        lifetime: lifetime?,
        sign: sign?,
    })
}

fn read_claims(field: &Field<'_>, problems: &mut Problems) -> Option<BTreeMap<String, String>> {
    let Value::Mapping(entries) = &field.node.value else {
        Section::of(field, &[], problems);
        return None;
    };
    let known: Vec<_> = entries.iter().map(|(key, _)| key.value.as_str()).collect();
    let mut claims = BTreeMap::new();
    for (key, value) in Section::of(field, &known, problems)?.fields() {
        if ["iat", "nbf", "exp", "jti"].contains(&key) {
            value.problem("is set for each token; leave it out", problems);
        }
        claims.insert(key.to_owned(), value.text(problems).unwrap_or_default().to_owned());
    }
    Some(claims)
}

fn read_oauth2(field: &Field<'_>, problems: &mut Problems) -> Option<Auth> {
    let known = ["kind", "token_url", "client_id", "client_secret", "scope", "client_auth"];
    let section = Section::of(field, &known, problems)?;
    let token_url = section.require("token_url", problems).and_then(|f| f.parsed(base_url, problems));
    let client_id = section.require("client_id", problems).and_then(|f| f.text(problems)).map(str::to_owned);
    let client_secret = section.require("client_secret", problems).and_then(|f| f.secret(problems));
    let scope = section.get("scope").and_then(|f| f.text(problems)).map(str::to_owned);
    let ways = [("basic", ClientAuth::Basic), ("body", ClientAuth::Body)];
    let client_auth = section.get("client_auth").map_or(Some(ClientAuth::Basic), |f| f.word(&ways, problems));
    Some(Auth::OAuth2 {
        token_url: token_url?,
        client_id: client_id?,
        client_secret: client_secret?,
        scope,
        client_auth: client_auth?,
    })
}

fn header_name(text: &str) -> Result<String, String> {
    let is_token =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if is_token { Ok(text.to_owned()) } else { Err("is not the name of an HTTP header".to_owned()) }
}
