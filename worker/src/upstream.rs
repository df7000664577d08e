//! From what the configuration declares of an upstream, and its secret, to what calls it.

use sluice_config::{Auth, ClientAuth, JwtAlgorithm, JwtSigning, Provider, Secret, Streaming, Upstream};
use sluice_provider::{Credential, Dialect, Hmac, Jwt, OAuth2, Timeouts};

/// The upstream as it is called. `secret` is what [`Auth::resolve`] found.
pub fn called_upstream(declared: &Upstream, secret: Option<&Secret>) -> sluice_provider::Upstream {
    let dialect = match declared.provider {
        Provider::DeepSeek => Dialect::DeepSeek,
        Provider::OpenAi => Dialect::OpenAi,
    };
    let mut called =
        sluice_provider::Upstream::new(declared.name.clone(), dialect, declared.base_url.clone());
    called.credential = secret.map_or(Credential::None, |secret| credential(&declared.auth, secret));
    called.timeouts = timeouts(declared);
    called.is_streamed_if_worth_it = declared.stream == Streaming::Auto;
    called.max_idle_connections = declared.max_idle_connections as usize;
    called
}

fn timeouts(declared: &Upstream) -> Timeouts {
    let sluice_config::Timeouts { send, first_byte, first_token, between_tokens, total } = declared.timeouts;
    Timeouts { connect: declared.connect_timeout, send, first_byte, first_token, between_tokens, total }
}

fn credential(auth: &Auth, secret: &Secret) -> Credential {
    let secret = sluice_provider::Secret::new(secret.expose());
    match auth {
        Auth::None => Credential::None,
        Auth::Bearer { .. } => Credential::Bearer(secret),
        Auth::Header { name, .. } => Credential::Header { name: name.clone(), value: secret },
        Auth::Jwt { algorithm, key_id, claims, lifetime, sign, .. } => Credential::Jwt(Jwt {
            algorithm: jwt_algorithm(*algorithm),
            key: secret,
            key_id: key_id.clone(),
            claims: claims.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            lifetime: *lifetime,
            is_signed_per_call: *sign == JwtSigning::Call,
        }),
        Auth::OAuth2 { token_url, client_id, scope, client_auth, .. } => Credential::OAuth2(OAuth2 {
            token_url: token_url.clone(),
            client_id: client_id.clone(),
            client_secret: secret,
            scope: scope.clone(),
            is_secret_in_body: *client_auth == ClientAuth::Body,
        }),
        Auth::Hmac { signature_header, timestamp_header, nonce_header, .. } => Credential::Hmac(Hmac {
            key: secret,
            signature_header: signature_header.clone(),
            timestamp_header: timestamp_header.clone(),
            nonce_header: nonce_header.clone(),
        }),
    }
}

const fn jwt_algorithm(algorithm: JwtAlgorithm) -> sluice_provider::JwtAlgorithm {
    match algorithm {
        JwtAlgorithm::Hs256 => sluice_provider::JwtAlgorithm::Hs256,
        JwtAlgorithm::Hs384 => sluice_provider::JwtAlgorithm::Hs384,
        JwtAlgorithm::Hs512 => sluice_provider::JwtAlgorithm::Hs512,
        JwtAlgorithm::Rs256 => sluice_provider::JwtAlgorithm::Rs256,
        JwtAlgorithm::Es256 => sluice_provider::JwtAlgorithm::Es256,
        JwtAlgorithm::EdDsa => sluice_provider::JwtAlgorithm::EdDsa,
    }
}
