//! M1: one worker with 10,000 calls under way, which the upstream holds for 30 s.
//!
//! Memory is what the worker's process holds more than before its first job, at its highest while the calls are held,
//! divided by the calls. *Row writes a beat* are what happened to the rows of incarnations between two beats, divided by
//! the beats between them. A scheduler runs beside it, so that leases could expire: afterwards every job must have had
//! one attempt, which succeeded.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::time::sleep;

use crate::{
    e1::world::World,
    progress,
    rig::{Bench, Metric, SLUICE, Server, Sheet, processes::memory_kb, worker_side::check_done_once},
};

const KB_PER_CALL: Metric = Metric::new("kb_per_call", "KB");
const WRITES_PER_BEAT: Metric = Metric::new("row_writes_per_beat", "1");
const EXPIRED: Metric = Metric::new("leases_expired", "1");
/// A connection counts its writes when it has been idle for ten seconds, or with a later statement.
const COUNTED: Duration = Duration::from_millis(10_500);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// How long a worker may take to begin.
const START: Duration = Duration::from_secs(10);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Calls under way at once.
    pub calls: u64,
    /// How long each is held.
    pub hold: Duration,
    /// Beats to look at meanwhile.
    pub beats: u32,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Growth of the worker's memory, by call.
    pub kb_per_call: f64,
    /// Writes to rows of incarnations, by beat.
    pub writes_per_beat: f64,
    /// Leases that were taken from the worker.
    pub expired: i64,
}

/// Measures all.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("M1");
    let load = bench.choose(
        Load { calls: 10_000, hold: Duration::from_secs(30), beats: 4 },
        Load { calls: 4_000, hold: Duration::from_secs(24), beats: 2 },
    );
    let server = Server::start().await?;
    for run in 1..=bench.runs {
        let held = hold(&server, load).await?;
        progress!(
            "M1 run {run}: {:.1} KB a call, {:.2} writes a beat",
            held.kb_per_call,
            held.writes_per_beat
        );
        let variant = format!("calls={}", load.calls);
        sheet.note(SLUICE, &variant, KB_PER_CALL, held.kb_per_call);
        sheet.note(SLUICE, &variant, WRITES_PER_BEAT, held.writes_per_beat);
        sheet.note(SLUICE, &variant, EXPIRED, held.expired as f64);
    }
    bench.publish(&sheet)
}

/// Holds so many calls, and looks meanwhile.
pub async fn hold(server: &Server, load: Load) -> Result<Held> {
    let mut world = World::start(server, load.hold).await?;
    let mut scheduler =
        world.start_role(&["scheduler", "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"])?;
    let worker = world.start_worker(load.calls as usize)?;
    until_begun(&world).await?;
    let before_kb = memory_kb(worker).unwrap_or_default();
    world.fill(load.calls).await?;
    world.until_running(load.calls).await?;
    // What was written before the calls ran is no beat's.
    sleep(COUNTED).await;
    let mut last_beat = 0;
    until_next_beat(&world, &mut last_beat).await?;
    until_next_beat(&world, &mut last_beat).await?;
    let writes_before = writes(&world).await?;
    let mut highest_kb = 0;
    for _ in 0..load.beats {
        until_next_beat(&world, &mut last_beat).await?;
        highest_kb = highest_kb.max(memory_kb(worker).unwrap_or_default());
    }
    let writes = writes(&world).await? - writes_before;
    world.until_done(load.calls).await?;
    let expired =
        world.database().number("SELECT count(*) FROM sluice.attempts_ended WHERE outcome = 'lost'").await?;
    check_done_once(world.database(), load.calls).await?;
    world.stop_worker().await?;
    scheduler.stop().await?;
    world.remove().await?;
    Ok(Held {
        kb_per_call: highest_kb.saturating_sub(before_kb) as f64 / load.calls as f64,
        writes_per_beat: writes as f64 / f64::from(load.beats),
        expired,
    })
}

async fn until_begun(world: &World) -> Result<()> {
    let began_at = Instant::now();
    while world.database().number("SELECT count(*) FROM sluice.incarnations WHERE is_asleep").await? == 0 {
        ensure!(began_at.elapsed() < START, "the worker has not begun");
        sleep(LOOK).await;
    }
    // What it sets up at its start is no call's.
    sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// Waits until the worker has beaten since `last`.
async fn until_next_beat(world: &World, last: &mut i64) -> Result<()> {
    let began_at = Instant::now();
    loop {
        let beat = "SELECT (extract(epoch FROM max(beat_at)) * 1000)::bigint FROM sluice.incarnations";
        let newest = world.database().number(beat).await?;
        if newest != *last {
            *last = newest;
            return Ok(());
        }
        ensure!(began_at.elapsed() < START, "the worker does not beat");
        sleep(LOOK).await;
    }
}

/// Writes to rows of incarnations so far.
async fn writes(world: &World) -> Result<i64> {
    // The beat's own connection counts with each beat.
    sleep(LOOK).await;
    let counted = "SELECT (n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables
                   WHERE schemaname = 'sluice' AND relname = 'incarnations'";
    world.database().number(counted).await
}
