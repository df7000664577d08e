//! Doorbells: hints by NOTIFY that there is something to look at. Correctness rests on polling; a bell that is lost
//! costs one poll interval.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    Executor,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{sync::Notify, time::timeout};

use crate::{Store, StoreError};

/// A listener that heard nothing for so long asks whether its connection is still there. One that the network lost without
/// a word would be deaf for ever: nothing is sent on it, so nothing fails.
const ASKED_AFTER: Duration = Duration::from_secs(30);
/// How long the answer may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// What a bell says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Doorbell {
    /// There may be work to lease.
    Ready,
    /// Jobs may have ended.
    Ended,
    /// A running job was cancelled.
    Cancelled,
    /// A breaker opened or closed.
    Breakers,
    /// An upstream closed a gate for a time.
    Cooled,
    /// Events of a streamed answer were written.
    Streamed,
}

impl Doorbell {
    const ALL: [Self; 6] =
        [Self::Ready, Self::Ended, Self::Cancelled, Self::Breakers, Self::Cooled, Self::Streamed];

    const fn channel(self) -> &'static str {
        match self {
            Self::Ready => "sluice_ready",
            Self::Ended => "sluice_ended",
            Self::Cancelled => "sluice_cancelled",
            Self::Breakers => "sluice_breakers",
            Self::Cooled => "sluice_cooldowns",
            Self::Streamed => "sluice_streamed",
        }
    }
}

/// Hears bells, over a connection of its own.
#[derive(Debug)]
pub struct DoorbellListener {
    listener: PgListener,
    asked_after: Duration,
}

impl DoorbellListener {
    /// Waits for the next bell. `None`: the connection broke, was made again, and bells may have been missed: look. An
    /// error: nothing is heard any more, listen anew.
    pub async fn heard(&mut self) -> Result<Option<Doorbell>, StoreError> {
        loop {
            if let Ok(heard) = timeout(self.asked_after, self.listener.try_recv()).await {
                return Ok(heard?.and_then(|heard| {
                    Doorbell::ALL.into_iter().find(|bell| bell.channel() == heard.channel())
                }));
            }
            timeout(ANSWERED_WITHIN, self.listener.execute("-- doorbell_connection_check\nSELECT 1"))
                .await
                .map_err(|_| StoreError::timed_out())??;
        }
    }

    /// Asks whether the connection is still there after so long without a bell, instead of 30 s.
    #[must_use]
    pub fn asking_after(self, silence: Duration) -> Self {
        Self { asked_after: silence, ..self }
    }
}

impl Store {
    /// Starts to listen, over the direct URL.
    pub async fn listen(&self, bells: &[Doorbell]) -> Result<DoorbellListener, StoreError> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(self.direct.clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen_all(bells.iter().map(|bell| bell.channel())).await?;
        Ok(DoorbellListener { listener, asked_after: ASKED_AFTER })
    }

    /// Rings a bell now. Callers that ring often use a [`Ringer`].
    pub async fn ring(&self, bell: Doorbell) -> Result<(), StoreError> {
        sqlx::query!("-- doorbell_ring\nSELECT pg_notify($1, '')", bell.channel())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Wakes workers if one has said that it sleeps.
    pub async fn wake_sleepers(&self) -> Result<(), StoreError> {
        sqlx::query!("-- doorbell_wake_sleepers\nSELECT sluice.wake_sleepers()").execute(&self.pool).await?;
        Ok(())
    }
}

/// Rings one bell for a whole process: the first ring at once, further ones together every `gap`, since a NOTIFY takes
/// a lock that is global to the server.
#[derive(Clone, Debug)]
pub struct Ringer {
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Bell {
    wanted: Notify,
    /// It was rung less than a gap ago.
    is_resting: AtomicBool,
}

impl Ringer {
    /// Starts the ringer's task, which ends when the last clone is dropped.
    pub fn start(store: Store, bell: Doorbell, gap: Duration) -> Self {
        let shared = Arc::new(Bell::default());
        let weak = Arc::downgrade(&shared);
        tokio::spawn(async move {
            loop {
                let Some(shared) = weak.upgrade() else { return };
                shared.is_resting.store(false, Ordering::Relaxed);
                // A timeout, so that the task sees that nobody is left who could ring.
                if tokio::time::timeout(Duration::from_secs(5), shared.wanted.notified()).await.is_err() {
                    continue;
                }
                shared.is_resting.store(true, Ordering::Relaxed);
                drop(shared);
                let rung = match bell {
                    Doorbell::Ready => store.wake_sleepers().await,
                    other => store.ring(other).await,
                };
                if let Err(error) = rung {
                    tracing::debug!(error = %error, "a doorbell could not be rung; polling finds the work");
                }
                tokio::time::sleep(gap).await;
            }
        });
        Self { bell: shared }
    }

    /// Wants a ring; returns at once.
    pub fn ring(&self) {
        self.bell.wanted.notify_one();
    }

    /// Whether it was rung less than a gap ago, so that a ring would wait.
    pub fn is_resting(&self) -> bool {
        self.bell.is_resting.load(Ordering::Relaxed)
    }
}
