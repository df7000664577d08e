//! The clients: submits over REST with keys, at a steady pace, until told to stop.
//!
//! A client writes down what it was told: *ok* with an id, *failed* (the server says that it did not take the job), or
//! *unknown* (no answer, or the server says that it doesn't know). What is unknown is repeated with the same key until
//! it is known, as a careful client would.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use sluice_domain::JobId;
use tokio::{task::JoinSet, time::MissedTickBehavior};

use super::Lab;
use crate::history::{Acknowledged, WhenUnknown};

/// A submit that was not answered within this time is unknown.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries of what is unknown.
const PAUSE: Duration = Duration::from_millis(300);
/// When a client gives up on what is unknown.
const MOST: Duration = Duration::from_mins(5);

/// What is submitted.
#[derive(Clone, Copy, Debug)]
pub struct LoadPlan {
    /// Decides priorities and who wants unknown outcomes held.
    pub seed: u64,
    /// Jobs a second.
    pub per_second: f64,
    /// The most jobs; then it stops by itself.
    pub most: usize,
    /// How many of the jobs are to be held where their outcome is unknown, from 0 to 1.
    pub hold_share: f64,
}

/// What clients were told.
#[derive(Clone, Default, Debug)]
pub struct Told {
    /// Acknowledged submits, one for each answer.
    pub acknowledged: Vec<Acknowledged>,
    /// Keys whose submit was refused.
    pub failed: Vec<String>,
    /// Answers that left it unknown whether the job is there.
    pub unknown_answers: usize,
    /// Keys that were still unknown when their client gave up.
    pub never_told: BTreeSet<String>,
    /// How long the slowest answer with an error took.
    pub slowest_refusal: Duration,
}

impl Told {
    /// Takes in what the clients of another load were told.
    pub fn add(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.failed.extend(other.failed);
        self.unknown_answers += other.unknown_answers;
        self.never_told.extend(other.never_told);
        self.slowest_refusal = self.slowest_refusal.max(other.slowest_refusal);
    }
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    pacing: tokio::task::JoinHandle<JoinSet<()>>,
}

#[derive(Debug)]
struct Shared {
    client: reqwest::Client,
    urls: Vec<String>,
    told: Mutex<Told>,
    is_stopping: AtomicBool,
    acknowledged: AtomicUsize,
}

struct Submit {
    key: String,
    when_unknown: WhenUnknown,
    body: Value,
}

enum Answer {
    Ok(JobId),
    Failed,
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Leave,
    Repeat,
}

impl Load {
    /// Starts submitting to the lab's schedulers in turn.
    pub fn start(lab: &Lab, plan: LoadPlan) -> Result<Self> {
        let urls = lab.schedulers.iter().map(|scheduler| scheduler.url.clone()).collect();
        let client = reqwest::Client::builder().timeout(PATIENCE).build().context("make a client")?;
        let shared = Arc::new(Shared {
            client,
            urls,
            told: Mutex::default(),
            is_stopping: AtomicBool::new(false),
            acknowledged: AtomicUsize::new(0),
        });
        let pacing = tokio::spawn(pace(Arc::clone(&shared), plan));
        Ok(Self { shared, pacing })
    }

    /// How many submits were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Submits nothing more, waits until every client knows what became of its job, and gives what they were told.
    pub async fn stop(self) -> Result<Told> {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        self.finish().await
    }

    /// Waits until all of the plan's jobs were submitted, and gives what clients were told.
    pub async fn finish(self) -> Result<Told> {
        let mut clients = self.pacing.await.context("the load's pace")?;
        while let Some(ended) = clients.join_next().await {
            ended.context("a client")?;
        }
        Ok(self.shared.told().clone())
    }
}

impl Shared {
    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One client: submits until it knows.
    async fn submit(&self, number: usize, submit: Submit) {
        let begun = Instant::now();
        for turn in number.. {
            let sent = Instant::now();
            let answer = self.ask(turn, &submit).await;
            if self.note(&submit, &answer, sent.elapsed(), begun.elapsed()) == Next::Leave {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Writes down what a client was told after `took`, `waited` in all.
    fn note(&self, submit: &Submit, answer: &Answer, took: Duration, waited: Duration) -> Next {
        let mut told = self.told();
        match answer {
            Answer::Ok(job_id) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                let Submit { key, when_unknown, .. } = submit;
                let (key, when_unknown) = (key.clone(), *when_unknown);
                told.acknowledged.push(Acknowledged { key, job_id: *job_id, when_unknown });
                Next::Leave
            }
            Answer::Failed => {
                told.failed.push(submit.key.clone());
                Next::Leave
            }
            Answer::Unknown => {
                told.unknown_answers += 1;
                told.slowest_refusal = told.slowest_refusal.max(took);
                if waited <= MOST {
                    return Next::Repeat;
                }
                told.never_told.insert(submit.key.clone());
                Next::Leave
            }
        }
    }

    async fn ask(&self, turn: usize, submit: &Submit) -> Answer {
        let url = format!("{}/v1/jobs", self.urls[turn % self.urls.len()]);
        let Ok(answer) = self.client.post(url).json(&submit.body).send().await else {
            return Answer::Unknown;
        };
        let status = answer.status();
        if status.is_client_error() {
            return Answer::Failed;
        }
        let body = answer.json::<Value>().await.unwrap_or_default();
        let id = body["id"].as_str().and_then(|id| id.parse().ok());
        id.filter(|_| status.is_success()).map_or(Answer::Unknown, Answer::Ok)
    }
}

/// Starts a client for each job, at the plan's pace; gives the clients that are under way at its end.
async fn pace(shared: Arc<Shared>, plan: LoadPlan) -> JoinSet<()> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut clients = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / plan.per_second));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..plan.most {
        tick.tick().await;
        if shared.is_stopping.load(Ordering::Relaxed) {
            break;
        }
        let submit = submit_of(number, &plan, &mut random);
        let shared = Arc::clone(&shared);
        clients.spawn(async move { shared.submit(number, submit).await });
        while clients.try_join_next().is_some() {}
    }
    clients
}

fn submit_of(number: usize, plan: &LoadPlan, random: &mut StdRng) -> Submit {
    let key = format!("job-{}-{number}", plan.seed);
    let when_unknown =
        if random.random_bool(plan.hold_share) { WhenUnknown::Hold } else { WhenUnknown::Repeat };
    let on_unknown = if when_unknown == WhenUnknown::Hold { "hold" } else { "retry" };
    let body = json!({
        "body": {"model": "deepseek-flash", "user": key, "max_tokens": 16,
                 "messages": [{"role": "user", "content": format!("What is {number} times two?")}]},
        "priority": random.random_range(1..=5),
        "idempotency_key": key,
        "on_unknown": on_unknown,
    });
    Submit { key, when_unknown, body }
}
