//! Signatures: the HMAC-SHA256 of timestamp, nonce and body, with a line feed between them, in hex.
//!
//! No standard fixes the form; this is the one that most gateways can be told to check. The nonce makes each signature
//! good for one request, the timestamp bounds how long the other side must remember nonces.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac;

use super::Hmac;

/// What signs requests.
pub(super) struct HmacSigner {
    key: hmac::Key,
    signature: HeaderName,
    timestamp: HeaderName,
    nonce: HeaderName,
}

impl HmacSigner {
    pub(super) fn new(hmac: &Hmac) -> Result<Self, &'static str> {
        let name = |text: &str| HeaderName::try_from(text).map_err(|_| "a header's name is none");
        Ok(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, hmac.key.expose().as_bytes()),
            signature: name(&hmac.signature_header)?,
            timestamp: name(&hmac.timestamp_header)?,
            nonce: name(&hmac.nonce_header)?,
        })
    }

    /// Signs `body`. `unix_seconds` is the present time; `nonce` must never come twice.
    pub(super) fn sign(&self, body: &[u8], unix_seconds: i64, nonce: [u8; 16]) -> HeaderMap {
        let (timestamp, nonce) = (unix_seconds.to_string(), hex(&nonce));
        let mut context = hmac::Context::with_key(&self.key);
        for part in [timestamp.as_bytes(), b"\n", nonce.as_bytes(), b"\n", body] {
            context.update(part);
        }
        let signature = hex(context.sign().as_ref());
        let mut headers = HeaderMap::with_capacity(3);
        let fields = [(&self.timestamp, timestamp), (&self.nonce, nonce), (&self.signature, signature)];
        for (name, text) in fields {
            // Digits and hex can stand in any header.
            if let Ok(mut value) = HeaderValue::from_str(&text) {
                value.set_sensitive(*name == self.signature);
                headers.insert(name, value);
            }
        }
        headers
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    #[test]
    fn a_signature_covers_timestamp_nonce_and_body() {
        let hmac = Hmac {
            key: Secret::new("key"),
            signature_header: "X-Sig".to_owned(),
            timestamp_header: "X-Time".to_owned(),
            nonce_header: "X-Once".to_owned(),
        };
        let signer = HmacSigner::new(&hmac).unwrap();
        let headers = signer.sign(b"{}", 1_700_000_000, [7; 16]);
        assert_eq!(headers["x-time"], "1700000000");
        assert_eq!(headers["x-once"], "07".repeat(16).as_str());
        // python3 -c "import hmac;print(hmac.new(b'key',b'1700000000\n'+b'07'*16+b'\n{}','sha256').hexdigest())"
        assert_eq!(headers["x-sig"], "2a017dcdc78f6f1281367bfd6ae3b088035d89e84bd319281d2dcf4b7ba33073");
        assert!(headers["x-sig"].is_sensitive());
        assert_ne!(signer.sign(b"{ }", 1_700_000_000, [7; 16])["x-sig"], headers["x-sig"]);
        let hmac = Hmac { nonce_header: "no header".to_owned(), ..hmac };
        assert!(HmacSigner::new(&hmac).is_err());
    }
}
