//! Finished spans on their way out: a bounded queue, and a task that sends them in batches.
//!
//! The SDK's own batch processor polls its exporter on a bare thread and keeps its count of dropped spans to itself;
//! this one lives on the export runtime and says what it dropped. A span that finds the queue full, or whose batch the
//! collector does not take in time, is dropped and counted.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    trace::{Span, SpanData, SpanExporter, SpanProcessor},
};
use tokio::{runtime::Handle, sync::mpsc, time::timeout};

use crate::environment::SpanQueueLimits;

/// The longest that one batch may take, whatever the exporter itself allows.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(30);

/// The sending end, as the SDK calls it.
pub(crate) struct SpanQueue {
    spans: mpsc::Sender<SpanData>,
    flushes: mpsc::UnboundedSender<SyncSender<()>>,
    dropped: Arc<AtomicU64>,
}

impl SpanQueue {
    /// Starts the sending task on `runtime`. `dropped` counts the spans that never arrived.
    pub(crate) fn start<E: SpanExporter + 'static>(
        exporter: E,
        limits: SpanQueueLimits,
        runtime: &Handle,
        dropped: Arc<AtomicU64>,
    ) -> Self {
        let (spans, receiver) = mpsc::channel(limits.queue_spans);
        let (flushes, flush_receiver) = mpsc::unbounded_channel();
        let sending =
            Sending { exporter, limits, dropped: Arc::clone(&dropped), is_failing: AtomicBool::new(false) };
        runtime.spawn(sending.run(receiver, flush_receiver));
        Self { spans, flushes, dropped }
    }
}

impl fmt::Debug for SpanQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanQueue").field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.spans.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.shutdown_with_timeout(Duration::from_secs(5))
    }

    /// Sends what is queued now; the queue itself ends with its runtime.
    fn shutdown_with_timeout(&self, within: Duration) -> OTelSdkResult {
        let (done, is_done) = sync_channel(1);
        self.flushes.send(done).map_err(|_| OTelSdkError::AlreadyShutdown)?;
        is_done.recv_timeout(within).map_err(|_| OTelSdkError::Timeout(within))
    }
}

struct Sending<E> {
    exporter: E,
    limits: SpanQueueLimits,
    dropped: Arc<AtomicU64>,
    is_failing: AtomicBool,
}

impl<E: SpanExporter> Sending<E> {
    async fn run(
        self,
        mut spans: mpsc::Receiver<SpanData>,
        mut flushes: mpsc::UnboundedReceiver<SyncSender<()>>,
    ) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                flush = flushes.recv() => {
                    let Some(done) = flush else { return };
                    while let Ok(span) = spans.try_recv() {
                        batch.push(span);
                        if batch.len() >= self.limits.batch_spans {
                            self.send(&mut batch).await;
                        }
                    }
                    self.send(&mut batch).await;
                    let _ = done.try_send(());
                }
                is_open = self.gather(&mut batch, &mut spans) => {
                    if !is_open {
                        return;
                    }
                    self.send(&mut batch).await;
                }
            }
        }
    }

    /// Waits for a span, then takes more until the batch is full or its time is up; false where no more can come.
    /// It may be cancelled: what it took is in `batch`.
    async fn gather(&self, batch: &mut Vec<SpanData>, spans: &mut mpsc::Receiver<SpanData>) -> bool {
        if batch.is_empty() {
            let Some(first) = spans.recv().await else { return false };
            batch.push(first);
        }
        let filling = async {
            while batch.len() < self.limits.batch_spans {
                let Some(span) = spans.recv().await else { return };
                batch.push(span);
            }
        };
        // Running out of time is the usual end.
        let _ = timeout(self.limits.delay, filling).await;
        true
    }

    async fn send(&self, batch: &mut Vec<SpanData>) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        let sent = timeout(EXPORT_TIMEOUT, self.exporter.export(std::mem::take(batch))).await;
        let is_sent = matches!(sent, Ok(Ok(())));
        if !is_sent {
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
        // Said once when it begins and once when it ends: a collector that is away is no reason to fill the log.
        let was_failing = self.is_failing.swap(!is_sent, Ordering::Relaxed);
        if !is_sent && !was_failing {
            tracing::warn!(
                dropped_spans = count,
                "the OpenTelemetry collector does not take spans; they are dropped until it does"
            );
        } else if is_sent && was_failing {
            tracing::info!("the OpenTelemetry collector takes spans again");
        }
    }
}
