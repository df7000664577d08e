//! Tokens of all algorithms, and everything that is wrong with a token.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use ring::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};
use sluice_config::{Configuration, TokenIssuer};
use sluice_domain::{Scope, Scopes};

use super::{BadToken, Issuer, TokenSays, looks_like_token, read_token};
use crate::access::jwks::read_keys;

const SECRET: &[u8] = b"a secret of thirty-two bytes, or more";
/// The public half of a key whose private half was thrown away when the token below was signed with it.
const RSA_MODULUS: &str = "v0Se3O42O-UwPlKbZXZg76EDCRZe-begI2CXdNjWGxaLLsu6XVixfXsjCfSSFepeIFNQvTRJlidh6vlGx46kGxyS6xWEJTdd\
    UM_coq4KjvrtGQVGGQNPeis9C7vbDkmJ2KReBay5JaOJlxLgGPgoR-PNKKB5fdp5JAGpWYshTU31GNSp73pbx_lKF7DfmVPZ\
    yX2Ab14pdsbYlxfBbk2vDuJITLGS2lbecSAL5fwMfiMGvK5_7lkXDNmLckLT-0qsx-A1VbPULPuc0xad_jfNmIAbhBS1_Y3l\
    TYBn127kfPlPndpl_LrZoPvOCI3uNxzk-p1qkte_9HpP8SlsQHbh0Q";
const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYS0xIiwidHlwIjoiSldUIn0.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUi\
    LCJhdWQiOlsib3RoZXIiLCJzbHVpY2UiXSwiZXhwIjo0MTAyNDQ0ODAwLCJ0ZW5hbnQiOiJzZWFyY2giLCJzY29wZSI6Im9w\
    ZW5pZCBzdWJtaXQgcmVhZCJ9.YV0Eeql03zQwJLDJwNnph-CB19-YEMZsn0flkZwJHyZD1J8RBFVwsO-FTISxCKN4_V3x8bD\
    GsNDhV_LtYHdlbbeIeUVby4u1blzuKPv3EjiRClyPqrbz484B9jXgTRUSIPk3VRa_m25mTPPqkQ0s64rqytR3lj9gt8cgFv_\
    zehgbvCEJkzV7ao3CdJDOrvczMxf6SlSNYdWa7ihxUZRF0nVcNmVTrsArvcUG4d9C8ogrdbaUEm8mKoKDqCKls1BMC2oLCvA\
    kwaouhHTpSSsPYzuLloKJTFlYrTu0Q0Bf5obyZ7ol5MHnenJjDPiXrYssUl0irjWozEHCL6nbmsYz7A";

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn rules(more: &str) -> TokenIssuer {
    let text = format!(
        "upstreams: [{{name: a, provider: openai, base_url: 'http://a'}}]\naccess:\n  jwt:\n    - {{issuer: \
         'https://login.example', audience: sluice, jwks: 'file:/keys', {more}}}\n"
    );
    Configuration::parse(&text).unwrap_or_else(|errors| panic!("{errors}")).access.jwt.remove(0)
}

fn key_pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn issuer(more: &str) -> Issuer {
    let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let keys = json!({"keys": [
        {"kty": "oct", "kid": "hmac-1", "k": encoded(SECRET)},
        {"kty": "RSA", "kid": "rsa-1", "n": RSA_MODULUS, "e": "AQAB", "alg": "RS256", "use": "sig"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed-1", "x": encoded(key_pair().public_key().as_ref())},
        {"kty": "RSA", "use": "enc", "n": "AA", "e": "AQAB"},
    ]});
    Issuer { rules: rules(more), keys: read_keys(&keys.to_string()).unwrap() }
}

const BY_CLAIMS: &str = "algorithms: [HS256, RS256, EdDSA], tenant_claim: tenant, scope_claim: scope";

fn claims() -> Value {
    json!({"iss": "https://login.example", "aud": "sluice", "exp": now().timestamp() + 60, "tenant": "search",
           "scope": "openid submit read"})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn signed(head: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(head), part(claims));
    let signature = if head["alg"] == "EdDSA" {
        key_pair().sign(message.as_bytes()).as_ref().to_vec()
    } else {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
        hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
    };
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn by_hmac(claims: &Value) -> String {
    signed(&json!({"alg": "HS256"}), claims)
}

fn read(token: &str) -> Result<TokenSays, BadToken> {
    read_token(token, &[issuer(BY_CLAIMS)], now())
}

fn submit_and_read() -> Scopes {
    [Scope::Submit, Scope::Read].into_iter().collect()
}

#[test]
fn tokens_of_each_algorithm_are_read() {
    let by_ed = signed(&json!({"alg": "EdDSA", "kid": "ed-1"}), &claims());
    for token in [by_hmac(&claims()), by_ed, RSA_TOKEN.to_owned()] {
        assert!(looks_like_token(&token));
        let says = read(&token).unwrap();
        assert_eq!((says.tenant.as_str(), says.scopes), ("search", submit_and_read()), "{token}");
        assert!(says.remaining_s >= 60);
    }
}

#[test]
fn tenant_and_scopes_may_be_the_same_for_all_tokens_of_an_issuer() {
    let fixed = issuer("algorithms: [HS256], tenant: fixed, scopes: [cancel]");
    let says = read_token(&by_hmac(&with("scope", json!("admin"))), &[fixed], now()).unwrap();
    assert_eq!((says.tenant.as_str(), says.scopes), ("fixed", [Scope::Cancel].into_iter().collect()));
    let listed = read(&by_hmac(&with("scope", json!(["submit", "read", 7, "other"])))).unwrap();
    assert_eq!(listed.scopes, submit_and_read());
}

#[test]
fn what_is_wrong_with_a_token_keeps_it_out() {
    let seconds = |more: i64| json!((now() + TimeDelta::seconds(more)).timestamp());
    let without = |name: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let table = [
        (with("exp", seconds(-31)), BadToken::Expired),
        (with("exp", json!("tomorrow")), BadToken::Expired),
        (without("exp"), BadToken::Expired),
        (with("nbf", seconds(31)), BadToken::TooEarly),
        (with("nbf", json!("now")), BadToken::TooEarly),
        (with("aud", json!("other")), BadToken::Audience),
        (with("aud", json!(["other"])), BadToken::Audience),
        (without("aud"), BadToken::Audience),
        (with("iss", json!("https://evil.example")), BadToken::Issuer),
        (without("iss"), BadToken::Issuer),
        (without("tenant"), BadToken::Tenant),
        (with("tenant", json!("two words")), BadToken::Tenant),
        (without("scope"), BadToken::Scopes),
        (with("scope", json!("openid")), BadToken::Scopes),
    ];
    for (claims, expected) in table {
        assert_eq!(read(&by_hmac(&claims)), Err(expected), "{claims}");
    }
    for good in [with("exp", seconds(-29)), with("nbf", seconds(29)), with("exp", json!(1e300))] {
        assert!(read(&by_hmac(&good)).is_ok(), "{good}");
    }
}

#[test]
fn no_token_chooses_how_it_is_verified() {
    let unsigned = signed(&json!({"alg": "none"}), &claims());
    assert_eq!(read(&unsigned), Err(BadToken::Algorithm));
    let (message, _) = unsigned.rsplit_once('.').unwrap();
    assert_eq!(read(&format!("{message}.")), Err(BadToken::Algorithm));
    for algorithm in ["hs256", "HS512", "ES256", ""] {
        assert_eq!(read(&signed(&json!({"alg": algorithm}), &claims())), Err(BadToken::Algorithm));
    }
    // A key is for one algorithm: the public half of an RSA key is no secret.
    assert_eq!(read(&signed(&json!({"alg": "RS256"}), &claims())), Err(BadToken::Signature));
    assert_eq!(read(&signed(&json!({"alg": "HS256", "kid": "rsa-1"}), &claims())), Err(BadToken::Signature));
    // An issuer's tokens are signed in the ways that were configured.
    let only_ed = issuer("algorithms: [EdDSA], tenant_claim: tenant, scope_claim: scope");
    assert_eq!(read_token(&by_hmac(&claims()), &[only_ed], now()), Err(BadToken::Algorithm));
    assert_eq!(read(&signed(&json!({"alg": "HS256", "crit": ["b64"]}), &claims())), Err(BadToken::Malformed));
}

#[test]
fn a_token_that_was_changed_is_refused() {
    let token = by_hmac(&claims());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (head, _) = message.split_once('.').unwrap();
    let other = URL_SAFE_NO_PAD.encode(with("tenant", json!("other")).to_string());
    assert_eq!(read(&format!("{head}.{other}.{signature}")), Err(BadToken::Signature));
    let cut = format!("{message}.{}", &signature[1..]);
    for broken in [&cut, "", "..", "a.b.c", "e30.e30.e30", &"x".repeat(20_000)] {
        assert!(read(broken).is_err(), "{broken}");
    }
}
