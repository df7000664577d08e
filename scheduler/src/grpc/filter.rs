//! Which jobs a list or a replay is about, checked by the rules that REST has: like a submission, the message becomes
//! the document that REST would have been sent.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;
use sluice_proto::v1::{JobFilter, JobState, ReplayManyRequest};

use super::time;
use crate::{
    InvalidInput,
    input::{MatchRequest, parse_match_request},
};

/// The document. What is `null` counts as absent.
#[derive(Serialize)]
struct Document<'a> {
    filter: Option<FilterDocument<'a>>,
    limit: Option<u64>,
    rate_per_minute: Option<u32>,
    dry_run: bool,
}

#[derive(Serialize)]
struct FilterDocument<'a> {
    state: Option<Cow<'static, str>>,
    queue: Option<&'a str>,
    model: Option<&'a str>,
    error_class: Option<&'a str>,
    tags: &'a BTreeMap<String, String>,
    created_after: Option<String>,
    created_before: Option<String>,
}

/// Checks what a replay of many is about.
pub(super) fn match_request_of(request: &ReplayManyRequest) -> Result<MatchRequest, InvalidInput> {
    let document = Document {
        filter: request.filter.as_ref().map(filter_document).transpose()?,
        limit: request.limit,
        rate_per_minute: request.rate_per_minute,
        dry_run: request.dry_run,
    };
    parse_match_request(&serialised(&document))
}

/// Checks a filter; none means all jobs.
pub(super) fn filter_of(filter: Option<JobFilter>) -> Result<sluice_domain::JobFilter, InvalidInput> {
    let filter = filter.unwrap_or_default();
    let filter = Some(filter_document(&filter)?);
    let document = Document { filter, limit: None, rate_per_minute: None, dry_run: false };
    parse_match_request(&serialised(&document)).map(|request| request.filter)
}

fn serialised(document: &Document<'_>) -> Vec<u8> {
    // Strings and numbers.
    serde_json::to_vec(document).expect("a filter is serialisable")
}

fn filter_document(filter: &JobFilter) -> Result<FilterDocument<'_>, InvalidInput> {
    Ok(FilterDocument {
        state: state(filter.state),
        queue: filter.queue.as_deref(),
        model: filter.model.as_deref(),
        error_class: filter.error_class.as_deref(),
        tags: &filter.tags,
        created_after: time::text_of("/filter/created_after", filter.created_after)?,
        created_before: time::text_of("/filter/created_before", filter.created_before)?,
    })
}

fn state(given: i32) -> Option<Cow<'static, str>> {
    let word = match JobState::try_from(given) {
        Ok(JobState::Unspecified) => return None,
        Ok(JobState::Queued) => "queued",
        Ok(JobState::Running) => "running",
        Ok(JobState::Held) => "held",
        Ok(JobState::Succeeded) => "succeeded",
        Ok(JobState::Failed) => "failed",
        Ok(JobState::Cancelled) => "cancelled",
        Err(_) => return Some(given.to_string().into()),
    };
    Some(word.into())
}

#[cfg(test)]
mod tests {
    use sluice_domain::ErrorClass;
    use sluice_proto::v1::{JobFilter, JobState, ReplayManyRequest};

    use super::{filter_of, match_request_of, state};

    #[test]
    fn every_state_has_the_word_of_the_domain() {
        for known in sluice_domain::JobState::ALL {
            let name = format!("JOB_STATE_{}", known.as_str().to_uppercase());
            let given = JobState::from_str_name(&name).unwrap();
            assert_eq!(state(given.into()).as_deref(), Some(known.as_str()));
        }
    }

    #[test]
    fn filters_are_checked_by_the_rules_of_rest() {
        let filter = JobFilter { error_class: Some("rate_limited".into()), ..JobFilter::default() };
        assert_eq!(filter_of(Some(filter)).unwrap().error_class, Some(ErrorClass::RateLimited));
        assert_eq!(filter_of(None).unwrap(), sluice_domain::JobFilter::default());
        let wrong = JobFilter { state: 9, ..JobFilter::default() };
        assert_eq!(filter_of(Some(wrong)).unwrap_err().pointer.as_deref(), Some("/filter/state"));
        let without = match_request_of(&ReplayManyRequest::default()).map(|_| ()).unwrap_err();
        assert_eq!((without.code, without.pointer.as_deref()), ("missing_field", Some("/filter")));
        let zero = ReplayManyRequest {
            filter: Some(JobFilter::default()),
            limit: Some(0),
            ..ReplayManyRequest::default()
        };
        let zero = match_request_of(&zero).map(|_| ()).unwrap_err();
        assert_eq!(zero.pointer.as_deref(), Some("/limit"));
    }
}
