//! Beliefs: what leases keep to where the provider does not tell how many calls it takes at once.

use sluice_domain::{DeclaredLimit, LimitSubject, ModelName};
use sluice_store::{NewBelief, StoredBelief};
use sluice_testkit::job;

use crate::{
    fixture::Fixture,
    limits::{lease_limited, slots},
};

fn found_out(floor: u64, ceiling: u64) -> DeclaredLimit {
    DeclaredLimit { floor: Some(floor), ..slots(ceiling) }
}

fn of_all_models(floor: u64, ceiling: u64) -> DeclaredLimit {
    let subject = LimitSubject::Account { account: "main".to_owned(), model: None };
    DeclaredLimit { subject, ..found_out(floor, ceiling) }
}

async fn believe(
    f: &Fixture,
    limit: &DeclaredLimit,
    seen: i64,
    cap: u64,
    because: &str,
) -> Option<StoredBelief> {
    let belief = NewBelief { cap, refused_at: Some(9), raises: 0, falls: 1, because };
    f.store.limit_believe_if_newest(limit.id(), seen, belief).await.unwrap()
}

#[tokio::test]
async fn leases_keep_to_what_is_believed_within_its_bounds() {
    let f = Fixture::new().await;
    let limits = [found_out(2, 5)];
    f.store.limits_declare(&limits).await.unwrap();
    f.store.submit_many(&job().times(20)).await.unwrap();
    let worker = f.incarnation().await;
    assert_eq!(
        lease_limited(&f, worker, &limits, 9).await.jobs.len(),
        2,
        "the floor, before anybody believes"
    );
    believe(&f, &limits[0], 0, 4, "raised").await;
    assert_eq!(lease_limited(&f, worker, &limits, 9).await.jobs.len(), 2);
    believe(&f, &limits[0], 1, 100, "raised").await;
    let last = lease_limited(&f, worker, &limits, 9).await;
    assert_eq!((last.jobs.len(), last.no_room.len()), (1, 1), "the ceiling");
    let known = f.store.limits().await.unwrap().remove(0);
    let belief = known.belief.unwrap();
    assert_eq!((known.limit.cap, known.used, belief.ceiling), (5, 5, 5));
    assert_eq!(
        (belief.because.as_str(), belief.refused_at, belief.since.is_some()),
        ("raised", Some(9), true)
    );
}

#[tokio::test]
async fn what_is_believed_of_one_limit_says_nothing_of_another() {
    let f = Fixture::new().await;
    let limits = [found_out(1, 9), of_all_models(1, 9)];
    f.store.limits_declare(&limits).await.unwrap();
    f.store.submit_many(&job().times(20)).await.unwrap();
    let worker = f.incarnation().await;
    believe(&f, &limits[0], 0, 6, "raised").await;
    assert_eq!(lease_limited(&f, worker, &limits[1..], 9).await.jobs.len(), 1, "the floor");
    assert_eq!(lease_limited(&f, worker, &limits[..1], 9).await.jobs.len(), 6);
    believe(&f, &limits[1], 0, 3, "raised").await;
    assert_eq!(lease_limited(&f, worker, &limits[1..], 9).await.jobs.len(), 2);
}

#[tokio::test]
async fn of_two_that_saw_the_same_one_gets_through_and_both_hear_what_counts() {
    let f = Fixture::new().await;
    let limit = found_out(1, 100);
    f.store.limits_declare(std::slice::from_ref(&limit)).await.unwrap();
    let first = believe(&f, &limit, 0, 8, "begun").await.unwrap();
    assert_eq!((first.version, first.cap, first.lowered), (1, 8, None));
    let fallen = believe(&f, &limit, 1, 7, "refused").await.unwrap();
    assert!(fallen.version == 2 && fallen.lowered.is_some());
    let late = believe(&f, &limit, 1, 16, "raised").await.unwrap();
    assert_eq!((late.version, late.cap, late.because.as_str()), (2, 7, "refused"));
    let raised = believe(&f, &limit, 2, 8, "raised").await.unwrap();
    assert!(raised.lowered.unwrap() >= fallen.lowered.unwrap(), "when it fell last stays known");
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM sluice.limit_beliefs")
        .fetch_one(f.database.pool())
        .await
        .unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn many_at_once_write_one_belief_each_in_turn() {
    let f = std::sync::Arc::new(Fixture::new().await);
    let limit = found_out(1, 1_000);
    f.store.limits_declare(std::slice::from_ref(&limit)).await.unwrap();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (f, limit) = (std::sync::Arc::clone(&f), limit.clone());
        all.spawn(async move {
            let (mut seen, mut written) = (0, 0);
            while written < 5 {
                let newest = believe(&f, &limit, seen, 100 + seen as u64, "raised").await.unwrap();
                written += u32::from(newest.version == seen + 1 && newest.cap == 100 + seen as u64);
                seen = newest.version;
            }
        });
    }
    all.join_all().await;
    assert!(believe(&f, &limit, -1, 1, "raised").await.unwrap().version >= 5);
}

#[tokio::test]
async fn what_is_told_is_not_believed_about() {
    let f = Fixture::new().await;
    let told = slots(5);
    assert_eq!(believe(&f, &told, 0, 8, "begun").await, None, "not declared");
    f.store.limits_declare(std::slice::from_ref(&told)).await.unwrap();
    assert_eq!(believe(&f, &told, 0, 8, "begun").await, None);
    assert_eq!(f.store.limits().await.unwrap()[0].belief, None);
}

#[tokio::test]
async fn what_is_said_of_all_models_of_an_account_follows_the_configuration_for_each() {
    let f = Fixture::new().await;
    let of = |model: &str, limit: DeclaredLimit| {
        let model = Some(ModelName::from_stored(model.to_owned()));
        DeclaredLimit { subject: LimitSubject::Account { account: "main".to_owned(), model }, ..limit }
    };
    f.store.configuration_apply_if_newest(0, "a", &[of_all_models(1, 100)], "test").await.unwrap();
    let both = [of("x", found_out(1, 100)), of("y", found_out(1, 100))];
    f.store.limits_ensure_if_newest(1, &both).await.unwrap();
    let seen = async || {
        let listed = f.store.limits().await.unwrap();
        let row = |known: &sluice_store::LimitUse| {
            (
                known.limit.subject.model().to_owned(),
                known.limit.floor,
                known.belief.as_ref().map(|b| b.ceiling),
            )
        };
        listed.iter().map(row).collect::<Vec<_>>()
    };
    let row = |model: &str, floor, ceiling| (model.to_owned(), floor, ceiling);
    assert_eq!(seen().await, [row("x", Some(1), Some(100)), row("y", Some(1), Some(100))]);
    let next = [of_all_models(3, 50), of("y", slots(7))];
    f.store.configuration_apply_if_newest(1, "b", &next, "test").await.unwrap();
    assert_eq!(seen().await, [row("x", Some(3), Some(50)), row("y", None, None)]);
    f.store.configuration_apply_if_newest(2, "c", &[], "test").await.unwrap();
    assert_eq!(seen().await, []);
}
