//! Credentials beyond bearer keys: what a request must bring, checked to the letter. OAuth 2 tokens are given here, too.
//!
//! This shares no code with what makes credentials (`provider`): it is the other side, and proves it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{HeaderMap, header};
use ring::{hmac, signature};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{api_error::ApiError, clock::wall_now, script::Reply};

/// What a request must bring.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum CredentialCheck {
    /// A header with this value.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// A JWT as bearer token.
    Jwt {
        /// `HS256`, `RS256`, `ES256` or `EdDSA`.
        algorithm: String,
        /// The secret; for key pairs the public key in base64: RSA as PKCS#1, a point of P-256, a key of Ed25519.
        key: String,
        /// Claims that it must hold.
        #[serde(default)]
        claims: BTreeMap<String, String>,
        /// Whether a token is good for one call only.
        #[serde(default)]
        is_for_one_call: bool,
    },
    /// A token that `POST /oauth/token` gave.
    OAuth2 {
        /// The client.
        client_id: String,
        /// Its secret.
        client_secret: String,
        /// What it must ask for.
        #[serde(default)]
        scope: Option<String>,
        /// How long a token is good for, in milliseconds. The answer tells whole seconds, rounded up.
        lifetime_ms: u64,
    },
    /// An HMAC-SHA256 over timestamp, nonce and body in `X-Signature`, `X-Timestamp` and `X-Nonce`.
    Hmac {
        /// The key.
        key: String,
    },
}

/// A signature's timestamp may be so far off.
const MAX_SKEW_S: i64 = 300;

/// What is remembered of credentials.
#[derive(Debug, Default)]
pub(crate) struct CredentialBook {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Nonces and token ids that were used.
    used: HashSet<String>,
    /// Tokens that were given, and until when they are good.
    tokens: HashMap<String, Instant>,
    given: u64,
}

impl CredentialBook {
    /// Whether a request is authorised.
    pub(crate) fn check(
        &self,
        check: &CredentialCheck,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(), ApiError> {
        let is_good = match check {
            CredentialCheck::Header { name, value } => text(headers, name) == Some(value),
            CredentialCheck::Jwt { algorithm, key, claims, is_for_one_call } => {
                bearer(headers).and_then(|token| claims_of(token, algorithm, key)).is_some_and(|found| {
                    let named = claims.iter().all(|(claim, value)| found[claim] == value.as_str());
                    let id = found["jti"].as_str().unwrap_or_default();
                    named && is_in_time(&found) && (!is_for_one_call || self.is_first(id))
                })
            }
            CredentialCheck::OAuth2 { .. } => bearer(headers)
                .is_some_and(|token| self.lock().tokens.get(token).is_some_and(|end| Instant::now() < *end)),
            CredentialCheck::Hmac { key } => self.is_signed(key, headers, body).unwrap_or(false),
        };
        if is_good { Ok(()) } else { Err(ApiError::wrong_key()) }
    }

    /// Answers a request for a token.
    pub(crate) fn give_token(
        &self,
        check: Option<&CredentialCheck>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Reply {
        let Some(CredentialCheck::OAuth2 { client_id, client_secret, scope, lifetime_ms }) = check else {
            return refused(404, "unsupported_grant_type");
        };
        let form: HashMap<_, _> = url::form_urlencoded::parse(body).into_owned().collect();
        let field = |name: &str| form.get(name).map(String::as_str);
        let basic = format!("Basic {}", STANDARD.encode(format!("{client_id}:{client_secret}")));
        let in_body = field("client_id") == Some(client_id) && field("client_secret") == Some(client_secret);
        if text(headers, header::AUTHORIZATION.as_str()) != Some(&basic) && !in_body {
            return refused(401, "invalid_client");
        }
        if field("grant_type") != Some("client_credentials") || field("scope") != scope.as_deref() {
            return refused(400, "invalid_request");
        }
        let token = format!("tok-{}", uuid::Uuid::new_v4().simple());
        let mut state = self.lock();
        state.given += 1;
        state.tokens.insert(token.clone(), Instant::now() + Duration::from_millis(*lifetime_ms));
        let answer = json!({
            "access_token": token, "token_type": "Bearer", "expires_in": lifetime_ms.div_ceil(1000),
        });
        Reply::immediate(200, "application/json", answer.to_string())
    }

    /// Tokens given so far.
    pub(crate) fn tokens_given(&self) -> u64 {
        self.lock().given
    }

    /// No token that was given is good any more.
    pub(crate) fn revoke_tokens(&self) {
        self.lock().tokens.clear();
    }

    fn is_first(&self, nonce: &str) -> bool {
        !nonce.is_empty() && self.lock().used.insert(nonce.to_owned())
    }

    fn is_signed(&self, key: &str, headers: &HeaderMap, body: &[u8]) -> Option<bool> {
        let (timestamp, nonce) = (text(headers, "x-timestamp")?, text(headers, "x-nonce")?);
        let signature = unhex(text(headers, "x-signature")?)?;
        let age = wall_now().timestamp() - timestamp.parse::<i64>().ok()?;
        let signed = [timestamp.as_bytes(), b"\n", nonce.as_bytes(), b"\n", body].concat();
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        let is_right = hmac::verify(&key, &signed, &signature).is_ok();
        Some(is_right && age.abs() <= MAX_SKEW_S && self.is_first(nonce))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(status: u16, code: &str) -> Reply {
    Reply::immediate(status, "application/json", json!({ "error": code }).to_string())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    text(headers, header::AUTHORIZATION.as_str())?.strip_prefix("Bearer ")
}

/// The claims of a token that is signed as it should be.
fn claims_of(token: &str, algorithm: &str, key: &str) -> Option<Value> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (head, claims) = signed.split_once('.')?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
    let json = |part: &str| serde_json::from_slice::<Value>(&decode(part)?).ok();
    let (message, signature) = (signed.as_bytes(), decode(signature)?);
    let verify = |how: &'static dyn signature::VerificationAlgorithm| {
        let key = signature::UnparsedPublicKey::new(how, STANDARD.decode(key).ok()?);
        key.verify(message, &signature).ok()
    };
    match algorithm {
        "HS256" => {
            hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), message, &signature).ok()?;
        }
        "RS256" => verify(&signature::RSA_PKCS1_2048_8192_SHA256)?,
        "ES256" => verify(&signature::ECDSA_P256_SHA256_FIXED)?,
        "EdDSA" => verify(&signature::ED25519)?,
        _ => return None,
    }
    (json(head)?["alg"] == algorithm).then(|| json(claims)).flatten()
}

fn is_in_time(claims: &Value) -> bool {
    let now = wall_now().timestamp();
    let time = |claim: &str| claims[claim].as_i64();
    time("iat").is_some_and(|at| at <= now + 1) && time("exp").is_some_and(|at| now < at)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
