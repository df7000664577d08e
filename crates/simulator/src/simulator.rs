//! The state that all connections share.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use sluice_domain::NanoUsd;

use crate::{
    accounts::Accounts,
    answer::PromptHash,
    config::SimulatorConfig,
    credentials::CredentialBook,
    error::SimulatorError,
    fault::FaultKind,
    ledger::{CallArrival, CallBook, CallEnd, CallRecord, Ended, LedgerFile},
};

/// A balance that nobody uses up.
const ENDLESS_BALANCE: NanoUsd = NanoUsd(1_000_000_000_000_000);

/// Counts since the start. They go on when old calls are forgotten.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SimulatorStats {
    /// Calls received.
    pub calls: u64,
    /// Calls that have not ended.
    pub open: u64,
    /// Calls that ended so.
    pub answered: u64,
    /// Calls that ended so.
    pub errors: u64,
    /// Calls that ended so.
    pub cut: u64,
    /// Ended calls by HTTP status.
    pub statuses: BTreeMap<u16, u64>,
    /// Ended calls by the fault that struck them.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Tokens of prompts that were billed, cached ones included.
    pub input_tokens: u64,
    /// Tokens of prompts that came from the context cache.
    pub cached_input_tokens: u64,
    /// Tokens of answers that were billed.
    pub output_tokens: u64,
    /// All that was billed, in billionths of a USD.
    pub cost_nano_usd: NanoUsd,
    /// Admitted calls under way.
    pub running: u64,
    /// The most admitted calls that were ever under way at once.
    pub max_concurrency_seen: u64,
    /// The same by account and model.
    pub concurrency: Vec<ModelConcurrency>,
    /// Requests that are no calls: `GET /models`, `/user/balance`.
    pub probes: u64,
    /// Tokens that `POST /oauth/token` gave.
    #[serde(default)]
    pub tokens_given: u64,
}

/// Calls under way of one account and model.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ModelConcurrency {
    /// The account.
    pub account: String,
    /// The model.
    pub model: String,
    /// Under way.
    pub running: u32,
    /// The most that ever were.
    pub max_running_seen: u32,
}

/// Everything.
pub(crate) struct Simulator {
    pub(crate) config: ArcSwap<SimulatorConfig>,
    pub(crate) accounts: Accounts,
    pub(crate) credentials: CredentialBook,
    ledger: Option<LedgerFile>,
    records: Mutex<Records>,
    running: AtomicU64,
    max_running: AtomicU64,
    probes: AtomicU64,
    /// How often each prompt came.
    occurrences: Mutex<HashMap<PromptHash, u32>>,
}

struct Records {
    book: CallBook,
    stats: SimulatorStats,
}

/// A panic under one of these locks leaves counts that are still usable.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Simulator {
    pub(crate) fn new(config: SimulatorConfig) -> Result<Self, SimulatorError> {
        let (ledger, first_call) = match &config.ledger {
            Some(path) => LedgerFile::open(path).map(|(file, first)| (Some(file), first))?,
            None => (None, 1),
        };
        let book = CallBook::new(first_call, config.max_calls_kept);
        Ok(Self {
            config: ArcSwap::from_pointee(config),
            accounts: Accounts::default(),
            credentials: CredentialBook::default(),
            ledger,
            records: Mutex::new(Records { book, stats: SimulatorStats::default() }),
            running: AtomicU64::new(0),
            max_running: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            occurrences: Mutex::new(HashMap::new()),
        })
    }

    /// Numbers a call and keeps it in memory.
    pub(crate) fn record_arrival(&self, arrival: CallArrival) -> CallArrival {
        let mut records = locked(&self.records);
        records.stats.calls += 1;
        records.stats.open += 1;
        records.book.arrive(arrival)
    }

    /// Comes back when the arrival is on disk; `false` where it can't be.
    pub(crate) async fn write_arrival(&self, arrival: CallArrival) -> bool {
        match &self.ledger {
            Some(ledger) => ledger.arrive(arrival).await,
            None => true,
        }
    }

    pub(crate) fn record_end(&self, end: CallEnd) {
        if let Some(ledger) = &self.ledger {
            ledger.end(end.clone());
        }
        let mut records = locked(&self.records);
        records.stats.count(&end);
        records.book.end(end);
    }

    pub(crate) fn call_starts(&self) {
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.max_running.fetch_max(running, Ordering::Relaxed);
    }

    pub(crate) fn call_stops(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn count_probe(&self) {
        self.probes.fetch_add(1, Ordering::Relaxed);
    }

    /// How often this prompt came before; this time is counted.
    pub(crate) fn occurrence(&self, prompt: PromptHash) -> u32 {
        let mut occurrences = locked(&self.occurrences);
        let count = occurrences.entry(prompt).or_insert(0);
        *count = count.saturating_add(1);
        *count - 1
    }

    /// What an account has at the start.
    pub(crate) fn initial_balance(&self) -> NanoUsd {
        let configured = self.config.load().balance_usd;
        configured.and_then(NanoUsd::from_usd).unwrap_or(ENDLESS_BALANCE)
    }

    pub(crate) fn calls_since(&self, after: u64) -> Vec<CallRecord> {
        locked(&self.records).book.since(after)
    }

    pub(crate) fn stats(&self) -> SimulatorStats {
        let concurrency =
            self.accounts.concurrency().into_iter().map(|(account, model, state)| ModelConcurrency {
                account,
                model,
                running: state.running,
                max_running_seen: state.max_running_seen,
            });
        SimulatorStats {
            running: self.running.load(Ordering::Relaxed),
            max_concurrency_seen: self.max_running.load(Ordering::Relaxed),
            probes: self.probes.load(Ordering::Relaxed),
            tokens_given: self.credentials.tokens_given(),
            concurrency: concurrency.collect(),
            ..locked(&self.records).stats.clone()
        }
    }
}

impl SimulatorStats {
    fn count(&mut self, end: &CallEnd) {
        self.open = self.open.saturating_sub(1);
        match end.ended {
            Ended::Answered => self.answered += 1,
            Ended::Error => self.errors += 1,
            Ended::Cut => self.cut += 1,
            Ended::Open => {}
        }
        if let Some(status) = end.status {
            *self.statuses.entry(status).or_insert(0) += 1;
        }
        if let Some(fault) = end.fault {
            *self.faults.entry(fault).or_insert(0) += 1;
        }
        self.input_tokens += end.usage.input_tokens;
        self.cached_input_tokens += end.usage.cached_input_tokens;
        self.output_tokens += end.usage.output_tokens;
        self.cost_nano_usd = self.cost_nano_usd + end.cost_nano_usd;
    }
}
