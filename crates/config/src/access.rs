//! Who may come in beside those with API keys: holders of tokens that somebody else signs, and senders of requests that
//! are signed themselves. Secrets and keys are references; what is verified with them is the schedulers' business.

use serde::{Serialize, Serializer};
use sluice_domain::{InvalidNetwork, Network, Scope, Scopes, TenantName};

use crate::{
    check::Item,
    problem::Problems,
    secret::SecretRef,
    section::{Field, Section},
};

/// Who may come in.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Access {
    /// Whose tokens count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jwt: Vec<TokenIssuer>,
    /// Whose signatures count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signed: Vec<RequestSigner>,
    /// Proxies that say in `X-Forwarded-For` where a request comes from.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "texts")]
    pub trusted_proxies: Vec<Network>,
}

/// How a token is signed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256, by a secret that both know.
    #[serde(rename = "HS256")]
    Hs256,
    /// RSA (PKCS #1 v1.5) with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl TokenAlgorithm {
    /// The words of RFC 7518 and RFC 8037.
    pub const WORDS: [(&str, Self); 3] =
        [("HS256", Self::Hs256), ("RS256", Self::Rs256), ("EdDSA", Self::EdDsa)];
}

/// Somebody whose tokens (JWT) count.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TokenIssuer {
    /// The claim `iss` of its tokens.
    pub issuer: String,
    /// What must be among the claim `aud`.
    pub audience: String,
    /// How tokens may be signed.
    pub algorithms: Vec<TokenAlgorithm>,
    /// The keys, a JSON Web Key Set: a file on the schedulers' hosts, or an environment variable.
    pub jwks: SecretRef,
    /// The tenant of all its tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// The claim that names the tenant, where it is not the same for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_claim: Option<String>,
    /// What all its tokens may do.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "words_of_some")]
    pub scopes: Option<Scopes>,
    /// The claim that says what a token may do, where it is not the same for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope_claim: Option<String>,
}

/// Somebody whose signed requests count.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RequestSigner {
    /// What it calls itself.
    pub id: String,
    /// The secret that both know.
    pub secret: SecretRef,
    /// Its tenant.
    pub tenant: TenantName,
    /// What it may do.
    #[serde(serialize_with = "words")]
    pub scopes: Scopes,
}

impl Access {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.names_nobody() && self.trusted_proxies.is_empty()
    }

    /// Whether nobody is named who may come in.
    pub fn names_nobody(&self) -> bool {
        self.jwt.is_empty() && self.signed.is_empty()
    }

    /// Reads `access`.
    pub(crate) fn read(field: &Field<'_>, problems: &mut Problems) -> Self {
        let Some(section) = Section::of(field, &["jwt", "signed", "trusted_proxies"], problems) else {
            return Self::default();
        };
        let jwt = read_items(&section, "jwt", TokenIssuer::read, problems);
        let signed = read_items(&section, "signed", RequestSigner::read, problems);
        crate::check::unique("access.jwt", &jwt, |issuer| format!("issuer {:?}", issuer.issuer), problems);
        crate::check::unique("access.signed", &signed, |signer| format!("signer {:?}", signer.id), problems);
        Self {
            jwt: jwt.into_iter().map(|(_, _, issuer)| issuer).collect(),
            signed: signed.into_iter().map(|(_, _, signer)| signer).collect(),
            trusted_proxies: read_networks(&section, "trusted_proxies", problems),
        }
    }
}

pub(crate) fn read_items<T>(
    section: &Section<'_>,
    key: &str,
    read: impl Fn(&Field<'_>, &mut Problems) -> Option<T>,
    problems: &mut Problems,
) -> Vec<Item<T>> {
    let fields = section.items(key, problems);
    let items = fields.iter().enumerate();
    items.filter_map(|(index, f)| Some((index, f.node.referenced, read(f, problems)?))).collect()
}

impl TokenIssuer {
    const KEYS: [&str; 8] =
        ["issuer", "audience", "algorithms", "jwks", "tenant", "tenant_claim", "scopes", "scope_claim"];

    fn read(field: &Field<'_>, problems: &mut Problems) -> Option<Self> {
        let section = Section::of(field, &Self::KEYS, problems)?;
        let issuer = section.require("issuer", problems).and_then(|f| f.parsed(short_text, problems));
        let audience = section.require("audience", problems).and_then(|f| f.parsed(short_text, problems));
        let jwks = section.require("jwks", problems).and_then(|f| f.secret(problems));
        let mut algorithms: Vec<_> = section
            .items("algorithms", problems)
            .iter()
            .filter_map(|f| f.word(&TokenAlgorithm::WORDS, problems))
            .collect();
        if section.get("algorithms").is_none() {
            section.problem("algorithms is missing; known are HS256, RS256, EdDSA", problems);
        }
        algorithms.sort_unstable();
        algorithms.dedup();
        let tenant = section.get("tenant").and_then(|f| tenant_name(&f, problems));
        let tenant_claim = section.get("tenant_claim").and_then(|f| f.parsed(short_text, problems));
        let scopes = section.get("scopes").and_then(|f| read_scopes(&f, problems));
        let scope_claim = section.get("scope_claim").and_then(|f| f.parsed(short_text, problems));
        if section.get("tenant").is_some() == section.get("tenant_claim").is_some() {
            section.problem("give either tenant or tenant_claim", problems);
        }
        if section.get("scopes").is_some() == section.get("scope_claim").is_some() {
            section.problem("give either scopes or scope_claim", problems);
        }
        Some(Self {
            issuer: issuer?,
            audience: audience?,
            algorithms,
            jwks: jwks?,
            tenant,
            tenant_claim,
            scopes,
            scope_claim,
        })
    }
}

impl RequestSigner {
    fn read(field: &Field<'_>, problems: &mut Problems) -> Option<Self> {
        let section = Section::of(field, &["id", "secret", "tenant", "scopes"], problems)?;
        let id = section.require("id", problems).and_then(|f| f.parsed(signer_id, problems));
        let secret = section.require("secret", problems).and_then(|f| f.secret(problems));
        let tenant = section.require("tenant", problems).and_then(|f| tenant_name(&f, problems));
        let scopes = section.require("scopes", problems).and_then(|f| read_scopes(&f, problems));
        Some(Self { id: id?, secret: secret?, tenant: tenant?, scopes: scopes? })
    }
}

/// A list of addresses and ranges.
pub(crate) fn read_networks(section: &Section<'_>, key: &str, problems: &mut Problems) -> Vec<Network> {
    let network = |text: &str| text.parse().map_err(|error: InvalidNetwork| error.to_string());
    let fields = section.items(key, problems);
    fields.iter().filter_map(|field| field.parsed(network, problems)).collect()
}

/// Writes addresses and ranges.
pub(crate) fn texts<S: Serializer>(networks: &[Network], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(networks.iter().map(ToString::to_string))
}

pub(crate) fn tenant_name(field: &Field<'_>, problems: &mut Problems) -> Option<TenantName> {
    field.parsed(|text| TenantName::new(text).map_err(|error| error.problem), problems)
}

fn read_scopes(field: &Field<'_>, problems: &mut Problems) -> Option<Scopes> {
    let known = Scope::ALL.map(|scope| (scope.as_str(), scope));
    let scopes: Scopes = field.items(problems).iter().filter_map(|f| f.word(&known, problems)).collect();
    if scopes.is_empty() {
        field.problem("holds no scope; known are submit, read, cancel, replay, admin", problems);
        return None;
    }
    Some(scopes)
}

fn short_text(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 512 || text.chars().any(char::is_control) {
        return Err("must have 1 to 512 bytes without control characters".to_owned());
    }
    Ok(text.to_owned())
}

fn signer_id(text: &str) -> Result<String, String> {
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if text.is_empty() || text.len() > 64 || !is_plain {
        return Err("must have 1 to 64 letters, digits, '-', '_' or '.'".to_owned());
    }
    Ok(text.to_owned())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "this is how serde calls it")]
fn words<S: Serializer>(scopes: &Scopes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(scopes.iter().map(Scope::as_str))
}

#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "this is how serde calls it")]
fn words_of_some<S: Serializer>(scopes: &Option<Scopes>, serializer: S) -> Result<S::Ok, S::Error> {
    words(&scopes.unwrap_or_default(), serializer)
}
