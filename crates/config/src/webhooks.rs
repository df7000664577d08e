//! How ends of jobs are told: by which secrets they are signed, and which addresses beside public ones may be called.
//! Secrets are references; what is done with them is the schedulers' business.

use serde::Serialize;
use sluice_domain::{Network, TenantName};

use crate::{
    access::{read_items, read_networks, tenant_name, texts},
    problem::Problems,
    secret::SecretRef,
    section::{Field, Section},
};

/// How ends of jobs are told.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Webhooks {
    /// A secret for each tenant that uses webhooks. Tenants without one have none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<WebhookSecret>,
    /// Addresses and ranges that may be called although they are not public, also by `http`.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "texts")]
    pub allow_addresses: Vec<Network>,
}

/// By what the webhooks of a tenant are signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WebhookSecret {
    /// Whose.
    pub tenant: TenantName,
    /// `whsec_…`.
    pub secret: SecretRef,
    /// The one before, which signs beside it while receivers change over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<SecretRef>,
}

impl Webhooks {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.allow_addresses.is_empty()
    }

    /// By what a tenant's webhooks are signed.
    pub fn secret_of(&self, tenant: &TenantName) -> Option<&WebhookSecret> {
        self.secrets.iter().find(|secret| secret.tenant == *tenant)
    }

    /// Reads `webhooks`.
    pub(crate) fn read(field: &Field<'_>, problems: &mut Problems) -> Self {
        let Some(section) = Section::of(field, &["secrets", "allow_addresses"], problems) else {
            return Self::default();
        };
        let secrets = read_items(&section, "secrets", WebhookSecret::read, problems);
        let whose = |secret: &WebhookSecret| format!("the secret of tenant {:?}", secret.tenant.as_str());
        crate::check::unique("webhooks.secrets", &secrets, whose, problems);
        Self {
            secrets: secrets.into_iter().map(|(_, _, secret)| secret).collect(),
            allow_addresses: read_networks(&section, "allow_addresses", problems),
        }
    }
}

impl WebhookSecret {
    fn read(field: &Field<'_>, problems: &mut Problems) -> Option<Self> {
        let section = Section::of(field, &["tenant", "secret", "previous"], problems)?;
        let tenant = match section.get("tenant") {
            Some(field) => tenant_name(&field, problems)?,
            None => TenantName::default_tenant(),
        };
        let secret = section.require("secret", problems).and_then(|f| f.secret(problems))?;
        let previous = section.get("previous").and_then(|f| f.secret(problems));
        Some(Self { tenant, secret, previous })
    }
}
