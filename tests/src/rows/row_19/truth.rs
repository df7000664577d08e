//! Holds what contenders were told against what the database says.

use std::{collections::BTreeMap, fmt};

use anyhow::{Result, bail};
use sluice_domain::{JobState, LeaseId, Outcome, SettleVerdict};
use sluice_store::{CancelOutcome, ReleaseOutcome, ReplayOutcome};

use super::{
    Race,
    contender::{ANSWER, Contender, Told},
    facts::Facts,
};

/// What all races together told.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Races.
    pub races: u64,
    /// Answers that came late and were kept.
    pub late_kept: u64,
    words: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts a race.
    pub fn note(&mut self, told: &[Told]) {
        self.races += 1;
        for told in told {
            let word = match told {
                Told::Leased(leased) => format!("leased {}", u8::from(leased.is_some())),
                Told::Settled(_, verdict) => format!("settle {verdict:?}"),
                Told::Cancel(outcome) => format!("cancel {outcome:?}"),
                other => format!("{other:?}"),
            };
            self.late_kept += u64::from(matches!(told, Told::Settled(_, SettleVerdict::LateKept)));
            *self.words.entry(word).or_default() += 1;
        }
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.races += other.races;
        self.late_kept += other.late_kept;
        for (word, count) in &other.words {
            *self.words.entry(word.clone()).or_default() += count;
        }
    }

    /// Races in which nobody ever lost would prove nothing.
    pub fn has_seen_everything(&self) -> Result<()> {
        let expected = [
            "cancel Cancelled",
            "cancel AlreadyEnded(Succeeded)",
            "settle Settled",
            "settle LetGo",
            "settle LateAccepted",
            "settle LateKept",
            "settle AlreadySettled",
            "leased 1",
            "Expired(1)",
            "HandedBack(0)",
            "Replay(Queued)",
            "Replay(NotEnded)",
            "Release(NotHeld)",
        ];
        let missing: Vec<&str> =
            expected.into_iter().filter(|word| !self.words.contains_key(*word)).collect();
        if !missing.is_empty() {
            bail!("{} races never came to {missing:?}: {self}", self.races);
        }
        Ok(())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.words.iter().map(|(word, count)| format!("{word} {count}")).collect();
        f.write_str(&words.join(", "))
    }
}

/// The first thing that is not so.
pub fn lie(race: &Race, before: &Facts, after: &Facts, told: &[Told]) -> Option<String> {
    stands_in_two_places(after)
        .or_else(|| ends_changed(before, after))
        .or_else(|| not_on_ledger(race, after, told))
        .or_else(|| told.iter().find_map(|told| one_lie(race, before, after, told)))
        .or_else(|| winners(race, before, after, told))
}

/// I4: one place, and no generation lives that has ended.
fn stands_in_two_places(after: &Facts) -> Option<String> {
    let newest_end = after.done.last().map_or(0, |done| done.generation);
    let lives = after.places.first().map(|(_, generation)| *generation);
    let is_sound = match (after.places.len(), lives) {
        (0, _) => newest_end > 0,
        (1, Some(generation)) => generation == newest_end + 1,
        _ => false,
    };
    (!is_sound).then(|| "the job does not stand in one place".to_owned())
}

/// I4: an end is immutable.
fn ends_changed(before: &Facts, after: &Facts) -> Option<String> {
    let kept = after.done.get(..before.done.len())?;
    (kept != before.done).then(|| "an end has changed".to_owned())
}

/// Each lease that was handed out is on the ledger once, and ends once at most.
fn not_on_ledger(race: &Race, after: &Facts, told: &[Told]) -> Option<String> {
    let first = race.lease.iter().map(|(_, leased)| leased.lease_id);
    let leases: Vec<LeaseId> =
        first.chain(told.iter().filter_map(Told::leased).map(|leased| leased.lease_id)).collect();
    for lease in &leases {
        let begun = after.begun.iter().filter(|begun| *begun == lease).count();
        let ended = after.ended.iter().filter(|(ended, _)| ended == lease).count();
        if begun != 1 || ended > 1 {
            return Some(format!("lease {lease} began {begun} times and ended {ended} times"));
        }
    }
    None
}

fn one_lie(race: &Race, before: &Facts, after: &Facts, told: &Told) -> Option<String> {
    let is_true = match told {
        Told::Cancel(CancelOutcome::Cancelled | CancelOutcome::AlreadyCancelled) => {
            after.has_ended(JobState::Cancelled)
        }
        Told::Cancel(CancelOutcome::AlreadyEnded(state)) => after.has_ended(*state),
        // It is said to try again, which is true always; the tally shows how often.
        Told::Cancel(CancelOutcome::Busy) | Told::Leased(None) => true,
        Told::Leased(Some(leased)) => {
            // It runs under it, or was cancelled under it.
            after.running_under == Some(leased.lease_id)
                || after.end_by(leased.lease_id).is_some_and(|done| done.state == JobState::Cancelled)
        }
        Told::Settled(word, verdict) => is_settled_so(race, after, *word, *verdict),
        Told::HandedBack(moved) => *moved == 0 || first_outcome(race, after) == Some(Outcome::NotSent),
        Told::Expired(moved) => *moved == 0 || first_outcome(race, after) == Some(Outcome::Lost),
        Told::Replay(ReplayOutcome::Queued) => after.generation() > before.generation(),
        Told::Replay(ReplayOutcome::NotEnded) => {
            // Somebody else was sooner, or it had not ended when the race began.
            after.generation() > before.generation() || !before.places.is_empty()
        }
        Told::Cancel(CancelOutcome::Unknown)
        | Told::Replay(ReplayOutcome::Unknown)
        | Told::Release(ReleaseOutcome::Unknown) => false,
        Told::Release(ReleaseOutcome::Released) => before.places.contains(&(JobState::Held, 1)),
        Told::Release(ReleaseOutcome::NotHeld) => !after.places.contains(&(JobState::Held, 1)),
    };
    (!is_true).then(|| format!("{told:?} is a lie"))
}

fn first_outcome(race: &Race, after: &Facts) -> Option<Outcome> {
    after.outcome(race.lease.as_ref()?.1.lease_id)
}

fn is_settled_so(race: &Race, after: &Facts, word: Contender, verdict: SettleVerdict) -> bool {
    let Some((_, leased)) = &race.lease else { return false };
    let lease = leased.lease_id;
    let is_answer = word == Contender::SettleAnswer;
    let end = after.end_by(lease);
    let kept_late = after.late.iter().any(|(late, body)| *late == lease && body == ANSWER);
    let kept = kept_late
        || end.is_some_and(|done| done.state == JobState::Succeeded && done.body.as_deref() == Some(ANSWER));
    // I7, whatever was told.
    if is_answer && !kept {
        return false;
    }
    let outcome = after.outcome(lease);
    match verdict {
        SettleVerdict::Settled if is_answer => {
            end.is_some_and(|done| done.state == JobState::Succeeded && !done.is_late)
        }
        SettleVerdict::Settled => {
            let own = if word == Contender::SettleHold { Outcome::Unknown } else { Outcome::Retry };
            outcome == Some(own)
        }
        SettleVerdict::LetGo => {
            !is_answer
                && outcome == Some(Outcome::Cancelled)
                && end.is_some_and(|done| done.state == JobState::Cancelled)
        }
        SettleVerdict::LateAccepted => {
            kept_late && end.is_some_and(|done| done.state == JobState::Succeeded && done.is_late)
        }
        SettleVerdict::LateKept => kept_late && end.is_none_or(|done| done.state == JobState::Cancelled),
        SettleVerdict::Stale => !is_answer && outcome == Some(Outcome::Lost),
        SettleVerdict::AlreadySettled => outcome.is_some(),
    }
}

/// One winner each.
fn winners(race: &Race, before: &Facts, after: &Facts, told: &[Told]) -> Option<String> {
    let count = |matches: fn(&Told) -> bool| told.iter().filter(|told| matches(told)).count();
    let cancelled = after.ends(JobState::Cancelled) - before.ends(JobState::Cancelled);
    let by_store = count(|told| matches!(told, Told::Cancel(CancelOutcome::Cancelled)));
    let cancellers = count(|told| matches!(told, Told::Cancel(_)));
    if by_store > cancelled || cancelled > cancellers {
        return Some(format!("{by_store} to {cancellers} were told that they cancelled it; {cancelled} did"));
    }
    let replayed = count(|told| matches!(told, Told::Replay(ReplayOutcome::Queued)));
    let generations = after.generation() - before.generation();
    if replayed as i32 != generations {
        return Some(format!("{replayed} replays were told and {generations} happened"));
    }
    let words = count(|told| matches!(told, Told::Settled(..)));
    let again = count(|told| matches!(told, Told::Settled(_, SettleVerdict::AlreadySettled)));
    let stale = count(|told| matches!(told, Told::Settled(_, SettleVerdict::Stale)));
    if words > 0 && stale == 0 && words - again != 1 {
        return Some(format!("of {words} equal words {again} were said to be repetitions"));
    }
    let expired = count(|told| matches!(told, Told::Expired(moved) if *moved > 0));
    let handed_back = count(|told| matches!(told, Told::HandedBack(moved) if *moved > 0));
    if expired + handed_back > usize::from(race.lease.is_some()) {
        return Some(format!("one lease ended {} times", expired + handed_back));
    }
    None
}
