//! Tenants, as far as their shares are said.

use serde::Serialize;
use sluice_domain::TenantName;

use crate::{
    problem::Problems,
    section::{Field, Section},
};

/// A tenant whose share is said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Tenant {
    /// Its name.
    pub name: TenantName,
    /// Its share among the tenants that have work.
    pub weight: u16,
}

impl Tenant {
    /// Reads one item of `tenants`.
    pub(crate) fn read(field: &Field<'_>, problems: &mut Problems) -> Option<Self> {
        let section = Section::of(field, &["name", "weight"], problems)?;
        let name = section.require("name", problems);
        let name = name.and_then(|f| f.parsed(|text| TenantName::new(text).map_err(|e| e.problem), problems));
        let weight = section.get("weight").and_then(|f| f.integer(1..=1000, problems)).unwrap_or(1);
        Some(Self { name: name?, weight: weight as u16 })
    }
}
