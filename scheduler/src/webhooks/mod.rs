//! Tells who asked for it that a job has ended.
//!
//! What is to be told is an outbox: `webhook_deliveries`, written by the statement that ends the job. Every scheduler sends from
//! it. It leases some deliveries that are due, tries each once, and writes what came of it under its lease. Whoever dies on the
//! way leaves a lease that runs out, and somebody else sends again: receivers get each delivery at least once, always under the
//! same id. What failed is due again after a while (`sluice_webhook::next_try`).
//!
//! Few go to one target at once, so that one that is slow or gone holds up no other. Not here: the client and its guard, the
//! signature and the schedule (`webhook`); the endpoints (`handlers`).

mod delivery;
mod rules;

use std::{collections::HashMap, sync::Arc, time::Duration};

use sluice_config::Configuration;
use sluice_store::{Store, WebhookAsk};
use sluice_telemetry::SchedulerMetrics;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, timeout},
};
use uuid::Uuid;

use self::{delivery::Delivering, rules::RuleBook};

/// Deliveries that are sent at once.
const MOST: usize = 32;
/// To one target.
const MOST_OF_TARGET: usize = 4;
/// A try is over long before.
const LEASE: Duration = Duration::from_mins(1);
/// Between two looks while something is to be expected.
const BUSY: Duration = Duration::from_secs(1);
/// For so long after there was something.
const BUSY_FOR: Duration = Duration::from_mins(10);
/// Between two looks else.
const IDLE: Duration = Duration::from_secs(10);
/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells the sender of this process that a job with a webhook was submitted, so that it looks more often for a while.
#[derive(Clone, Debug, Default)]
pub struct WebhookBell(Arc<Notify>);

impl WebhookBell {
    pub(crate) fn ring(&self) {
        self.0.notify_one();
    }
}

/// Sends what is due.
pub(crate) struct WebhookSender {
    store: Store,
    bell: WebhookBell,
    rules: RuleBook,
    metrics: SchedulerMetrics,
    /// How many are under way to a target.
    under_way: HashMap<i64, usize>,
    /// Each ends with its target.
    tries: JoinSet<i64>,
    busy_until: Option<Instant>,
}

impl WebhookSender {
    pub(crate) fn new(
        store: Store,
        bell: WebhookBell,
        fixed: Option<Configuration>,
        metrics: SchedulerMetrics,
    ) -> Self {
        Self {
            rules: RuleBook::new(store.clone(), fixed),
            store,
            bell,
            metrics,
            under_way: HashMap::new(),
            tries: JoinSet::new(),
            busy_until: None,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            while self.send_some().await && self.tries.len() < MOST {}
            self.rest().await;
        }
    }

    /// Begins what is due, as far as there is room; says whether there may be more.
    async fn send_some(&mut self) -> bool {
        let room = MOST.saturating_sub(self.tries.len());
        let Some(rules) = self.rules.rules().await else { return false };
        if room == 0 {
            return false;
        }
        let lease = Uuid::new_v4();
        let full = self.under_way.iter().filter(|(_, count)| **count >= MOST_OF_TARGET);
        let busy: Vec<i64> = full.map(|(target, _)| *target).collect();
        let ask = WebhookAsk {
            most: room as u32,
            most_of_target: MOST_OF_TARGET as u32,
            busy: &busy,
            lease_for: LEASE,
        };
        let leasing = timeout(PATIENCE, self.store.webhook_deliveries_lease(lease, ask));
        let leased = match leasing.await {
            Ok(Ok(leased)) => leased,
            Ok(Err(error)) => {
                tracing::debug!(error = %error, "deliveries of webhooks could not be looked for");
                return false;
            }
            Err(_) => return false,
        };
        let is_more = !leased.is_empty();
        if is_more {
            self.busy_until = Some(Instant::now() + BUSY_FOR);
        }
        for delivery in leased {
            let target = delivery.target;
            *self.under_way.entry(target).or_default() += 1;
            let delivering = Delivering {
                store: self.store.clone(),
                rules: Arc::clone(&rules),
                metrics: self.metrics.clone(),
                delivery,
                lease,
            };
            self.tries.spawn(async move {
                delivering.run().await;
                target
            });
        }
        is_more
    }

    /// Rests until a try ends, there may be something, or it is time to look.
    async fn rest(&mut self) {
        let is_busy = self.busy_until.is_some_and(|until| Instant::now() < until);
        let pause = if is_busy { BUSY } else { IDLE };
        tokio::select! {
            ended = self.tries.join_next(), if !self.tries.is_empty() => {
                self.note_end(ended);
                while let Some(ended) = self.tries.try_join_next() {
                    self.note_end(Some(ended));
                }
            }
            () = self.bell.0.notified() => {
                self.busy_until = Some(Instant::now() + BUSY_FOR);
                self.rules.renew();
            }
            () = tokio::time::sleep(pause) => {}
        }
    }

    fn note_end(&mut self, ended: Option<Result<i64, tokio::task::JoinError>>) {
        match ended {
            Some(Ok(target)) => {
                if let Some(count) = self.under_way.get_mut(&target) {
                    *count -= 1;
                    if *count == 0 {
                        self.under_way.remove(&target);
                    }
                }
            }
            // Which target it was is not known any more; all are counted anew from here.
            Some(Err(error)) if error.is_panic() => {
                tracing::error!("telling of a job's end panicked; it is tried again when its lease ends");
                self.under_way.clear();
            }
            _ => {}
        }
    }
}
