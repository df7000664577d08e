//! Signatures of Standard Webhooks: HMAC-SHA256 over id, time and body, in base64 behind `v1,`.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;
use thiserror::Error;

/// What secrets begin with, so that people know them when they see them.
const PREFIX: &str = "whsec_";

/// A secret that can't be used. It does not repeat it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("use the secret of a webhook: it must be whsec_ and the base64 of 24 to 64 random bytes")]
pub struct InvalidSecret;

/// A secret by which receivers know that a delivery comes from us.
#[derive(Clone)]
pub struct SigningSecret(hmac::Key);

impl SigningSecret {
    /// Takes `whsec_…`.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(InvalidSecret);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

/// The secret, and while it is rotated the one before: receivers that know either of them take the delivery.
#[derive(Clone, Debug)]
pub struct SigningSecrets {
    /// The one that counts.
    pub present: SigningSecret,
    /// The one before.
    pub previous: Option<SigningSecret>,
}

impl SigningSecrets {
    /// The header `webhook-signature`. `timestamp`: seconds since 1970.
    pub fn header(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut header = self.present.sign(id, timestamp, body);
        if let Some(previous) = &self.previous {
            header.push(' ');
            header.push_str(&previous.sign(id, timestamp, body));
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let secrets = SigningSecrets { present: secret, previous: None };
        let header =
            secrets.header("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(header, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn both_secrets_sign_while_one_follows_the_other() {
        let of = |byte: u8| SigningSecret::parse(&format!("whsec_{}", STANDARD.encode([byte; 32]))).unwrap();
        let alone = |byte| SigningSecrets { present: of(byte), previous: None }.header("msg_1", 1, b"{}");
        let both = SigningSecrets { present: of(1), previous: Some(of(2)) }.header("msg_1", 1, b"{}");
        assert_eq!(both, format!("{} {}", alone(1), alone(2)));
    }

    #[test]
    fn what_is_no_secret_is_refused_and_none_is_shown() {
        let short = format!("whsec_{}", STANDARD.encode([7; 23]));
        for text in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_???", short.as_str()] {
            assert!(SigningSecret::parse(text).is_err(), "{text}");
        }
        let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(format!("{secret:?}"), "SigningSecret(…)");
    }
}
