//! D1: the OpenAI-compatible door of one scheduler, with a worker and an upstream behind it, and its pool of 20 connections.
//!
//! - `idle`: one client calls again and again, and the upstream holds each call for 50 ms. *Overhead* is what a call takes beyond
//!   the median of the same call to the upstream itself, measured in the same run.
//! - `waiting=2000`: so many clients call at once, and the upstream holds each for some seconds. Overhead is what a call takes
//!   beyond that; memory is the growth of the scheduler's, by call that waits.
//! - `streams=500`: the same with `stream: true`; the overhead is that of the first token.
//! - `slow=5000`: a client reads a page of jobs again and again, first alone, then beside so many connections that send their
//!   heads letter by letter. `p99_ms` of both; `alone` is the limit.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::{
    e1::world::World,
    progress,
    rig::{
        Bench, LIMIT, Latencies, Metric, P99_MS, SLUICE, Server, Sheet, http, payload,
        processes::{Sluice, memory_kb},
    },
};

const OVERHEAD_P50: Metric = Metric::new("overhead_p50_ms", "ms");
const OVERHEAD_P99: Metric = Metric::new("overhead_p99_ms", "ms");
const KB_PER_CALL: Metric = Metric::new("kb_per_call", "KB");
/// How long the upstream holds a call of one client.
const SHORT: Duration = Duration::from_millis(50);
/// How long one call may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// Calls before the clock starts.
const WARM_UP: u64 = 20;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Load {
    calls: u64,
    waiting: usize,
    streams: usize,
    hold: Duration,
    slow: usize,
    reads: u64,
}

/// What calls at once came to.
#[derive(Debug)]
struct AtOnce {
    overhead: Latencies,
    kb_per_call: f64,
}

/// Measures all.
pub async fn run(bench: &Bench) -> Result<()> {
    let mut sheet = Sheet::new("D1");
    let load = bench.choose(
        Load {
            calls: 1_000,
            waiting: 2_000,
            streams: 500,
            hold: Duration::from_secs(10),
            slow: 5_000,
            reads: 3_000,
        },
        Load {
            calls: 200,
            waiting: 2_000,
            streams: 500,
            hold: Duration::from_secs(8),
            slow: 5_000,
            reads: 1_000,
        },
    );
    let server = Server::start().await?;
    for run in 1..=bench.runs {
        let idle = idle(&server, load.calls).await?;
        progress!(
            "D1 run {run}: idle: {:.1} ms, p99 {:.1} ms",
            idle.percentile_ms(50.0),
            idle.percentile_ms(99.0)
        );
        sheet.note(SLUICE, "idle", OVERHEAD_P50, idle.percentile_ms(50.0));
        sheet.note(SLUICE, "idle", OVERHEAD_P99, idle.percentile_ms(99.0));
        for (word, count, is_stream) in [("waiting", load.waiting, false), ("streams", load.streams, true)] {
            let at_once = at_once(&server, count, load.hold, is_stream).await?;
            let (p50, p99) = (at_once.overhead.percentile_ms(50.0), at_once.overhead.percentile_ms(99.0));
            let variant = format!("{word}={count}");
            progress!(
                "D1 run {run}: {variant}: {p50:.1} ms, p99 {p99:.1} ms, {:.1} KB a call",
                at_once.kb_per_call
            );
            sheet.note(SLUICE, &variant, OVERHEAD_P50, p50);
            sheet.note(SLUICE, &variant, OVERHEAD_P99, p99);
            sheet.note(SLUICE, &variant, KB_PER_CALL, at_once.kb_per_call);
        }
        let (alone, beside) = slow(&server, load.slow, load.reads).await?;
        let variant = format!("slow={}", load.slow);
        progress!(
            "D1 run {run}: {variant}: p99 {:.2} ms, alone {:.2} ms",
            beside.percentile_ms(99.0),
            alone.percentile_ms(99.0)
        );
        sheet.note(SLUICE, &variant, P99_MS, beside.percentile_ms(99.0));
        sheet.note(LIMIT, &variant, P99_MS, alone.percentile_ms(99.0));
    }
    bench.publish(&sheet)
}

/// A scheduler and a worker; the scheduler's URL.
async fn start(world: &mut World, concurrency: usize) -> Result<(Sluice, String)> {
    let arguments =
        ["scheduler", "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--output", "json"];
    let mut scheduler = world.start_role(&arguments)?;
    let told = scheduler.first_line().await?;
    let url = told["url"].as_str().context("the scheduler tells its URL")?.to_owned();
    world.start_worker(concurrency)?;
    Ok((scheduler, url))
}

fn chat(host: &str, is_stream: bool) -> Vec<u8> {
    let mut body = String::from_utf8_lossy(&payload::body()).into_owned();
    if is_stream {
        body.insert_str(1, "\"stream\":true,");
    }
    http::post(host, "/v1/chat/completions", body.as_bytes())
}

async fn idle(server: &Server, calls: u64) -> Result<Latencies> {
    let mut world = World::start(server, SHORT).await?;
    let (mut scheduler, url) = start(&mut world, 100).await?;
    let upstream = world.upstream_url().to_owned();
    one_by_one(&url, WARM_UP).await?;
    let direct = one_by_one(&upstream, calls).await?;
    let direct = Duration::from_micros((direct.percentile_ms(50.0) * 1_000.0) as u64);
    let mut overhead = Latencies::default();
    let host = http::host_of(&url)?;
    let request = chat(host, false);
    let mut connection = http::Connection::open(host).await?;
    for _ in 0..calls {
        let begun = Instant::now();
        let answer = connection.ask(&request).await?;
        ensure!(answer.status == 200, "a call was answered {}", answer.status);
        overhead.note(begun.elapsed().saturating_sub(direct));
    }
    scheduler.stop().await?;
    world.remove().await?;
    Ok(overhead)
}

async fn one_by_one(url: &str, calls: u64) -> Result<Latencies> {
    let host = http::host_of(url)?;
    let request = chat(host, false);
    let mut connection = http::Connection::open(host).await?;
    let mut latencies = Latencies::default();
    for _ in 0..calls {
        let begun = Instant::now();
        let answer = connection.ask(&request).await?;
        ensure!(answer.status == 200, "a call was answered {}", answer.status);
        latencies.note(begun.elapsed());
    }
    Ok(latencies)
}

async fn at_once(server: &Server, count: usize, hold: Duration, is_stream: bool) -> Result<AtOnce> {
    let mut world = World::start(server, hold).await?;
    let (mut scheduler, url) = start(&mut world, count + 100).await?;
    let pid = scheduler.id().context("the scheduler has ended")?;
    let host = http::host_of(&url)?.to_owned();
    // What a first call sets up is no call's.
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(TcpStream::connect(&host).await.context("connect")?);
    }
    let before_kb = memory_kb(pid).unwrap_or_default();
    let mut clients = JoinSet::new();
    for connection in connections {
        let request = chat(&host, is_stream);
        clients.spawn(timeout(PATIENCE, first_byte_of_answer(connection, request)));
    }
    world.until_running(count as u64).await?;
    let waiting_kb = memory_kb(pid).unwrap_or_default();
    let mut overhead = Latencies::default();
    while let Some(ended) = clients.join_next().await {
        let took = ended.context("a client panicked")?.context("a call took too long")??;
        overhead.note(took.saturating_sub(hold));
    }
    scheduler.stop().await?;
    world.remove().await?;
    let kb_per_call = waiting_kb.saturating_sub(before_kb) as f64 / count as f64;
    Ok(AtOnce { overhead, kb_per_call })
}

/// Sends a call; how long it took until its first token came, which of a whole answer is its end. Reads on until its end.
async fn first_byte_of_answer(mut stream: TcpStream, request: Vec<u8>) -> Result<Duration> {
    stream.set_nodelay(true)?;
    let begun = Instant::now();
    stream.write_all(&request).await.context("send a call")?;
    let (mut read, mut first) = (Vec::new(), None);
    loop {
        ensure!(stream.read_buf(&mut read).await.context("read an answer")? > 0, "an answer broke off");
        let text = String::from_utf8_lossy(&read);
        if first.is_none() && text.contains("\"content\"") {
            ensure!(text.starts_with("HTTP/1.1 200"), "a call was answered {text}");
            first = Some(begun.elapsed());
        }
        // Of a stream its last event; of a whole answer what stands at its end.
        let is_over =
            text.contains("data: [DONE]") || text.contains("\"total_tokens\"") && !text.contains("data: ");
        if let Some(first) = first.filter(|_| is_over) {
            return Ok(first);
        }
    }
}

async fn slow(server: &Server, count: usize, reads: u64) -> Result<(Latencies, Latencies)> {
    let mut world = World::start(server, SHORT).await?;
    let (mut scheduler, url) = start(&mut world, 10).await?;
    let host = http::host_of(&url)?.to_owned();
    read_pages(&host, WARM_UP).await?;
    let alone = read_pages(&host, reads).await?;
    let mut slow = JoinSet::new();
    for _ in 0..count {
        let host = host.clone();
        slow.spawn(async move {
            // Cut by the server in the end, and then there again.
            loop {
                let Ok(mut stream) = TcpStream::connect(&host).await else { return };
                for letter in b"GET /v1/jobs HTTP/1.1\r\nx-slow: ".iter().chain(std::iter::repeat(&b'a')) {
                    if stream.write_all(&[*letter]).await.is_err() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
            }
        });
    }
    // All are there, and have begun.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let beside = read_pages(&host, reads).await?;
    slow.shutdown().await;
    scheduler.stop().await?;
    world.remove().await?;
    Ok((alone, beside))
}

/// Each over a connection of its own: one that is kept has its place already.
async fn read_pages(host: &str, count: u64) -> Result<Latencies> {
    let request = http::get(host, "/v1/jobs?limit=1");
    let mut latencies = Latencies::default();
    for _ in 0..count {
        let begun = Instant::now();
        let mut connection = http::Connection::open(host).await?;
        let answer = connection.ask(&request).await?;
        ensure!(answer.status == 200, "a page was answered {}", answer.status);
        latencies.note(begun.elapsed());
    }
    Ok(latencies)
}
