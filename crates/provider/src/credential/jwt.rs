//! JSON Web Tokens, signed (RFC 7515, 7518, 7519, 8037).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::{Map, Value, json};

use super::{Jwt, JwtAlgorithm, hmac::hex};

/// What signs tokens.
pub(super) struct JwtSigner {
    key: SigningKey,
    /// The header of all its tokens, encoded.
    header: String,
    claims: Map<String, Value>,
    lifetime_s: i64,
}

enum SigningKey {
    Hmac(hmac::Key),
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl JwtSigner {
    /// Loads the key. The error says what is wrong with it, and nothing of it.
    pub(super) fn new(jwt: &Jwt) -> Result<Self, &'static str> {
        let mut header = json!({ "alg": name(jwt.algorithm), "typ": "JWT" });
        if let Some(key_id) = &jwt.key_id {
            header["kid"] = key_id.as_str().into();
        }
        let claims = jwt.claims.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str())));
        Ok(Self {
            key: SigningKey::load(jwt)?,
            header: URL_SAFE_NO_PAD.encode(header.to_string()),
            claims: claims.collect(),
            lifetime_s: i64::try_from(jwt.lifetime.as_secs().max(1)).unwrap_or(i64::MAX),
        })
    }

    /// A token from `unix_seconds` on. `nonce` becomes its id and must never come twice.
    pub(super) fn token(&self, unix_seconds: i64, nonce: [u8; 16]) -> Result<String, &'static str> {
        let mut claims = self.claims.clone();
        claims.insert("iat".to_owned(), unix_seconds.into());
        claims.insert("exp".to_owned(), unix_seconds.saturating_add(self.lifetime_s).into());
        claims.insert("jti".to_owned(), hex(&nonce).into());
        let signed = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(Value::from(claims).to_string()));
        let signature = self.key.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl SigningKey {
    fn load(jwt: &Jwt) -> Result<Self, &'static str> {
        let text = jwt.key.expose();
        let hmac = |algorithm| Ok(Self::Hmac(hmac::Key::new(algorithm, text.as_bytes())));
        match jwt.algorithm {
            JwtAlgorithm::Hs256 => hmac(hmac::HMAC_SHA256),
            JwtAlgorithm::Hs384 => hmac(hmac::HMAC_SHA384),
            JwtAlgorithm::Hs512 => hmac(hmac::HMAC_SHA512),
            JwtAlgorithm::Rs256 => match private_key(text)? {
                PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
                PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
                _ => return Err("the key is none of RSA"),
            }
            .map(|pair| Self::Rsa(Box::new(pair)))
            .map_err(|_| "the key is none of RSA, or one of less than 2048 bits"),
            JwtAlgorithm::Es256 => {
                let PrivateKeyDer::Pkcs8(der) = private_key(text)? else { return Err(NOT_PKCS8) };
                let random = SystemRandom::new();
                let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
                EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der(), &random)
                    .map(|pair| Self::Ecdsa(Box::new(pair)))
                    .map_err(|_| "the key is none of the curve P-256")
            }
            JwtAlgorithm::EdDsa => {
                let PrivateKeyDer::Pkcs8(der) = private_key(text)? else { return Err(NOT_PKCS8) };
                // Keys of OpenSSL come without their public half.
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
                    .map(|pair| Self::Ed25519(Box::new(pair)))
                    .map_err(|_| "the key is none of Ed25519")
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, &'static str> {
        const FAILED: &str = "signing failed";
        match self {
            Self::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .map_err(|_| FAILED)?;
                Ok(signature)
            }
            Self::Ecdsa(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).map_err(|_| FAILED)?;
                Ok(signature.as_ref().to_vec())
            }
            Self::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

const NOT_PKCS8: &str = "the key must be in PKCS#8 (BEGIN PRIVATE KEY)";

fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, &'static str> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| "the key is no private key in PEM")
}

const fn name(algorithm: JwtAlgorithm) -> &'static str {
    match algorithm {
        JwtAlgorithm::Hs256 => "HS256",
        JwtAlgorithm::Hs384 => "HS384",
        JwtAlgorithm::Hs512 => "HS512",
        JwtAlgorithm::Rs256 => "RS256",
        JwtAlgorithm::Es256 => "ES256",
        JwtAlgorithm::EdDsa => "EdDSA",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, KeyPair as _, UnparsedPublicKey};

    use super::*;
    use crate::Secret;

    fn jwt(algorithm: JwtAlgorithm, key: &str) -> Jwt {
        Jwt {
            algorithm,
            key: Secret::new(key),
            key_id: Some("k1".to_owned()),
            claims: vec![("sub".to_owned(), "app".to_owned())],
            lifetime: Duration::from_mins(1),
            is_signed_per_call: false,
        }
    }

    fn split(token: &str) -> (String, Value, Value, Vec<u8>) {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
        let json = |part: &str| serde_json::from_slice(&decode(part)).unwrap();
        (signed.to_owned(), json(header), json(claims), decode(signature))
    }

    #[test]
    fn a_token_says_who_and_until_when() {
        let token = JwtSigner::new(&jwt(JwtAlgorithm::Hs256, "key")).unwrap().token(1_000, [1; 16]).unwrap();
        let (signed, header, claims, signature) = split(&token);
        assert_eq!(header, json!({"alg": "HS256", "typ": "JWT", "kid": "k1"}));
        assert_eq!(claims, json!({"sub": "app", "iat": 1000, "exp": 1060, "jti": "01".repeat(16)}));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"key");
        hmac::verify(&key, signed.as_bytes(), &signature).unwrap();
    }

    #[test]
    fn key_pairs_sign_what_their_public_half_verifies() {
        let pem = |der: &[u8]| {
            let body = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
        };
        let random = SystemRandom::new();
        let der = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let public = Ed25519KeyPair::from_pkcs8(der.as_ref()).unwrap().public_key().as_ref().to_vec();
        let key = jwt(JwtAlgorithm::EdDsa, &pem(der.as_ref()));
        let (signed, header, _, signature) = split(&JwtSigner::new(&key).unwrap().token(1, [0; 16]).unwrap());
        assert_eq!(header["alg"], "EdDSA");
        UnparsedPublicKey::new(&ED25519, public).verify(signed.as_bytes(), &signature).unwrap();

        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).unwrap();
        let key = jwt(JwtAlgorithm::Es256, &pem(der.as_ref()));
        let (signed, _, _, signature) = split(&JwtSigner::new(&key).unwrap().token(1, [0; 16]).unwrap());
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
        public.verify(signed.as_bytes(), &signature).unwrap();
    }

    #[test]
    fn a_key_that_is_none_is_refused_without_being_shown() {
        let pairs = [JwtAlgorithm::Rs256, JwtAlgorithm::Es256, JwtAlgorithm::EdDsa];
        for algorithm in pairs {
            for key in ["sk-hidden", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"] {
                let problem = JwtSigner::new(&jwt(algorithm, key)).err().unwrap();
                assert!(problem.starts_with("the key"), "{problem}");
            }
        }
    }
}
