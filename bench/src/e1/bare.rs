//! The limit: a loop that makes calls and does nothing else. It has the HTTP client that the product has, and one task
//! for each call at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use reqwest::{Client, header};
use tokio::task::JoinSet;

/// A client and what it asks for.
#[derive(Clone, Debug)]
pub struct Loop {
    client: Client,
    url: String,
    body: Vec<u8>,
    concurrency: usize,
}

impl Loop {
    /// One that posts `body` to `url`, so many at once.
    pub fn new(url: &str, body: Vec<u8>, concurrency: usize) -> Result<Self> {
        // Another benchmark may have installed it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().pool_max_idle_per_host(concurrency).build();
        let client = client.context("make an HTTP client")?;
        Ok(Self { client, url: url.to_owned(), body, concurrency })
    }

    /// Makes so many calls; says how long that took.
    pub async fn run(&self, calls: usize) -> Result<Duration> {
        let begun = Arc::new(AtomicUsize::new(0));
        let mut callers = JoinSet::new();
        let began_at = Instant::now();
        for _ in 0..self.concurrency {
            callers.spawn(self.clone().call_while(Arc::clone(&begun), calls));
        }
        while let Some(ended) = callers.join_next().await {
            ended.context("a caller panicked")??;
        }
        Ok(began_at.elapsed())
    }

    async fn call_while(self, begun: Arc<AtomicUsize>, calls: usize) -> Result<()> {
        while begun.fetch_add(1, Ordering::Relaxed) < calls {
            let request = self.client.post(&self.url).header(header::CONTENT_TYPE, "application/json");
            let response = request.body(self.body.clone()).send().await.context("make a call")?;
            ensure!(response.status().is_success(), "the simulator answered {}", response.status());
            response.bytes().await.context("read an answer")?;
        }
        Ok(())
    }
}
