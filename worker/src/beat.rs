//! The beat: one row update for all leases, from a thread and over a connection of its own, so that neither a busy
//! runtime nor a pool that is used up can starve it.
//!
//! A beat that isn't answered in time is given up together with its connection. Between failures it tries again
//! sooner than the interval; the lease goes on being counted from the last one that was acknowledged.

use std::{
    io,
    sync::{Arc, Weak, atomic::Ordering},
    thread,
    time::Duration,
};

use sluice_domain::IncarnationId;
use sluice_store::{BeatConnection, BeatReply, CrashPoint, StoreError, WorkerLoad, crash_point};
use tokio::time::{sleep, timeout};

use crate::{
    WorkerError, clock,
    core::{Core, Phase, Signals},
    pauses::Told,
};

/// The least time between two beats, however many cancels ask for an early one.
const MIN_GAP: Duration = Duration::from_millis(100);

/// Starts the thread. It ends with the worker.
pub(crate) fn start(core: &Arc<Core>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (worker, signals) = (Arc::downgrade(core), Arc::clone(&core.signals));
    let interval = core.timing.beat_interval;
    thread::Builder::new()
        .name("sluice-beat".to_owned())
        .spawn(move || runtime.block_on(beats(&worker, &signals, interval)))?;
    Ok(())
}

/// Beats until the worker is over, or was dropped together with its runtime.
async fn beats(worker: &Weak<Core>, signals: &Signals, interval: Duration) {
    let mut connection = None;
    let mut has_failed = false;
    loop {
        let Some(core) = worker.upgrade() else { return };
        let beaten = beat(&core, &mut connection).await;
        if let Err(error) = &beaten {
            connection = None;
            core.metrics.beat_failed();
            if !has_failed {
                tracing::warn!(%error, "a beat failed; calls start until the lease is nearly over");
            }
        } else if has_failed {
            core.signals.beats_again.notify_one();
        }
        has_failed = beaten.is_err();
        if core.store.leads_elsewhere() && core.failure.get().is_none() {
            core.end_for(WorkerError::OtherDatabase);
        }
        drop(core);
        let rest = if has_failed { interval.min(Duration::from_secs(1)) } else { interval };
        tokio::select! {
            () = signals.ended.cancelled() => return,
            () = sleep(rest) => {}
            () = async { signals.beat_now.notified().await; sleep(MIN_GAP).await } => {}
        }
    }
}

async fn beat(core: &Core, connection: &mut Option<BeatConnection>) -> Result<(), StoreError> {
    let id = core.incarnation.id();
    let load = WorkerLoad {
        in_flight: u32::try_from(core.in_flight()).unwrap_or(u32::MAX),
        is_draining: *core.phase.borrow() > Phase::Working,
    };
    // Read before the connection is made: the row is written after this moment, whatever happens.
    let sent_at = clock::since_boot();
    let replying = async {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(core.store.beat_connection().await?),
        };
        connection.beat(id, load).await
    };
    let reply = timeout(core.timing.lease_ttl / 3, replying).await.map_err(|_| StoreError::timed_out())??;
    crash_point(CrashPoint::Beaten);
    heed(core, id, reply, sent_at);
    Ok(())
}

fn heed(core: &Core, id: IncarnationId, reply: BeatReply, sent_at: Duration) {
    match reply {
        BeatReply::Alive {
            cancelled,
            configuration_version,
            latest_cooldown,
            paused,
            breakers,
            workers_alive,
        } => {
            let was_fenced = !core.incarnation.may_start();
            if core.incarnation.acknowledge(id, sent_at) > 2 * core.timing.beat_interval {
                core.metrics.beat_late();
            }
            core.held.cancel(&cancelled);
            core.retry_budgets.note_workers(workers_alive);
            let before = core.newest_configuration.fetch_max(configuration_version, Ordering::Relaxed);
            let told = core.pauses.told(paused, sent_at);
            if told == Told::Resumed {
                core.wants_secrets.store(true, Ordering::Relaxed);
            }
            let is_breaker_news = core.breakers.told(breakers, sent_at);
            let is_cooled = core.cooldowns.note_latest(latest_cooldown);
            let is_news = configuration_version > before || told != Told::Nothing || is_cooled;
            if was_fenced || is_news || is_breaker_news {
                core.signals.changed.notify_one();
            }
        }
        // What it means is for whoever looks whether the store still leads where it should.
        BeatReply::Elsewhere => {}
        BeatReply::Dead => {
            if core.incarnation.mark_dead(id) {
                core.give_back_waiting();
                core.signals.changed.notify_one();
            }
        }
    }
}
