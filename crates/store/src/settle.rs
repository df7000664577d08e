//! Settling attempts: outcome, result, usage, cost and next state in one fenced statement.

use std::{collections::HashSet, time::Duration};

use sluice_domain::{Decision, Outcome, SettleVerdict, Settlement, StoredAnswer, UpstreamUse, Usage};
use uuid::Uuid;

use crate::{CrashPoint, Store, StoreError, crash_point};

/// Ten years: what is longer would be no date that the database knows, and one such row would fail its whole group.
const MOST_DELAY_MS: u128 = 10 * 365 * 24 * 3_600_000;

impl Store {
    /// Settles attempts as one group commit. The verdicts stand in the order of the settlements. A settlement whose
    /// lease is no longer its job's current one is refused by the fence and then taken as a late word: see
    /// [`SettleVerdict`].
    pub async fn settle_many(&self, settlements: &[Settlement]) -> Result<Vec<SettleVerdict>, StoreError> {
        let settled = self.settle_if_leased_many(settlements).await?;
        crash_point(CrashPoint::SettledWhatWasLeased);
        let is_settled = |settlement: &Settlement| settled.contains(&settlement.lease_id.as_uuid());
        let late: Vec<&Settlement> =
            settlements.iter().filter(|settlement| !is_settled(settlement)).collect();
        let mut late_verdicts = self.settle_late_many(&late).await?.into_iter();
        let verdicts = settlements.iter().map(|settlement| {
            if is_settled(settlement) { Some(SettleVerdict::Settled) } else { late_verdicts.next() }
        });
        verdicts
            .collect::<Option<_>>()
            .ok_or_else(|| StoreError::UnknownValue("a settle without answer".to_owned()))
    }

    async fn settle_if_leased_many(&self, settlements: &[Settlement]) -> Result<HashSet<Uuid>, StoreError> {
        if settlements.is_empty() {
            return Ok(HashSet::new());
        }
        // In id order, so that two statements that touch the same rows wait for each other one way round only.
        let mut rows: Vec<&Settlement> = settlements.iter().collect();
        rows.sort_unstable_by_key(|settlement| settlement.job_id);
        let rows = rows.as_slice();
        let leases = sqlx::query_scalar!(
            r#"-- attempt_settle_if_leased_many
            SELECT lease_id AS "lease_id!"
            FROM sluice.settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
                               $20, $21, $22, $23, $24, $25, $26, $27)"#,
            &column(rows, |s| s.job_id.as_uuid()),
            &column(rows, |s| s.lease_id.as_uuid()),
            &column(rows, |s| s.outcome.as_str()) as _,
            &column(rows, |s| next_state(&s.decision)) as _,
            &column(rows, |s| delay_ms(&s.decision)),
            &column(rows, |s| spent_try(s)),
            &column(rows, |s| i16::from(matches!(s.decision, Decision::Requeue { is_refusal: true, .. }))),
            &column(rows, |s| hold_reason(&s.decision)) as _,
            &column(rows, |s| s.error.as_ref().map(|(class, _)| class.as_str())) as _,
            &column(rows, |s| s.error.as_ref().map(|(_, message)| storable(message))) as _,
            &column(rows, |s| matches!(s.decision, Decision::Fail { is_retryable: true })),
            &column(rows, |s| status(s.answer.as_ref())) as _,
            &column(rows, |s| s.answer.as_ref().map(|answer| answer.body.as_slice())) as _,
            &column(rows, |s| s.answer.as_ref().is_some_and(|answer| answer.is_truncated)),
            &column(rows, |s| s.answer.as_ref().is_some_and(|answer| answer.is_assembled)),
            &column(rows, |s| tokens(s.usage.as_ref(), |u| u.input_tokens)) as _,
            &column(rows, |s| tokens(s.usage.as_ref(), |u| u.cached_input_tokens)) as _,
            &column(rows, |s| tokens(s.usage.as_ref(), |u| u.output_tokens)) as _,
            &column(rows, |s| tokens(s.usage.as_ref(), |u| u.reasoning_tokens)) as _,
            &column(rows, |s| s.cost.0.max(0)),
            &column(rows, |s| s.call.as_ref().map(|call| call.call_id.as_uuid())) as _,
            &column(rows, |s| call_text(s, |call| Some(&call.upstream))) as _,
            &column(rows, |s| call_text(s, |call| Some(&call.model))) as _,
            &column(rows, |s| call_text(s, |call| call.answered_model.as_ref())) as _,
            &column(rows, |s| call_text(s, |call| call.request_id.as_ref())) as _,
            &column(rows, |s| s.call_duration.map(millis)) as _,
            &column(rows, |s| s.time_to_first_byte.map(millis)) as _,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(leases.into_iter().collect())
    }

    /// The verdicts stand in the order of the settlements. All are taken, or on an error none.
    async fn settle_late_many(&self, late: &[&Settlement]) -> Result<Vec<SettleVerdict>, StoreError> {
        if late.is_empty() {
            return Ok(Vec::new());
        }
        let words = sqlx::query_scalar!(
            r#"-- attempt_settle_late_many
            SELECT l.verdict AS "verdict!"
            FROM sluice.settle_late_many($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                                         $19, $20, $21, $22) l
            ORDER BY l.ordinal"#,
            self.identity.database(),
            &column(late, |s| s.incarnation_id.as_uuid()),
            &column(late, |s| s.job_id.as_uuid()),
            &column(late, |s| s.lease_id.as_uuid()),
            &column(late, |s| s.generation as i32),
            &column(late, |s| s.lease_no as i32),
            &column(late, |s| s.outcome.as_str()) as _,
            &column(late, |s| status(s.answer.as_ref())) as _,
            &column(late, |s| s.answer.as_ref().map(|answer| answer.body.as_slice())) as _,
            &column(late, |s| s.answer.as_ref().is_some_and(|answer| answer.is_truncated)),
            &column(late, |s| s.answer.as_ref().is_some_and(|answer| answer.is_assembled)),
            &column(late, |s| tokens(s.usage.as_ref(), |u| u.input_tokens)) as _,
            &column(late, |s| tokens(s.usage.as_ref(), |u| u.cached_input_tokens)) as _,
            &column(late, |s| tokens(s.usage.as_ref(), |u| u.output_tokens)) as _,
            &column(late, |s| tokens(s.usage.as_ref(), |u| u.reasoning_tokens)) as _,
            &column(late, |s| s.cost.0.max(0)),
            &column(late, |s| s.call.as_ref().map(|call| call.call_id.as_uuid())) as _,
            &column(late, |s| call_text(s, |call| Some(&call.upstream))) as _,
            &column(late, |s| call_text(s, |call| Some(&call.model))) as _,
            &column(late, |s| call_text(s, |call| call.answered_model.as_ref())) as _,
            &column(late, |s| call_text(s, |call| call.request_id.as_ref())) as _,
            &column(late, |s| s.call_duration.map(millis)) as _,
        )
        .fetch_all(&self.pool)
        .await;
        let words = words.map_err(StoreError::from).inspect_err(|error| {
            if matches!(error, StoreError::OtherDatabase) {
                // The statement compared for us; nobody there said who they are.
                let _ = self.identity.compare(None);
            }
        })?;
        crash_point(CrashPoint::SettledLate);
        words.iter().map(|word| verdict_of(word)).collect()
    }
}

fn verdict_of(word: &str) -> Result<SettleVerdict, StoreError> {
    match word {
        "settled" => Ok(SettleVerdict::LetGo),
        "already_settled" => Ok(SettleVerdict::AlreadySettled),
        "late_accepted" => Ok(SettleVerdict::LateAccepted),
        "late_kept" => Ok(SettleVerdict::LateKept),
        "stale" => Ok(SettleVerdict::Stale),
        other => Err(StoreError::UnknownValue(format!("settle verdict {other}"))),
    }
}

fn column<'a, T>(rows: &[&'a Settlement], value: impl Fn(&'a Settlement) -> T) -> Vec<T> {
    rows.iter().map(|settlement| value(settlement)).collect()
}

fn next_state(decision: &Decision) -> &'static str {
    match decision {
        Decision::Succeed => "succeeded",
        Decision::Fail { .. } => "failed",
        Decision::Requeue { .. } => "queued",
        Decision::Hold(_) => "held",
    }
}

fn delay_ms(decision: &Decision) -> i64 {
    match decision {
        Decision::Requeue { delay, .. } => delay.as_millis().min(MOST_DELAY_MS) as i64,
        _ => 0,
    }
}

/// An end and an unknown outcome spend a try; a requeue says whether it does; a crash is counted as such instead.
fn spent_try(settlement: &Settlement) -> i16 {
    match settlement.decision {
        _ if settlement.outcome == Outcome::Lost => 0,
        Decision::Succeed | Decision::Fail { .. } | Decision::Hold(_) => 1,
        Decision::Requeue { spends_try, .. } => i16::from(spends_try),
    }
}

fn hold_reason(decision: &Decision) -> Option<&'static str> {
    match decision {
        Decision::Hold(reason) => Some(reason.as_str()),
        _ => None,
    }
}

fn status(answer: Option<&StoredAnswer>) -> Option<i16> {
    answer.map(|answer| answer.status_code as i16)
}

fn tokens(usage: Option<&Usage>, part: impl Fn(&Usage) -> u64) -> Option<i32> {
    usage.map(|usage| i32::try_from(part(usage)).unwrap_or(i32::MAX))
}

fn call_text<'a>(
    settlement: &'a Settlement,
    part: impl Fn(&'a UpstreamUse) -> Option<&'a String>,
) -> Option<String> {
    settlement.call.as_ref().and_then(part).map(|text| storable(text))
}

/// Text columns refuse NUL, and a provider may put one anywhere.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
