//! Tokens for those who wait for them.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_domain::{JobId, JobState, Outcome};
use sluice_store::{StreamEvent, StreamPosition};
use sluice_testkit::{JobBuilder, job};

use crate::world::{World, prompt};

fn streamed(text: &str) -> JobBuilder {
    let mut body = prompt(text);
    body["stream"] = json!(true);
    job().body(&body)
}

async fn events(world: &World, job: JobId) -> Vec<StreamEvent> {
    let position = StreamPosition { job, lease_no: 0, event_no: 0, limit: 10_000 };
    world.store.stream_events_read(&[position]).await.unwrap().into_iter().map(|(_, event)| event).collect()
}

fn text(events: &[StreamEvent]) -> String {
    let chunks = events.iter().filter_map(|event| serde_json::from_slice::<Value>(event.data.as_ref()?).ok());
    chunks.filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned())).collect()
}

#[tokio::test]
async fn a_stream_that_somebody_waits_for_can_be_read_when_its_job_has_ended() {
    let world = World::new().await;
    let id = world.submit(streamed("hello [[sim:none tokens=40]]").build()).await;
    world.store.streams_wait(&[id], Duration::from_mins(1)).await.unwrap();
    let handle = world.start().await;
    let done = world.until_state(id, JobState::Succeeded).await;
    let read = events(&world, id).await;
    handle.drain().await;
    assert!(read.len() > 5, "{}", read.len());
    for (number, event) in (0..).zip(&read) {
        assert_eq!((event.job, event.lease_no, event.event_no), (id, 1, number));
    }
    assert_eq!(read.last().unwrap().data.as_deref(), Some(&b"[DONE]"[..]));
    let body: Value = serde_json::from_slice(&done.result.unwrap().body).unwrap();
    assert_eq!(json!(text(&read)), body["choices"][0]["message"]["content"]);
}

#[tokio::test]
async fn nothing_is_written_of_a_stream_that_nobody_waits_for() {
    let world = World::new().await;
    let alone = world.submit(streamed("hello").build()).await;
    let over = world.submit(streamed("hello again").build()).await;
    world.store.streams_wait(&[over], Duration::ZERO).await.unwrap();
    world.work_all().await;
    assert_eq!(world.job(alone).await.state, JobState::Succeeded);
    assert_eq!(world.count("SELECT count(*) FROM sluice.stream_events").await, 0);
}

#[tokio::test]
async fn a_stream_that_breaks_off_says_so_and_the_next_attempt_is_another_stream() {
    let world = World::new().await;
    let id = world.submit(streamed("hello [[sim:close_mid_stream times=1 tokens=40]]").build()).await;
    world.store.streams_wait(&[id], Duration::from_mins(1)).await.unwrap();
    world.work_all().await;
    assert_eq!(world.outcomes(id).await, [Some(Outcome::Unknown), Some(Outcome::Succeeded)]);
    let (first, second): (Vec<_>, Vec<_>) =
        events(&world, id).await.into_iter().partition(|event| event.lease_no == 1);
    assert!(first.len() > 1 && first.iter().rev().skip(1).all(|event| event.data.is_some()));
    assert_eq!(first.last().unwrap().data, None);
    assert_eq!((second[0].lease_no, second[0].event_no), (2, 0));
    assert_eq!(second.last().unwrap().data.as_deref(), Some(&b"[DONE]"[..]));
}

#[tokio::test]
async fn who_comes_while_a_call_is_under_way_gets_its_stream_from_the_start() {
    let world = World::new().await;
    let id = world.submit(streamed("hello [[sim:stall tokens=40 duration_ms=2500]]").build()).await;
    let handle = world.start().await;
    world.until_running(1).await;
    world.store.streams_wait(&[id], Duration::from_mins(1)).await.unwrap();
    world.until_state(id, JobState::Succeeded).await;
    let read = events(&world, id).await;
    handle.drain().await;
    assert_eq!((read[0].lease_no, read[0].event_no), (1, 0));
    assert_eq!(read.last().unwrap().data.as_deref(), Some(&b"[DONE]"[..]));
}
