//! Tokens of OAuth 2 for a client's own credentials (RFC 6749, 4.4).
//!
//! One call at a time asks the token endpoint. Where there is no good token, the others wait for it; where the token
//! is good but near its end, they go on with it. A call that is dropped while it asks leaves the turn to the next.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, header};
use reqwest::Url;
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{
    OAuth2,
    token::{NoToken, Token},
};

/// Asking for a token takes no longer.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failure nobody asks for so long: those who wait together fail together.
const REST: Duration = Duration::from_secs(1);
/// How long a token is good for that doesn't say.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(5);
/// No token is kept for longer, whatever it says.
const MAX_LIFETIME: Duration = Duration::from_hours(24);
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// Where tokens come from.
pub(super) struct TokenSource {
    url: Url,
    form: String,
    basic: Option<HeaderValue>,
    present: RwLock<Option<Arc<Token>>>,
    /// Held by the one who asks: the last failure, and when it was.
    turn: Mutex<Option<(Instant, NoToken)>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    expires_in: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct TokenRefusal {
    error: String,
}

impl TokenSource {
    pub(super) fn new(oauth: &OAuth2) -> Result<Self, &'static str> {
        let url = Url::parse(&oauth.token_url).map_err(|_| "token_url is no URL")?;
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(oauth.scope.as_deref().map(|scope| ("scope", scope)));
        let secret = oauth.client_secret.expose();
        let mut basic = None;
        if oauth.is_secret_in_body {
            form.extend([("client_id", oauth.client_id.as_str()), ("client_secret", secret)]);
        } else {
            let pair = format!("{}:{}", encoded(&oauth.client_id), encoded(secret));
            let value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)));
            let mut value = value.map_err(|_| "the client's credentials can stand in no header")?;
            value.set_sensitive(true);
            basic = Some(value);
        }
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        Ok(Self { url, form, basic, present: RwLock::default(), turn: Mutex::default() })
    }

    /// A token that is good now, asked for over `http` where need be.
    pub(super) async fn token(&self, http: &reqwest::Client) -> Result<Arc<Token>, NoToken> {
        let present = self.present();
        let now = Instant::now();
        let mut turn = match present {
            Some(token) if now < token.renew_at => return Ok(token),
            Some(token) if now < token.ends_at => match self.turn.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(token),
            },
            _ => self.turn.lock().await,
        };
        let now = Instant::now();
        let still_good = self.present().filter(|token| now < token.ends_at);
        if let Some(renewed) = still_good.as_ref().filter(|token| now < token.renew_at) {
            return Ok(Arc::clone(renewed));
        }
        if let Some((_, failure)) = turn.as_ref().filter(|(at, _)| now < *at + REST) {
            return still_good.ok_or_else(|| failure.clone());
        }
        // On the heap: every call would carry the room for it otherwise.
        match Box::pin(self.ask(http)).await {
            Ok(token) => {
                *turn = None;
                let token = Arc::new(token);
                *self.present.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
                Ok(token)
            }
            Err(failure) => {
                *turn = Some((Instant::now(), failure.clone()));
                still_good.ok_or(failure)
            }
        }
    }

    /// The upstream refused `token`: the next call asks for another.
    pub(super) fn forget(&self, token: &Arc<Token>) {
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        if present.as_ref().is_some_and(|present| Arc::ptr_eq(present, token)) {
            *present = None;
        }
    }

    fn present(&self) -> Option<Arc<Token>> {
        self.present.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ask(&self, http: &reqwest::Client) -> Result<Token, NoToken> {
        // The token's life counts from the asking, rather too early than too late.
        let asked_at = Instant::now();
        let mut request = http
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(self.form.clone());
        if let Some(basic) = &self.basic {
            request = request.header(header::AUTHORIZATION, basic.clone());
        }
        let unreachable = || NoToken::unavailable("the token endpoint did not answer");
        let answered = timeout(ASK_TIMEOUT, read(request)).await.map_err(|_| unreachable())?;
        let (status_code, body) = answered.map_err(|_| unreachable())?;
        token_of(status_code, &body, asked_at)
    }
}

async fn read(request: reqwest::RequestBuilder) -> reqwest::Result<(u16, Vec<u8>)> {
    let mut response = request.send().await?;
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await? {
        let room = MAX_ANSWER_BYTES - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if body.len() == MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok((response.status().as_u16(), body))
}

/// What a token endpoint's answer means. Its words are not repeated, but for the error's code: they may quote anything.
fn token_of(status_code: u16, body: &[u8], asked_at: Instant) -> Result<Token, NoToken> {
    if status_code != 200 {
        let code = serde_json::from_slice::<TokenRefusal>(body).ok().map(|refusal| refusal.error);
        let is_code = |code: &String| {
            (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        let code = code.filter(is_code).map(|code| format!(" ({code})")).unwrap_or_default();
        let detail = format!("the token endpoint answered {status_code}{code}");
        return Err(match status_code {
            400 | 401 | 403 => NoToken::refused(detail),
            _ => NoToken::unavailable(detail),
        });
    }
    let malformed = || NoToken::unavailable("the token endpoint's answer holds no token");
    let answer: TokenAnswer = serde_json::from_slice(body).map_err(|_| malformed())?;
    let seconds = answer.expires_in.as_ref().and_then(|value| match value {
        serde_json::Value::String(text) => text.parse().ok(),
        other => other.as_f64(),
    });
    let lifetime = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let lifetime = lifetime.unwrap_or(DEFAULT_LIFETIME).min(MAX_LIFETIME);
    Token::new(&answer.access_token, lifetime, asked_at).ok_or_else(malformed)
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NotSentReason;

    fn failure(status_code: u16, body: &str) -> NoToken {
        token_of(status_code, body.as_bytes(), Instant::now()).unwrap_err()
    }

    #[test]
    fn a_token_is_renewed_before_its_end() {
        let now = Instant::now();
        let lifetime = |json: &str| {
            let token = token_of(200, json.as_bytes(), now).unwrap();
            (token.renew_at - now, token.ends_at - now)
        };
        let s = Duration::from_secs;
        assert_eq!(lifetime(r#"{"access_token":"t","expires_in":3600}"#), (s(3540), s(3600)));
        assert_eq!(lifetime(r#"{"access_token":"t","expires_in":"40"}"#), (s(30), s(40)));
        assert_eq!(lifetime(r#"{"access_token":"t"}"#), (s(240), s(300)));
        assert_eq!(lifetime(r#"{"access_token":"t","expires_in":1e9}"#).1, s(86_400));
        assert_eq!(lifetime(r#"{"access_token":"t","expires_in":-5}"#).1, s(300));
    }

    #[test]
    fn a_refusal_is_told_by_its_code_and_nothing_else() {
        let refused =
            failure(401, r#"{"error":"invalid_client","error_description":"secret s3cret is wrong"}"#);
        assert_eq!(refused, NoToken::refused("the token endpoint answered 401 (invalid_client)"));
        assert_eq!(failure(400, r#"{"error":"No such s3cret"}"#).detail, "the token endpoint answered 400");
        assert_eq!(failure(503, "busy").reason, NotSentReason::NoCredential);
        for nonsense in ["", "{}", r#"{"access_token":7}"#, "{\"access_token\":\"a\\nb\"}"] {
            assert_eq!(failure(200, nonsense).reason, NotSentReason::NoCredential);
        }
    }
}
