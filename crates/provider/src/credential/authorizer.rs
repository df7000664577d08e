//! Makes the headers that authorise a request, of whichever credential there is.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::Instant;

use super::{
    Credential, Secret,
    hmac::HmacSigner,
    jwt::JwtSigner,
    oauth::TokenSource,
    token::{NoToken, Token},
};
use crate::call::now;

/// What authorises the requests to one upstream.
pub(crate) struct Authorizer {
    means: Means,
}

enum Means {
    /// The same headers each time, or none.
    Fixed(HeaderMap),
    Jwt {
        signer: JwtSigner,
        lifetime: Duration,
        present: Option<Mutex<Option<Arc<Token>>>>,
    },
    OAuth2(TokenSource),
    Hmac(HmacSigner),
}

/// The headers of one request, and the token that is among them, if it is one that ends.
pub(crate) struct Authorized {
    pub(crate) headers: HeaderMap,
    token: Option<Arc<Token>>,
}

impl Authorizer {
    /// Loads keys. The error says what is wrong with the credential, and nothing of it.
    pub(crate) fn new(credential: &Credential) -> Result<Self, &'static str> {
        let means = match credential {
            Credential::None => Means::Fixed(HeaderMap::new()),
            Credential::Bearer(key) => {
                Means::Fixed(one_header(header::AUTHORIZATION, &format!("Bearer {}", key.expose()))?)
            }
            Credential::Header { name, value } => {
                let name = HeaderName::try_from(name.as_str()).map_err(|_| "the header's name is none")?;
                Means::Fixed(one_header(name, value.expose())?)
            }
            Credential::Jwt(jwt) => Means::Jwt {
                signer: JwtSigner::new(jwt)?,
                lifetime: jwt.lifetime,
                present: (!jwt.is_signed_per_call).then(Mutex::default),
            },
            Credential::OAuth2(oauth) => Means::OAuth2(TokenSource::new(oauth)?),
            Credential::Hmac(hmac) => Means::Hmac(HmacSigner::new(hmac)?),
        };
        Ok(Self { means })
    }

    /// The headers for a request with `body`. A token endpoint is asked over `http`.
    pub(crate) async fn authorize(&self, http: &reqwest::Client, body: &[u8]) -> Result<Authorized, NoToken> {
        let token = match &self.means {
            Means::Fixed(headers) => return Ok(Authorized { headers: headers.clone(), token: None }),
            Means::Hmac(signer) => {
                let headers = signer.sign(body, now().timestamp(), nonce()?);
                return Ok(Authorized { headers, token: None });
            }
            Means::Jwt { signer, lifetime, present: None } => Arc::new(sign(signer, *lifetime)?),
            Means::Jwt { signer, lifetime, present: Some(present) } => {
                let mut present = present.lock().unwrap_or_else(PoisonError::into_inner);
                match present.as_ref().filter(|token| Instant::now() < token.renew_at) {
                    Some(token) => Arc::clone(token),
                    None => Arc::clone(present.insert(Arc::new(sign(signer, *lifetime)?))),
                }
            }
            Means::OAuth2(source) => source.token(http).await?,
        };
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, token.header.clone())]);
        Ok(Authorized { headers, token: Some(token) })
    }

    /// What the upstream answered to a request with `authorized`. Says whether it refused a token that it had taken
    /// before, in which case the next request brings another one, and nothing is wrong with the credential.
    pub(crate) fn answered(&self, authorized: &Authorized, status_code: u16) -> bool {
        let Some(token) = &authorized.token else { return false };
        if status_code != 401 {
            token.accepted();
            return false;
        }
        match &self.means {
            Means::OAuth2(source) => source.forget(token),
            Means::Jwt { present: Some(present), .. } => {
                let mut present = present.lock().unwrap_or_else(PoisonError::into_inner);
                if present.as_ref().is_some_and(|present| Arc::ptr_eq(present, token)) {
                    *present = None;
                }
            }
            Means::Fixed(_) | Means::Hmac(_) | Means::Jwt { present: None, .. } => {}
        }
        token.was_accepted()
    }

    /// The credential for a process that makes one call in our place: tokens are had here, where others share them.
    pub(crate) async fn told(
        &self,
        credential: &Credential,
        http: &reqwest::Client,
    ) -> Result<Credential, NoToken> {
        match &self.means {
            Means::Fixed(_) | Means::Hmac(_) => Ok(credential.clone()),
            Means::Jwt { .. } | Means::OAuth2(_) => {
                let authorized = self.authorize(http, &[]).await?;
                let token = authorized.headers.get(header::AUTHORIZATION);
                let text = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
                Ok(Credential::Bearer(Secret::new(text.unwrap_or_default())))
            }
        }
    }
}

fn one_header(name: HeaderName, text: &str) -> Result<HeaderMap, &'static str> {
    let value = HeaderValue::from_str(text);
    let mut value = value.map_err(|_| "it holds characters that a header can't")?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(name, value)]))
}

fn sign(signer: &JwtSigner, lifetime: Duration) -> Result<Token, NoToken> {
    let token = signer.token(now().timestamp(), nonce()?).map_err(NoToken::unavailable)?;
    let token = Token::new(&token, lifetime, Instant::now());
    token.ok_or_else(|| NoToken::unavailable("a signed token can stand in no header"))
}

fn nonce() -> Result<[u8; 16], NoToken> {
    let mut nonce = [0; 16];
    let filled = SystemRandom::new().fill(&mut nonce);
    filled.map(|()| nonce).map_err(|_| NoToken::unavailable("the system gives no random numbers"))
}
