//! Row 27: every public async function dropped at each of its awaits. No connection stays in a transaction, no permit of
//! the pool is lost, and the same function then works.
//!
//! A future is polled n times and dropped, for n from 0 until it ends by itself; in between the store, which has a
//! single connection, must answer, and the server must see no transaction of it.

mod acts;
mod door_acts;
mod handles;
mod stage;

use std::{future::poll_fn, pin::pin, task::Poll};

use anyhow::{Context, Result, ensure};
use futures::FutureExt;

use self::{acts::Act, handles::HandleAct, stage::Stage};
use super::{Case, Report, Row};

/// See the head of this file.
pub const ROW: Row = Row {
    number: 27,
    name: "every public async function dropped at each of its awaits",
    done: "Each function of store, worker and scheduler is polled n times and dropped, for each n until it ends by itself, over a single connection.",
    must_hold: "No connection is left in a transaction, no permit of the pool is lost, and the function then works.",
    run: |case| run(case).boxed_local(),
};

/// More polls than any function needs.
const MOST_POLLS: usize = 2_000;

/// Drops everything everywhere.
pub async fn run(case: &Case) -> Result<Report> {
    let mut stage = Stage::new().await?;
    let mut drops = 0;
    let acts: Vec<Act> =
        [acts::hot(), acts::asked_by_people(), acts::access(), acts::upkeep(), door_acts::door()]
            .into_iter()
            .flatten()
            .collect();
    for act in &acts {
        drops += drop_everywhere(&mut stage, act)
            .await
            .with_context(|| format!("drop {} at each of its awaits", act.names.join(" and ")))?;
    }
    let handles = handles::handles();
    for act in &handles {
        drops += drop_handle_everywhere(&stage, act)
            .await
            .with_context(|| format!("drop {}'s {} at each of its awaits", act.name.0, act.name.1))?;
    }
    let functions = acts.len() + handles.len();
    ensure!(drops > functions, "only {drops} drops of {functions} functions: they were hardly polled");
    let detail = format!("{functions} functions dropped {drops} times; 0 connections left in a transaction");
    Ok(Report { detail, ..Report::sound(case) })
}

/// Says how often it was dropped.
async fn drop_everywhere(stage: &mut Stage, act: &Act) -> Result<usize> {
    for polls in 0..MOST_POLLS {
        let props = stage.props().await?;
        let ended = polled((act.run)(&stage.store, &props), polls).await;
        stage.is_quiet().await.with_context(|| format!("after {polls} polls"))?;
        stage.clear().await?;
        if let Some(outcome) = ended {
            outcome.context("let it end by itself")?;
            return Ok(polls);
        }
    }
    anyhow::bail!("it does not end within {MOST_POLLS} polls");
}

/// As [`drop_everywhere`], of what starts or ends a part of the product.
async fn drop_handle_everywhere(stage: &Stage, act: &HandleAct) -> Result<usize> {
    for polls in 0..MOST_POLLS {
        let has_ended =
            (act.run)(&stage.store, polls).await.with_context(|| format!("after {polls} polls"))?;
        stage.is_quiet().await.with_context(|| format!("after {polls} polls"))?;
        stage.clear().await?;
        if has_ended {
            return Ok(polls);
        }
    }
    anyhow::bail!("it does not end within {MOST_POLLS} polls");
}

/// Polls a future so many times at most. `None`: it was dropped, just after it said that it waits.
async fn polled<F: Future>(future: F, most: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|context| {
        if polls == most {
            return Poll::Ready(None);
        }
        polls += 1;
        match future.as_mut().poll(context) {
            Poll::Pending if polls == most => Poll::Ready(None),
            polled => polled.map(Some),
        }
    })
    .await
}
