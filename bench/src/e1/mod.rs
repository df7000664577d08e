//! E1: the whole path, from a backlog in Postgres through a worker to an upstream that takes 50 ms, and back.
//!
//! *Sluice* is a `sluice worker` with so many calls at once on a backlog with bodies of 300 bytes; answers have 600. The
//! rate is that of a steady window: from a seventh of the calls to six sevenths. The CPU time of a call is that of the
//! worker and of Postgres. The *limit* is a bare loop of the same HTTP client in this process, at the same concurrency
//! against the same simulator, with the CPU time of this process; next to it stands that of the simulator. *Peers* make
//! fewer calls, since they make fewer a second; what Postgres uses for them is added to what they use.

pub mod bare;
pub mod world;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{
    progress,
    rig::{
        Bench, CALLS_PER_S, LIMIT, Metric, Peer, SLUICE, Server, Sheet, payload,
        processes::{cpu_seconds, cpu_seconds_of_family},
        worker_side::check_done_once,
    },
};
use world::{Hold, Simulator, World};

/// CPU time of a call.
const CPU_MS_PER_CALL: Metric = Metric::new("cpu_ms_per_call", "ms");
/// Those of the peers that make calls.
const CALLERS: [&str; 3] = ["fusillade", "openai-sdk", "openai-sdk-aiohttp"];
/// What the upstream takes.
const LATENCY: Hold = Hold::from_millis(50);

/// One way to be measured.
struct Variant {
    concurrency: usize,
    calls: u64,
    peer_calls: u64,
}

impl Variant {
    fn name(&self) -> String {
        format!("concurrency={}", self.concurrency)
    }
}

/// Measures all.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("E1");
    let variants = [
        Variant { concurrency: 200, calls: bench.choose(40_000, 20_000), peer_calls: 2_000 },
        Variant { concurrency: 2_000, calls: bench.choose(120_000, 60_000), peer_calls: 4_000 },
    ];
    let server = Server::start().await?;
    for run in 1..=bench.runs {
        for variant in &variants {
            let name = variant.name();
            let ours = sluice(&server, variant).await?;
            progress!("E1 run {run}: sluice, {name}: {:.0} calls/s", ours.calls_per_s);
            note(&mut sheet, SLUICE, &name, &ours);
            let (limit, simulator_cpu_ms) = limit(variant).await?;
            progress!("E1 run {run}: bare loop, {name}: {:.0} calls/s", limit.calls_per_s);
            note(&mut sheet, LIMIT, &name, &limit);
            sheet.note("simulator", &name, CPU_MS_PER_CALL, simulator_cpu_ms);
            sheet.note_used(&name, ours.calls_per_s, limit.calls_per_s);
            for peer in bench.peers().iter().filter(|peer| CALLERS.contains(&peer.name.as_str())) {
                if let Some(theirs) = ask(&server, peer, variant).await? {
                    progress!("E1 run {run}: {}, {name}: {:.0} calls/s", peer.name, theirs.calls_per_s);
                    note(&mut sheet, &peer.name, &name, &theirs);
                }
            }
        }
    }
    bench.publish(&sheet)
}

fn note(sheet: &mut Sheet, who: &str, variant: &str, measured: &Measured) {
    sheet.note(who, variant, CALLS_PER_S, measured.calls_per_s);
    sheet.note(who, variant, CPU_MS_PER_CALL, measured.cpu_ms_per_call);
}

/// What somebody reached.
struct Measured {
    calls_per_s: f64,
    cpu_ms_per_call: f64,
}

impl Measured {
    fn new(calls: u64, seconds: f64, cpu_seconds: f64) -> Self {
        let calls = calls as f64;
        Self { calls_per_s: calls / seconds, cpu_ms_per_call: cpu_seconds * 1_000.0 / calls }
    }
}

async fn sluice(server: &Server, variant: &Variant) -> Result<Measured> {
    let mut world = World::start(server, LATENCY).await?;
    world.fill(variant.calls).await?;
    let worker = world.start_worker(variant.concurrency)?;
    let pids = [worker, server.postmaster_pid().unwrap_or_default()];
    let cpu = |pids: [i32; 2]| cpu_seconds(&pids[..1]) + cpu_seconds_of_family(pids[1]);
    let (began_at, before) = (world.until_answered(variant.calls / 7).await?, cpu(pids));
    let (ended_at, after) = (world.until_answered(variant.calls * 6 / 7).await?, cpu(pids));
    world.until_done(variant.calls).await?;
    world.stop_worker().await?;
    check_done_once(world.database(), variant.calls).await?;
    let stats = world.stats().await?;
    ensure!(stats["calls"] == variant.calls, "the simulator received {} calls", stats["calls"]);
    world.remove().await?;
    let seconds = ended_at.at.duration_since(began_at.at).as_secs_f64();
    Ok(Measured::new(ended_at.calls - began_at.calls, seconds, after - before))
}

/// Gives the CPU time of the simulator, too.
async fn limit(variant: &Variant) -> Result<(Measured, f64)> {
    let folder = tempfile::tempdir()?;
    let mut simulator = Simulator::start(folder.path(), LATENCY).await?;
    let url = format!("{}/v1/chat/completions", simulator.base_url());
    let bare = bare::Loop::new(&url, payload::body(), variant.concurrency)?;
    // Connections are made before it counts, as the worker's are.
    bare.run(2 * variant.concurrency).await?;
    let own = [std::process::id() as i32];
    let (before, before_there) = (cpu_seconds(&own), cpu_seconds(&[simulator.pid()?]));
    let took = bare.run(variant.calls as usize).await?;
    let (after, after_there) = (cpu_seconds(&own), cpu_seconds(&[simulator.pid()?]));
    simulator.stop().await?;
    let measured = Measured::new(variant.calls, took.as_secs_f64(), after - before);
    Ok((measured, (after_there - before_there) * 1_000.0 / variant.calls as f64))
}

async fn ask(server: &Server, peer: &Peer, variant: &Variant) -> Result<Option<Measured>> {
    let Some(database) = peer.prepare(server, 0).await? else { return Ok(None) };
    let folder = tempfile::tempdir()?;
    let mut simulator = Simulator::start(folder.path(), LATENCY).await?;
    let (concurrency, calls) = (variant.concurrency.to_string(), variant.peer_calls.to_string());
    let postmaster = server.postmaster_pid().unwrap_or_default();
    let before = cpu_seconds_of_family(postmaster);
    let asked = ["calls", "--concurrency", &concurrency, "--calls", &calls, "--url", simulator.base_url()];
    let figures = peer.ask(&database, &asked).await?;
    let of_postgres = cpu_seconds_of_family(postmaster) - before;
    simulator.stop().await?;
    database.remove().await?;
    figures.map(|figures| measured_by(&figures, of_postgres)).transpose()
}

fn measured_by(figures: &Value, of_postgres: f64) -> Result<Measured> {
    let number = |name: &str| figures[name].as_f64().unwrap_or_default();
    let (calls, seconds) = (number("calls"), number("seconds"));
    ensure!(calls > 0.0 && seconds > 0.0, "a peer answered {figures}");
    let cpu_ms_per_call = number("cpu_ms_per_call") + of_postgres * 1_000.0 / calls;
    Ok(Measured { calls_per_s: calls / seconds, cpu_ms_per_call })
}
