//! Jobs and filters as clients of REST send them.

use chrono::{DateTime, Utc};
use sluice_domain::{JobFilter, MAX_BODY_BYTES, MAX_MAX_ATTEMPTS, ModelName, NewJob, QueueName, TenantName};

use crate::{
    InputFault, InvalidInput,
    input::{filter_from_pairs, parse_match_request, parse_submission},
};

/// The bytes are a document; as pairs of `name=value` they are a query, too.
pub(crate) fn check(bytes: &[u8]) {
    let now: DateTime<Utc> = "2026-10-12T08:00:00Z".parse().expect("a fixed time");
    let tenant = TenantName::default_tenant();
    match parse_submission(bytes, &tenant, now) {
        Ok(job) => {
            check_job(&job, bytes, now);
            let again = parse_submission(bytes, &tenant, now).expect("it was taken a moment ago");
            assert_ne!(again.id, job.id, "each submit has an id of its own");
            assert_eq!(NewJob { id: job.id, ..again }, job);
        }
        Err(refusal) => check_refusal(&refusal),
    }
    match parse_match_request(bytes) {
        Ok(request) => check_filter(&request.filter),
        Err(refusal) => check_refusal(&refusal),
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        match filter_from_pairs(pairs) {
            Ok(filter) => check_filter(&filter),
            Err(refusal) => assert!(refusal.pointer.is_some() && !refusal.message.is_empty()),
        }
    }
}

/// What is stored of a job. `document` holds its body.
pub(crate) fn check_job(job: &NewJob, document: &[u8], now: DateTime<Utc>) {
    assert!((2..=MAX_BODY_BYTES).contains(&job.body.len()));
    assert!(job.body.starts_with(b"{") && job.body.ends_with(b"}"));
    assert!(document.windows(job.body.len()).any(|part| part == job.body), "the body lost its bytes");
    assert!(!job.queue.is_of_a_run() && !job.model.as_str().is_empty());
    assert!(job.max_attempts.is_none_or(|most| (1..=MAX_MAX_ATTEMPTS).contains(&most)));
    if let Some(deadline) = job.deadline {
        assert!(deadline > now && job.run_at.is_none_or(|run_at| run_at < deadline));
    }
    let texts = [job.model.as_str(), job.queue.as_str(), job.path.as_str()];
    let tags = job.tags.pairs().iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]);
    assert!(texts.into_iter().chain(tags).all(|text| !text.contains('\0')), "Postgres can't store NUL");
}

pub(crate) fn check_refusal(refusal: &InvalidInput) {
    assert!(!refusal.code.is_empty() && !refusal.message.is_empty());
    assert!(refusal.pointer.as_ref().is_none_or(|pointer| pointer.starts_with('/')), "{refusal:?}");
    assert!(refusal.fault == InputFault::Malformed || refusal.pointer.is_some(), "{refusal:?}");
}

fn check_filter(filter: &JobFilter) {
    let tags = filter.tags.pairs().iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]);
    let names = [filter.queue.as_ref().map(QueueName::as_str), filter.model.as_ref().map(ModelName::as_str)];
    assert!(names.into_iter().flatten().chain(tags).all(|text| !text.contains('\0')));
}
