//! A worker's part, played by hand over the store: for races that a real worker would lose itself in.

use anyhow::{Context, Result};
use sluice_domain::{
    CallId, Decision, DeclaredLimit, ErrorClass, IncarnationId, LeasedJob, LimitKind, LimitSubject, NanoUsd,
    Outcome, PairFloors, Settlement, StoredAnswer, UpstreamUse, Usage,
};
use sluice_store::{Grant, LimitedGrant, NewIncarnation, Store};

/// Begins an incarnation that nobody beats for.
pub async fn begin_incarnation(store: &Store) -> Result<IncarnationId> {
    let id = IncarnationId::generate();
    let new = NewIncarnation {
        id,
        worker: "by hand".to_owned(),
        host: "nowhere".to_owned(),
        lock_path: None,
        pid: 1,
        version: "0".to_owned(),
        isolates_suspects: false,
    };
    store.incarnation_start(&new).await?;
    Ok(id)
}

/// Grants of so many jobs of each pair that has work now.
pub async fn grants(store: &Store, limit: u32) -> Result<Vec<Grant>> {
    let board = store.board(None, None).await?;
    let open = board.into_iter().filter(|entry| entry.age.is_some());
    Ok(open
        .map(|entry| Grant {
            lane_id: entry.lane_id,
            priority: entry.priority,
            limit,
            floors: PairFloors::default(),
        })
        .collect())
}

/// Leases so many jobs at most.
pub async fn lease(store: &Store, incarnation: IncarnationId, limit: u32) -> Result<Vec<LeasedJob>> {
    Ok(store.lease_many(incarnation, &grants(store, limit).await?, limit).await?)
}

/// A limit that never binds.
pub fn a_limit() -> DeclaredLimit {
    let subject = LimitSubject::Account { account: "by hand".to_owned(), model: None };
    DeclaredLimit { subject, kind: LimitKind::Tokens, window_s: 60, cap: 1_000_000_000, floor: None }
}

/// Leases so many jobs at most, which take of [`a_limit`].
pub async fn lease_limited(store: &Store, incarnation: IncarnationId, limit: u32) -> Result<Vec<LeasedJob>> {
    let declared = a_limit();
    store.limits_declare(std::slice::from_ref(&declared)).await?;
    let limited = |grant| LimitedGrant { grant, limits: [declared.id()].into() };
    let grants: Vec<_> = grants(store, limit).await?.into_iter().map(limited).collect();
    Ok(store.lease_limited_many(incarnation, &grants, limit).await?.jobs)
}

/// Leases one job.
pub async fn lease_one(store: &Store, incarnation: IncarnationId) -> Result<LeasedJob> {
    lease(store, incarnation, 1).await?.pop().context("find a job to lease")
}

/// What a worker settles whose call was answered with `body`.
pub fn success(incarnation: IncarnationId, leased: &LeasedJob, body: &[u8]) -> Settlement {
    Settlement {
        outcome: Outcome::Succeeded,
        decision: Decision::Succeed,
        error: None,
        answer: Some(StoredAnswer {
            status_code: 200,
            body: body.to_vec(),
            is_truncated: false,
            is_assembled: false,
        }),
        usage: Some(Usage { input_tokens: 7, cached_input_tokens: 2, output_tokens: 5, reasoning_tokens: 1 }),
        ..without_answer(incarnation, leased, Outcome::Succeeded, Decision::Succeed)
    }
}

/// What a worker settles that has no answer to show.
pub fn without_answer(
    incarnation: IncarnationId,
    leased: &LeasedJob,
    outcome: Outcome,
    decision: Decision,
) -> Settlement {
    Settlement {
        job_id: leased.job_id,
        lease_id: leased.lease_id,
        incarnation_id: incarnation,
        generation: leased.generation,
        lease_no: leased.lease_no,
        outcome,
        decision,
        error: Some((ErrorClass::ServerError, "the upstream answered 500".to_owned())),
        answer: None,
        usage: None,
        cost: NanoUsd(1_234),
        call: Some(UpstreamUse {
            call_id: CallId::generate(),
            upstream: "by-hand".to_owned(),
            model: leased.model.to_string(),
            answered_model: None,
            request_id: None,
        }),
        call_duration: None,
        time_to_first_byte: None,
    }
}
