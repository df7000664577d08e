//! Requests that are signed themselves, by a secret that both sides know and that never goes over the wire.
//!
//! ```text
//! Authorization: SLUICE-HMAC-SHA256 id=billing, timestamp=1790000000, nonce=8f14e45fceea167a, signature=HEX
//!
//! signature = HMAC-SHA256(secret, "SLUICE-HMAC-SHA256" LF method LF path-and-query LF timestamp LF nonce LF
//!                                 HEX(SHA-256(body)))
//! ```
//!
//! The timestamp is in whole seconds and may be five minutes off; a nonce counts once. Pure: time and secrets come in, and
//! whether a nonce is new is asked elsewhere.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ring::hmac;
use sluice_config::{RequestSigner, Secret};
use thiserror::Error;

/// The scheme of the header `Authorization`, and the first line of what is signed.
pub(super) const SCHEME: &str = "SLUICE-HMAC-SHA256";
/// How far a timestamp may be from our clock, in seconds.
const MOST_OFF_S: i64 = 300;
/// For how long a nonce has to be remembered: while its timestamp is good, whichever side of our clock it was on.
pub(super) const NONCE_KEPT: Duration = Duration::from_secs(2 * MOST_OFF_S as u64 + 60);
const NONCE_LENGTHS: std::ops::RangeInclusive<usize> = 16..=64;

/// Somebody whose signatures count, with its secret.
pub(super) struct Signer {
    pub(super) rules: RequestSigner,
    key: hmac::Key,
}

/// Why a signed request does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(super) enum BadSignature {
    #[error(
        "it must hold id, timestamp, nonce (16 to 64 letters, digits, '-' or '_') and signature (in hex)"
    )]
    Malformed,
    #[error("its signer is not known here")]
    Signer,
    #[error("its timestamp is more than five minutes off")]
    Timestamp,
    #[error("it does not fit the request")]
    Signature,
    #[error("its nonce was used before")]
    Repeated,
}

/// What the header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Claim {
    pub(super) signer: String,
    pub(super) nonce: String,
    timestamp: i64,
    signature: Vec<u8>,
}

impl Signer {
    pub(super) fn new(rules: RequestSigner, secret: &Secret) -> Self {
        Self { rules, key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()) }
    }
}

impl Claim {
    /// Reads what follows the scheme; what can be refused without the body is refused here.
    pub(super) fn read(parameters: &str, now: DateTime<Utc>) -> Result<Self, BadSignature> {
        let value = |name: &str| {
            let mut found = parameters.split(',').filter_map(|pair| pair.trim().split_once('='));
            found.find(|(key, _)| *key == name).map(|(_, value)| value).ok_or(BadSignature::Malformed)
        };
        let (nonce, timestamp) = (value("nonce")?, value("timestamp")?);
        let is_plain = nonce.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !NONCE_LENGTHS.contains(&nonce.len()) || !is_plain {
            return Err(BadSignature::Malformed);
        }
        let timestamp: i64 = timestamp.parse().map_err(|_| BadSignature::Malformed)?;
        if now.timestamp().abs_diff(timestamp) > MOST_OFF_S as u64 {
            return Err(BadSignature::Timestamp);
        }
        let signature = of_hex(value("signature")?).ok_or(BadSignature::Malformed)?;
        Ok(Self { signer: value("id")?.to_owned(), nonce: nonce.to_owned(), timestamp, signature })
    }

    /// Whether the signature is the signer's for this request.
    pub(super) fn verify(
        &self,
        signer: &Signer,
        method: &str,
        target: &str,
        body_sha256: &[u8],
    ) -> Result<(), BadSignature> {
        let message =
            [SCHEME, method, target, &self.timestamp.to_string(), &self.nonce, &hex(body_sha256)].join("\n");
        hmac::verify(&signer.key, message.as_bytes(), &self.signature).map_err(|_| BadSignature::Signature)
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn of_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

#[cfg(test)]
mod tests {
    use sluice_config::SecretRef;
    use sluice_domain::{Scopes, TenantName};

    use super::*;

    const NOW: i64 = 1_790_000_000;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(NOW, 0).unwrap()
    }

    fn signer() -> Signer {
        let reference = SecretRef::Environment("S".to_owned());
        let secret = reference.resolve(|_| Some("secret".to_owned())).unwrap();
        let tenant = TenantName::new("billing").unwrap();
        let rules =
            RequestSigner { id: "billing".to_owned(), secret: reference, tenant, scopes: Scopes::ALL };
        Signer::new(rules, &secret)
    }

    /// Made by: printf 'SLUICE-HMAC-SHA256\nPOST\n/v1/jobs?a=b\n1790000000\n0123456789abcdef\n%s' "$(printf '{}' |
    /// sha256sum | cut -d' ' -f1)" | openssl dgst -sha256 -hmac secret
    const SIGNATURE: &str = "07fc487dd287a2b66771517c9dd4fd125a2675f5a4bab6a1be9140c4fdcaeb72";
    const EMPTY_OBJECT: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn claim(timestamp: i64) -> String {
        format!("id=billing, timestamp={timestamp},nonce=0123456789abcdef, signature={SIGNATURE}")
    }

    #[test]
    fn a_signature_fits_its_own_request_only() {
        let claim = Claim::read(&claim(NOW), now()).unwrap();
        let digest = of_hex(EMPTY_OBJECT).unwrap();
        let verify = |method, target, digest: &[u8]| claim.verify(&signer(), method, target, digest);
        assert_eq!(verify("POST", "/v1/jobs?a=b", &digest), Ok(()));
        assert_eq!(verify("GET", "/v1/jobs?a=b", &digest), Err(BadSignature::Signature));
        assert_eq!(verify("POST", "/v1/jobs?a=c", &digest), Err(BadSignature::Signature));
        assert_eq!(verify("POST", "/v1/jobs?a=b", &[0; 32]), Err(BadSignature::Signature));
    }

    #[test]
    fn old_and_malformed_claims_are_refused() {
        assert_eq!(Claim::read(&claim(NOW - 301), now()), Err(BadSignature::Timestamp));
        assert_eq!(Claim::read(&claim(NOW + 301), now()), Err(BadSignature::Timestamp));
        assert_eq!(Claim::read(&claim(i64::MIN), now()), Err(BadSignature::Timestamp));
        assert!(Claim::read(&claim(NOW - 300), now()).is_ok());
        for change in [
            ("nonce=0", "nonce=é"),
            ("nonce=0123456789abcdef", "nonce=short"),
            ("id=", "ib="),
            ("signature=", "signature=0"),
        ] {
            let text = claim(NOW).replace(change.0, change.1);
            assert_eq!(Claim::read(&text, now()), Err(BadSignature::Malformed), "{text}");
        }
    }
}
