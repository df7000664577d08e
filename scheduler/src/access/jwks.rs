//! The keys that tokens of others are verified by: a JSON Web Key Set (RFC 7517).
//!
//! Each key can be used for one algorithm only, by what it is: a token can't choose that an RSA key be taken for a shared
//! secret.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey},
};
use serde::Deserialize;
use sluice_config::TokenAlgorithm;
use thiserror::Error;

/// Shorter secrets could be found by trying (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// A set of keys that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum BadKeySet {
    /// It is no JSON of that form. What is there instead may be secret, and is not repeated.
    #[error("it is no JSON Web Key Set")]
    Malformed,
    /// A key of it is not what it says.
    #[error(
        "its key number {0} can't be used: it is cut off, malformed, or its secret is shorter than 32 bytes"
    )]
    Key(usize),
    /// None of its keys is for one of the algorithms.
    #[error("it holds no key for RS256, EdDSA (Ed25519) or HS256")]
    Empty,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    k: Option<String>,
}

/// A key, and what it is called.
pub(super) struct VerifyingKey {
    pub(super) id: Option<String>,
    material: Material,
}

enum Material {
    Secret(hmac::Key),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    Ed25519(UnparsedPublicKey<Vec<u8>>),
}

/// Reads a set. Keys of other kinds, or for encryption, are passed over.
pub(super) fn read_keys(document: &str) -> Result<Vec<VerifyingKey>, BadKeySet> {
    let document: Document = serde_json::from_str(document).map_err(|_| BadKeySet::Malformed)?;
    let mut keys = Vec::new();
    for (number, jwk) in (1..).zip(document.keys) {
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
            continue;
        }
        let material = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("oct", _) => secret(jwk.k.as_deref()),
            ("RSA", _) => rsa(jwk.n.as_deref(), jwk.e.as_deref()),
            ("OKP", Some("Ed25519")) => ed25519(jwk.x.as_deref()),
            _ => continue,
        };
        keys.push(VerifyingKey { id: jwk.kid, material: material.ok_or(BadKeySet::Key(number))? });
    }
    if keys.is_empty() { Err(BadKeySet::Empty) } else { Ok(keys) }
}

fn decoded(text: Option<&str>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?.trim_end_matches('=')).ok()
}

fn secret(text: Option<&str>) -> Option<Material> {
    let secret = decoded(text).filter(|secret| secret.len() >= MIN_SECRET_BYTES)?;
    Some(Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
}

fn rsa(modulus: Option<&str>, exponent: Option<&str>) -> Option<Material> {
    let strip = |mut bytes: Vec<u8>| {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.split_off(zeros)
    };
    let (n, e) = (strip(decoded(modulus)?), strip(decoded(exponent)?));
    // ring refuses smaller ones when it verifies; whoever configures one should hear it at once.
    let is_usable = n.len() >= 256 && !e.is_empty();
    is_usable.then_some(Material::Rsa(RsaPublicKeyComponents { n, e }))
}

fn ed25519(point: Option<&str>) -> Option<Material> {
    let point = decoded(point).filter(|point| point.len() == 32)?;
    Some(Material::Ed25519(UnparsedPublicKey::new(&ED25519, point)))
}

impl VerifyingKey {
    /// What it verifies.
    pub(super) const fn algorithm(&self) -> TokenAlgorithm {
        match self.material {
            Material::Secret(_) => TokenAlgorithm::Hs256,
            Material::Rsa(_) => TokenAlgorithm::Rs256,
            Material::Ed25519(_) => TokenAlgorithm::EdDsa,
        }
    }

    /// Whether a signature over a message is this key's.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok(),
            Material::Ed25519(key) => key.verify(message, signature).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BadKeySet, read_keys};

    #[test]
    fn sets_that_cannot_be_used_are_refused_without_repeating_them() {
        let refused = |text: &str| read_keys(text).err().unwrap();
        assert_eq!(refused("secret"), BadKeySet::Malformed);
        assert_eq!(refused(r#"{"keys":[]}"#), BadKeySet::Empty);
        assert_eq!(refused(r#"{"keys":[{"kty":"EC","crv":"P-256"}]}"#), BadKeySet::Empty);
        assert_eq!(refused(r#"{"keys":[{"kty":"oct","k":"c2hvcnQ"}]}"#), BadKeySet::Key(1));
        assert_eq!(refused(r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#), BadKeySet::Key(1));
        assert_eq!(refused(r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}"#), BadKeySet::Key(1));
    }
}
