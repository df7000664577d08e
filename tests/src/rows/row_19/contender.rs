//! Who races, and what each is told.

use anyhow::Result;
use rand::{RngExt, rngs::StdRng};
use sluice_domain::{JobState, LeasedJob, Outcome, SettleVerdict, Settlement, TenantName};
use sluice_store::{CancelOutcome, ReleaseOutcome, ReplayOutcome};

use super::{Race, Start, Track};
use crate::lab::by_hand;

/// What an answer is, for those that are kept.
pub const ANSWER: &[u8] = b"{\"paid\":true}";

/// One who acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contender {
    /// Cancels, as REST does.
    Cancel,
    /// Cancels from SQL.
    CancelBySql,
    /// Leases whatever the lane has.
    Lease,
    /// The first worker's answer.
    SettleAnswer,
    /// The first worker's error, to be tried again.
    SettleRetry,
    /// The first worker's unknown outcome, to be held.
    SettleHold,
    /// The first worker gives the lease back.
    HandBack,
    /// The first worker is found dead.
    Expire,
    /// Starts the ended job again.
    Replay,
    /// Lets the held job go on.
    Release,
}

/// What one was told.
#[derive(Clone, Debug)]
pub enum Told {
    Cancel(CancelOutcome),
    Leased(Option<Box<LeasedJob>>),
    Settled(Contender, SettleVerdict),
    HandedBack(u32),
    Expired(u32),
    Replay(ReplayOutcome),
    Release(ReleaseOutcome),
}

impl Told {
    /// What was leased.
    pub fn leased(&self) -> Option<&LeasedJob> {
        match self {
            Self::Leased(leased) => leased.as_deref(),
            _ => None,
        }
    }
}

impl Contender {
    /// Two to four, of whom one cancels.
    pub fn some(random: &mut StdRng, start: Start, has_lease: bool) -> Vec<Self> {
        let others: &[Self] = match start {
            Start::Queued => &[Self::Lease],
            Start::Running => &[
                Self::SettleAnswer,
                Self::SettleRetry,
                Self::SettleHold,
                Self::Expire,
                Self::Lease,
                Self::HandBack,
            ],
            Start::Lost => &[Self::SettleAnswer, Self::Lease, Self::SettleRetry],
            Start::Held => &[Self::SettleAnswer, Self::Release, Self::Lease],
            Start::Ended => &[Self::Replay, Self::Lease],
        };
        let cancel = |random: &mut StdRng| {
            if random.random_bool(0.5) { Self::Cancel } else { Self::CancelBySql }
        };
        let mut chosen = vec![cancel(random)];
        let count = random.random_range(1..=3);
        // One word of the first worker: what it would say twice, it says in the same words.
        let mut word = None;
        while chosen.len() <= count {
            let other = match random.random_range(0..=others.len()) {
                place if place < others.len() => others[place],
                _ => cancel(random),
            };
            if other.is_the_workers_word() {
                debug_assert!(has_lease, "only a lease has a word");
                chosen.push(*word.get_or_insert(other));
            } else {
                chosen.push(other);
            }
        }
        chosen
    }

    fn is_the_workers_word(self) -> bool {
        matches!(self, Self::SettleAnswer | Self::SettleRetry | Self::SettleHold | Self::HandBack)
    }

    /// Acts, over a connection of its own.
    pub async fn act(self, track: &Track, race: &Race) -> Result<Told> {
        let (store, tenant) = (&track.store, TenantName::default_tenant());
        Ok(match self {
            Self::Cancel => Told::Cancel(store.job_cancel(&tenant, race.job).await?),
            Self::CancelBySql => Told::Cancel(cancel_by_sql(track, race).await?),
            Self::Lease => Told::Leased(track.lease_as(track.lessee).await?.map(Box::new)),
            Self::SettleAnswer | Self::SettleRetry | Self::SettleHold => {
                let verdicts = store.settle_many(&[self.settlement(race)]).await?;
                Told::Settled(self, verdicts[0])
            }
            Self::HandBack => {
                let (incarnation, leased) = race.lease.as_ref().expect("a race with a word has a lease");
                let lease = (race.job, leased.lease_id);
                Told::HandedBack(store.lease_hand_back_many(*incarnation, &[lease]).await?.moved)
            }
            Self::Expire => {
                let (incarnation, _) = race.lease.as_ref().expect("a race with an expiry has a lease");
                Told::Expired(store.incarnation_end(*incarnation).await?)
            }
            Self::Replay => {
                Told::Replay(store.job_replay_if_ended(&tenant, race.job, std::time::Duration::ZERO).await?)
            }
            Self::Release => Told::Release(store.job_release(&tenant, race.job).await?),
        })
    }

    fn settlement(self, race: &Race) -> Settlement {
        let (incarnation, leased) = race.lease.as_ref().expect("a race with a word has a lease");
        match self {
            Self::SettleRetry => {
                by_hand::without_answer(*incarnation, leased, Outcome::Retry, Track::requeue())
            }
            Self::SettleHold => {
                by_hand::without_answer(*incarnation, leased, Outcome::Unknown, Track::hold())
            }
            _ => by_hand::success(*incarnation, leased, ANSWER),
        }
    }
}

async fn cancel_by_sql(track: &Track, race: &Race) -> Result<CancelOutcome> {
    let told: String = sqlx::query_scalar("SELECT sluice.cancel($1)")
        .bind(race.job.as_uuid())
        .fetch_one(&track.pool)
        .await?;
    Ok(match told.as_str() {
        // SQL does not say whether it was so before.
        "cancelled" => CancelOutcome::AlreadyCancelled,
        "succeeded" => CancelOutcome::AlreadyEnded(JobState::Succeeded),
        "failed" => CancelOutcome::AlreadyEnded(JobState::Failed),
        "busy" => CancelOutcome::Busy,
        other => anyhow::bail!("sluice.cancel said {other}"),
    })
}
