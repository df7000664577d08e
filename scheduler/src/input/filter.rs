//! Which jobs a list or an action on many is about, as clients write it.

use std::{collections::BTreeMap, num::NonZeroU32};

use sluice_domain::{InvalidName, JobFilter, JobState, ModelName, QueueName, Tags};

use super::{Fields, InvalidInput, fields, submission, suggestion};

const KNOWN: [&str; 7] =
    ["state", "queue", "model", "error_class", "tags", "created_after", "created_before"];
const KNOWN_PAIRS: [&str; 7] =
    ["state", "queue", "model", "error_class", "created_after", "created_before", "tag.<key>"];

/// Which jobs an action on many is about.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it describes the JSON, which is read field by field")]
pub(crate) struct ManyRequest {
    /// The jobs that are meant; `{}` means all.
    filter: ManyFilter,
    /// So many at most, the newest first.
    #[schema(minimum = 1)]
    limit: Option<u64>,
    /// For replays: jobs become due one after the other at this rate.
    #[schema(minimum = 1)]
    rate_per_minute: Option<u32>,
    /// Count only.
    #[schema(default = false)]
    dry_run: Option<bool>,
}

/// Jobs to which all of this applies.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it describes the JSON, which is read field by field")]
pub(crate) struct ManyFilter {
    /// In this state.
    state: Option<String>,
    /// In this queue.
    queue: Option<String>,
    /// Asking for this model.
    model: Option<String>,
    /// With this class of error.
    error_class: Option<String>,
    /// With all of these tags.
    tags: Option<BTreeMap<String, String>>,
    /// Submitted at or after this time.
    created_after: Option<chrono::DateTime<chrono::Utc>>,
    /// Submitted before this time.
    created_before: Option<chrono::DateTime<chrono::Utc>>,
}

/// What a client asks to do with many jobs.
pub(crate) struct MatchRequest {
    pub(crate) filter: JobFilter,
    pub(crate) limit: Option<u64>,
    pub(crate) rate_per_minute: Option<NonZeroU32>,
    pub(crate) is_dry_run: bool,
}

/// Reads `{filter, limit?, rate_per_minute?, dry_run?}`. An action on all jobs must say so: `{"filter":{}}`.
pub(crate) fn parse_match_request(document: &[u8]) -> Result<MatchRequest, InvalidInput> {
    let request = Fields::of_document(document, &["filter", "limit", "rate_per_minute", "dry_run"])?;
    let Some(filter) = request.object("filter", &KNOWN)? else {
        let message = "filter is missing; say which jobs are meant, or {} for all";
        return Err(InvalidInput::at("/filter", "missing_field", message));
    };
    let filter = JobFilter {
        state: filter.word("state")?,
        queue: filter.parsed("queue", QueueName::new)?,
        model: filter.parsed("model", ModelName::new)?,
        error_class: filter.word("error_class")?,
        tags: submission::tags(&filter, "tags")?,
        created_after: filter.time("created_after")?,
        created_before: filter.time("created_before")?,
    };
    let rate = request.integer("rate_per_minute", 1..=i64::from(u32::MAX))?;
    Ok(MatchRequest {
        filter,
        limit: request.integer("limit", 1..=i64::MAX)?.map(|limit| limit as u64),
        rate_per_minute: rate.and_then(|rate| NonZeroU32::new(rate as u32)),
        is_dry_run: request.boolean("dry_run")?.unwrap_or(false),
    })
}

/// Reads a filter from names and values, such as a query's (`state=failed`, `tag.k=v`). Empty values count as absent.
pub fn filter_from_pairs<'a>(
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<JobFilter, InvalidInput> {
    let mut filter = JobFilter::default();
    let mut tags = BTreeMap::new();
    for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
        if value.contains('\0') {
            return Err(InvalidInput::value(name, "the value must not hold NUL"));
        }
        let invalid_name = |error: InvalidName| InvalidInput::value(name, error);
        match name {
            "state" => filter.state = Some(word::<JobState>(name, value)?),
            "error_class" => filter.error_class = Some(word(name, value)?),
            "queue" => filter.queue = Some(QueueName::new(value).map_err(invalid_name)?),
            "model" => filter.model = Some(ModelName::new(value).map_err(invalid_name)?),
            "created_after" => filter.created_after = Some(time(name, value)?),
            "created_before" => filter.created_before = Some(time(name, value)?),
            _ => {
                let Some(key) = name.strip_prefix("tag.") else {
                    let message = format!("unknown parameter {name:?}; {}", suggestion(name, &KNOWN_PAIRS));
                    return Err(InvalidInput::at(name, "unknown_parameter", message));
                };
                tags.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    filter.tags = Tags::new(tags).map_err(|error| InvalidInput::value("tag", error))?;
    Ok(filter)
}

fn word<T: std::str::FromStr<Err = sluice_domain::UnknownWord>>(
    name: &str,
    value: &str,
) -> Result<T, InvalidInput> {
    value.parse().map_err(|error| InvalidInput::value(name, error))
}

fn time(name: &str, value: &str) -> Result<chrono::DateTime<chrono::Utc>, InvalidInput> {
    // A plus sign in a query stands for a space; in a time it can only have been a plus.
    fields::time(&value.replace(' ', "+"))
        .ok_or_else(|| InvalidInput::value(name, format!("{name} {}", fields::TIME_RULE)))
}
