//! Credentials: what an upstream knows its callers by, and the headers that are made of it for each request.
//!
//! A key stands in a header as it is. A JWT is signed here, once for its lifetime or for each call. A token of OAuth 2
//! is had from a token endpoint, which is asked by one call at a time and before the old token ends. A signature (HMAC)
//! covers a timestamp, a nonce and the very bytes of the body, so it is made when those are known.
//!
//! Not here: where secrets come from (`config`), and what a refusal leads to (`worker`).

mod authorizer;
mod hmac;
mod jwt;
mod oauth;
mod token;

use std::{fmt, time::Duration};

pub(crate) use authorizer::{Authorized, Authorizer};
pub(crate) use token::NoToken;

/// A secret. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret that was resolved.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: for the header or the signature that it goes into, and for a process that makes a call in our
    /// place; never for a log, a span or an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How requests are authorised.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Credential {
    /// Not at all.
    #[default]
    None,
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// A header of its own.
    Header {
        /// The header's name.
        name: String,
        /// Its value.
        value: Secret,
    },
    /// A bearer token that is signed here.
    Jwt(Jwt),
    /// A bearer token that a token endpoint gives for a client's credentials.
    OAuth2(OAuth2),
    /// A signature of each request.
    Hmac(Hmac),
}

/// How a JWT is signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are those of RFC 7518 and RFC 8037")]
pub enum JwtAlgorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Es256,
    EdDsa,
}

/// What tokens are signed with, and what they say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Jwt {
    /// How.
    pub algorithm: JwtAlgorithm,
    /// The key: any text for the HMACs, else a private key in PEM.
    pub key: Secret,
    /// Which key it is (`kid`).
    pub key_id: Option<String>,
    /// Claims beside `iat`, `exp` and `jti`.
    pub claims: Vec<(String, String)>,
    /// How long a token is good for.
    pub lifetime: Duration,
    /// Whether each call gets a token of its own.
    pub is_signed_per_call: bool,
}

/// Client credentials (RFC 6749, 4.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OAuth2 {
    /// Where tokens are had.
    pub token_url: String,
    /// Who asks.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: Secret,
    /// What for.
    pub scope: Option<String>,
    /// Whether the client says who it is in the body of the request, and not by HTTP Basic authentication.
    pub is_secret_in_body: bool,
}

/// A signature over timestamp, nonce and body, and the headers that carry it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hmac {
    /// The key.
    pub key: Secret,
    /// The header of the signature.
    pub signature_header: String,
    /// The header of the timestamp.
    pub timestamp_header: String,
    /// The header of the nonce.
    pub nonce_header: String,
}
