//! Routes: from the model that a job asks for to where it is called.

use serde::Serialize;
use sluice_domain::{ModelName, UpstreamName};

use crate::{
    problem::Problems,
    section::{Field, Section},
};

/// Where jobs that ask for a model are called.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Route {
    /// The model that jobs ask for.
    pub model: ModelName,
    /// Where it is called, the first choice first.
    pub targets: Vec<Target>,
}

/// An upstream, and the model's name there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Target {
    /// The upstream.
    pub upstream: UpstreamName,
    /// The model's name there; the route's own where it says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
}

impl Route {
    /// Reads one item of `routes`.
    pub(crate) fn read(field: &Field<'_>, problems: &mut Problems) -> Option<Self> {
        let section = Section::of(field, &["model", "targets"], problems)?;
        let model = section.require("model", problems).and_then(|f| model_name(&f, problems));
        let targets: Vec<_> = section
            .require("targets", problems)
            .map(|list| {
                let items = list.items(problems);
                if items.is_empty() {
                    list.problem("needs at least one target", problems);
                }
                items.iter().filter_map(|item| Target::read(item, problems)).collect()
            })
            .unwrap_or_default();
        Some(Self { model: model?, targets })
    }
}

impl Target {
    fn read(field: &Field<'_>, problems: &mut Problems) -> Option<Self> {
        let section = Section::of(field, &["upstream", "model"], problems)?;
        let upstream = section.require("upstream", problems);
        let upstream =
            upstream.and_then(|f| f.parsed(|t| UpstreamName::new(t).map_err(|e| e.problem), problems));
        let model = section.get("model").and_then(|f| model_name(&f, problems));
        Some(Self { upstream: upstream?, model })
    }
}

/// A model's name.
pub(crate) fn model_name(field: &Field<'_>, problems: &mut Problems) -> Option<ModelName> {
    field.parsed(|text| ModelName::new(text).map_err(|error| error.problem), problems)
}
