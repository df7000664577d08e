//! Spools on a real disk: what one owner leaves, the next one takes over.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use sluice_domain::{Decision, JobId, LeaseId, NanoUsd, Outcome, StoredAnswer};
use sluice_telemetry::MetricsRegistry;
use sluice_testkit::wait_until;
use tempfile::TempDir;

use super::*;

const DATABASE: Uuid = Uuid::from_u128(1);

fn metrics() -> WorkerMetrics {
    MetricsRegistry::new().expect("a registry").worker()
}

fn spool_of(folder: &Path, database: Uuid) -> Arc<Spool> {
    Arc::new(Spool::new(Some((SpoolOptions::new(folder), database)), metrics()))
}

fn settlement(body: &[u8]) -> Settlement {
    Settlement {
        job_id: JobId::generate(),
        lease_id: LeaseId::generate(),
        incarnation_id: IncarnationId::generate(),
        generation: 1,
        lease_no: 1,
        outcome: Outcome::Succeeded,
        decision: Decision::Succeed,
        error: None,
        answer: Some(StoredAnswer {
            status_code: 200,
            body: body.to_vec(),
            is_truncated: false,
            is_assembled: false,
        }),
        usage: None,
        cost: NanoUsd(5),
        call: None,
        call_duration: None,
        time_to_first_byte: None,
    }
}

fn loaded(places: &[Place]) -> Vec<Settlement> {
    places.iter().map(|place| place.load().expect("it is there")).collect()
}

/// The only file with records, of whoever owned it.
fn only_segment(folder: &Path) -> PathBuf {
    let (states, _) = inspect_spools(folder).expect("it can be looked at");
    let segments: Vec<PathBuf> =
        states.iter().flat_map(|state| folder::segments(&state.path).expect("a folder")).collect();
    assert_eq!(segments.len(), 1, "{segments:?}");
    segments[0].clone()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[tokio::test]
async fn what_a_dead_owner_left_is_taken_over_once_and_gone_when_it_is_done() {
    let folder = TempDir::new().unwrap();
    let first = spool_of(folder.path(), DATABASE);
    let kept = [settlement(b"one"), settlement(b"\0\xff"), settlement(b"")];
    let mut places = first.keep(&kept[..2]).await.unwrap();
    places.extend(first.keep(&kept[2..]).await.unwrap());
    assert_eq!(loaded(&places), kept);

    let next = spool_of(folder.path(), DATABASE);
    assert_eq!(next.adopt_dead().await.places.len(), 0, "its owner lives");
    first.done(vec![places.remove(1)]).await;
    drop((first, places));
    let adopted = next.adopt_dead().await;
    assert_eq!(loaded(&adopted.places), [kept[0].clone(), kept[2].clone()]);
    assert_eq!(spool_of(folder.path(), DATABASE).adopt_dead().await.places.len(), 0, "it has an owner again");

    next.done(adopted.places).await;
    assert_eq!(fs::read_dir(next.base().unwrap()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_lies_there_is_for_its_owner_alone() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("data").join("spool");
    let spool = spool_of(&root, DATABASE);
    let _places = spool.keep(&[settlement(b"private")]).await.unwrap();
    let own = spool.own_path().unwrap();
    for private in [&root, spool.base().unwrap(), &own] {
        assert_eq!(mode(private), 0o700, "{}", private.display());
    }
    for entry in fs::read_dir(&own).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn answers_of_another_database_are_left_alone() {
    let folder = TempDir::new().unwrap();
    let spool = spool_of(folder.path(), DATABASE);
    spool.keep(&[settlement(b"one")]).await.unwrap();
    drop(spool);
    let other = spool_of(folder.path(), Uuid::from_u128(2));
    assert_eq!(other.adopt_dead().await.places.len(), 0);
    let (states, _) = inspect_spools(folder.path()).unwrap();
    assert_eq!((states[0].database, states[0].has_owner, states[0].outcomes), (DATABASE, false, 1));
}

#[tokio::test]
async fn a_damaged_record_is_set_aside_and_the_others_are_taken_over() {
    let folder = TempDir::new().unwrap();
    let spool = spool_of(folder.path(), DATABASE);
    let kept = [settlement(b"one"), settlement(b"two"), settlement(b"three")];
    spool.keep(&kept).await.unwrap();
    drop(spool);
    let path = only_segment(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    let hit = bytes.windows(3).position(|window| window == b"two").unwrap();
    bytes[hit] ^= 0x20;
    fs::write(&path, bytes).unwrap();

    let next = spool_of(folder.path(), DATABASE);
    let adopted = next.adopt_dead().await;
    assert_eq!(loaded(&adopted.places), [kept[0].clone(), kept[2].clone()]);
    assert_eq!(adopted.corrupt, 1);
    next.done(adopted.places).await;
    let (states, set_aside) = inspect_spools(folder.path()).unwrap();
    assert_eq!((states, set_aside.len()), (Vec::new(), 1));
    let damaged = fs::read(&set_aside[0]).unwrap();
    assert!(damaged.windows(3).any(|window| window == b"Two"));
    assert_eq!(mode(&set_aside[0]), 0o600);
}

#[tokio::test]
async fn a_torn_end_costs_nothing_but_itself() {
    let folder = TempDir::new().unwrap();
    let spool = spool_of(folder.path(), DATABASE);
    let kept = [settlement(b"one"), settlement(b"two")];
    spool.keep(&kept).await.unwrap();
    drop(spool);
    let path = only_segment(folder.path());
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let next = spool_of(folder.path(), DATABASE);
    let adopted = next.adopt_dead().await;
    assert_eq!((loaded(&adopted.places), adopted.corrupt), (vec![kept[0].clone()], 0));
    next.done(adopted.places).await;
    assert!(!path.exists());
}

#[tokio::test]
async fn what_a_newer_program_wrote_stays_for_it() {
    let folder = TempDir::new().unwrap();
    let spool = spool_of(folder.path(), DATABASE);
    spool.keep(&[settlement(b"one")]).await.unwrap();
    let owner = spool.owner;
    drop(spool);
    let path = only_segment(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    assert!(frame::push(&mut bytes, owner, b"a form that nobody here knows"));
    fs::write(&path, bytes).unwrap();
    let next = spool_of(folder.path(), DATABASE);
    let adopted = next.adopt_dead().await;
    assert_eq!(adopted.places.len(), 1);
    next.done(adopted.places).await;
    assert!(path.exists());
    assert_eq!(next.adopt_dead().await.places.len(), 0, "what was settled is not settled again");
    let (states, _) = inspect_spools(folder.path()).unwrap();
    assert_eq!(states[0].outcomes, 1);
}

#[tokio::test]
async fn a_disk_that_can_not_be_written_is_told_and_tried_again() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("spool");
    fs::write(&root, "a file where the folder should be").unwrap();
    let spool = spool_of(&root, DATABASE);
    assert!(spool.keep(&[settlement(b"one")]).await.is_none());
    assert!(spool.has_room(), "the bound is that of memory");
    fs::remove_file(&root).unwrap();
    assert_eq!(spool.keep(&[settlement(b"one")]).await.unwrap().len(), 1);
}

/// A spool whose disk is not waited for as long as usual; long enough for a busy machine.
fn impatient_spool(folder: &Path) -> Arc<Spool> {
    let spool = Spool::new(Some((SpoolOptions::new(folder), DATABASE)), metrics());
    Arc::new(Spool { disk: Arc::new(Disk::with_patience(Duration::from_secs(3))), ..spool })
}

async fn until_it_goes_on(spool: &Spool) {
    wait_until("the disk to go on", Duration::from_secs(30), async || !spool.disk.is_stuck()).await;
}

#[tokio::test]
async fn a_disk_that_hangs_is_not_waited_for_and_what_it_took_too_late_is_undone() {
    let folder = TempDir::new().unwrap();
    let spool = impatient_spool(folder.path());
    let places = spool.keep(&[settlement(b"before")]).await.unwrap();
    // As whoever hangs on the disk holds it.
    let (hangs, own) = (Arc::clone(&spool), std::sync::mpsc::channel::<()>());
    let (goes_on, waits) = own;
    let (is_held, held) = tokio::sync::oneshot::channel();
    let hanging = std::thread::spawn(move || {
        let _own = hangs.own();
        is_held.send(()).unwrap();
        waits.recv().unwrap_err();
    });
    held.await.unwrap();

    assert!(spool.keep(&[settlement(b"late")]).await.is_none());
    assert!(spool.disk.is_stuck());
    assert!(spool.keep(&[settlement(b"never")]).await.is_none(), "it is not even tried");
    assert!(spool.load(places.clone()).await.is_none(), "nor is a look");
    spool.done(places).await;
    spool.close(Vec::new()).await;

    drop(goes_on);
    hanging.join().unwrap();
    until_it_goes_on(&spool).await;
    let (states, set_aside) = inspect_spools(folder.path()).unwrap();
    assert_eq!(states.iter().map(|state| state.outcomes).sum::<usize>(), 0, "{states:?}");
    assert_eq!((set_aside.len(), spool.outcomes.load(Ordering::Relaxed)), (0, 0));
    assert_eq!(spool.keep(&[settlement(b"after")]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn whoever_starts_sees_that_another_has_taken_over() {
    let folder = TempDir::new().unwrap();
    let dead = spool_of(folder.path(), DATABASE);
    dead.keep(&[settlement(b"one")]).await.unwrap();
    let (first, second) = (spool_of(folder.path(), DATABASE), spool_of(folder.path(), DATABASE));
    let seen = first.adopt_dead().await;
    assert_eq!((seen.places.len(), seen.with_others, seen.with_owners), (0, 0, 1));
    drop(dead);
    let adopted = first.adopt_dead().await;
    assert_eq!(adopted.places.len(), 1);
    let seen = second.adopt_dead().await;
    assert_eq!((seen.places.len(), seen.with_others, seen.with_owners), (0, 1, 0));
    first.done(adopted.places).await;
    let seen = second.adopt_dead().await;
    assert_eq!((seen.places.len(), seen.with_others, seen.with_owners), (0, 0, 0));
}

#[tokio::test]
async fn a_spool_is_full_by_bytes_and_by_outcomes() {
    for (max_bytes, max_outcomes) in [(1, 100), (1 << 30, 2)] {
        let folder = TempDir::new().unwrap();
        let options = SpoolOptions { max_bytes, max_outcomes, ..SpoolOptions::new(folder.path()) };
        let spool = Arc::new(Spool::new(Some((options, DATABASE)), metrics()));
        assert!(spool.has_room());
        let places = spool.keep(&[settlement(b"one"), settlement(b"two")]).await.unwrap();
        assert!(!spool.has_room());
        let more = spool.keep(&[settlement(b"three")]).await.unwrap();
        assert_eq!(more.len(), 1, "what was paid for is taken all the same");
        spool.done(places.into_iter().chain(more).collect()).await;
        assert!(spool.has_room());
    }
}

#[tokio::test]
async fn files_go_one_by_one_as_their_records_are_done() {
    let folder = TempDir::new().unwrap();
    let spool = spool_of(folder.path(), DATABASE);
    let large = settlement(&vec![b'x'; MAX_SEGMENT_BYTES as usize]);
    let first = spool.keep(std::slice::from_ref(&large)).await.unwrap();
    let second = spool.keep(&[large]).await.unwrap();
    let own = spool.own_path().unwrap();
    assert_eq!(folder::segments(&own).unwrap().len(), 2);
    spool.done(first).await;
    assert_eq!(folder::segments(&own).unwrap().len(), 1);
    spool.done(second).await;
    assert_eq!(folder::segments(&own).unwrap().len(), 0);
    spool.close(Vec::new()).await;
    assert!(!own.exists());
}
