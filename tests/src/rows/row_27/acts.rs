//! Every public async function of the store, as something that can be begun again and again. A test compares the list with
//! the sources.

use std::{num::NonZeroU32, time::Duration};

use anyhow::Result;
use futures::future::BoxFuture;
use sluice_domain::QueueName;
use sluice_scheduler::{DryRun, Gates, cancel_matching, explain, release_matching, replay_matching};
use sluice_store::{
    Bodies, CooledGate, DatabaseUrl, Doorbell, NewBelief, PausedKind, ReapRequest, Store, StoreOptions,
    WorkerLoad,
};

use super::stage::Props;
use crate::lab::by_hand;

type Run = for<'a> fn(&'a Store, &'a Props) -> BoxFuture<'a, Result<()>>;

/// One function, and how it is called.
pub struct Act {
    /// Its name, and that of others that it calls on the way.
    pub names: &'static [&'static str],
    /// Calls it.
    pub run: Run,
}

/// `act!(name, other…: |store, props| expression)`: the expression's success is what must come of it.
macro_rules! act {
    ($($name:ident),+ : |$store:ident, $props:ident| $body:expr) => {
        Act {
            names: &[$(stringify!($name)),+],
            run: |$store, $props| Box::pin(async move {
                let _ = (&$store, &$props);
                $body.await?;
                Ok(())
            }),
        }
    };
}

const WEEK: Duration = Duration::from_hours(7 * 24);

/// Submitting, leasing, settling.
pub fn hot() -> Vec<Act> {
    vec![
        act!(ping: |store, props| store.ping()),
        act!(submit: |store, props| store.submit(&props.fresh)),
        act!(submit_many: |store, props| store.submit_many(&props.many)),
        act!(submit_many_if_keys_free: |store, props| {
            store.submit_many_if_keys_free(&props.keyed, Duration::from_millis(5))
        }),
        act!(submit_keyless: |store, props| async {
            let mut connection = store.submit_connection();
            connection.submit_many_if_keys_free(&props.keyed, Duration::from_millis(5)).await?;
            connection.submit_keyless(&props.fresh, true).await
        }),
        act!(board, lease_many: |store, props| by_hand::lease(store, props.incarnation, 2)),
        act!(limits_declare, lease_limited_many: |store, props| by_hand::lease_limited(store, props.incarnation, 2)),
        act!(board_above: |store, props| store.board_above(None, None, &[])),
        act!(lease_hand_back_many: |store, props| {
            store.lease_hand_back_many(props.incarnation, &props.leases)
        }),
        act!(leases_older_than: |store, props| store.leases_older_than(props.incarnation, Duration::ZERO)),
        act!(leases_lose: |store, props| store.leases_lose(&props.leases)),
        // One that is current and one that is late: both statements.
        act!(settle_many: |store, props| store.settle_many(&props.settlements)),
        act!(beat_connection, beat: |store, props| async {
            let mut connection = store.beat_connection().await?;
            connection.beat(props.incarnation, WorkerLoad::default()).await
        }),
    ]
}

/// What people and clients ask for.
pub fn asked_by_people() -> Vec<Act> {
    vec![
        act!(job_cancel: |store, props| store.job_cancel(&props.tenant, props.leased.job_id)),
        act!(job_release: |store, props| store.job_release(&props.tenant, props.held)),
        act!(job_replay_if_ended: |store, props| {
            store.job_replay_if_ended(&props.tenant, props.ended, Duration::ZERO)
        }),
        act!(job: |store, props| store.job(&props.tenant, props.ended, Bodies::Included)),
        act!(jobs_by_id: |store, props| store.jobs_by_id(&[props.ended, props.queued], Bodies::Included)),
        act!(job_ids_matching: |store, props| {
            store.job_ids_matching(&props.tenant, &props.filter, None, 10)
        }),
        act!(jobs_ended_among: |store, props| store.jobs_ended_among(&[props.ended])),
        act!(jobs_held_among: |store, props| store.jobs_held_among(&[props.held])),
        act!(job_request_body: |store, props| store.job_request_body(&props.tenant, props.ended)),
        act!(attempts: |store, props| store.attempts(&props.tenant, props.ended)),
        act!(job_standing: |store, props| store.job_standing(props.queued)),
        act!(queue_pause: |store, props| store.queue_pause(&props.tenant, &QueueName::default())),
        act!(queue_resume: |store, props| store.queue_resume(&props.tenant, &QueueName::default())),
        act!(queues_paused: |store, props| store.queues_paused(&props.tenant)),
        act!(queue_depths: |store, props| store.queue_depths(None)),
        act!(pause: |store, props| store.pause(PausedKind::Upstream, "up", "why")),
        act!(resume: |store, props| store.resume(PausedKind::Upstream, "up")),
        act!(pauses: |store, props| store.pauses()),
        act!(breaker_open: |store, props| store.breaker_open("up", "why", WEEK)),
        act!(breakers_open: |store, props| store.breakers_open()),
        act!(breaker_claim_probe: |store, props| store.breaker_claim_probe("up", WEEK)),
        act!(breaker_claim_trial: |store, props| {
            store.breaker_claim_trial("up", props.incarnation, WEEK, true)
        }),
        act!(breaker_trial_failed: |store, props| {
            store.breaker_trial_failed("up", props.incarnation, WEEK, WEEK)
        }),
        act!(breaker_trial_given_back: |store, props| {
            store.breaker_trial_given_back("up", props.incarnation)
        }),
        act!(breaker_close: |store, props| store.breaker_close("up")),
        act!(configuration: |store, props| store.configuration()),
        act!(configuration_history: |store, props| store.configuration_history(5)),
        act!(configuration_apply_if_newest: |store, props| {
            store.configuration_apply_if_newest(0, super::stage::CONFIGURATION, &[], "row 27")
        }),
        act!(limits: |store, props| store.limits()),
        act!(limits_ensure_if_newest: |store, props| async {
            store.limits_ensure_if_newest(1, &[by_hand::a_limit()]).await
        }),
        act!(limit_believe_if_newest: |store, props| async {
            let belief = NewBelief { cap: 8, refused_at: None, raises: 0, falls: 0, because: "begun" };
            store.limit_believe_if_newest(by_hand::a_limit().id(), 0, belief).await
        }),
        act!(cooldown_close, cooldown_ask: |store, props| async {
            let gate = CooledGate { kind: PausedKind::Account, name: "acc".to_owned(), model: "m".to_owned() };
            store.cooldown_close(&gate, Duration::ZERO, "why", true, &["m".to_owned()]).await?;
            store.cooldown_ask(&gate).await
        }),
        act!(cooldowns: |store, props| store.cooldowns()),
        act!(explain: |store, props| async {
            explain(store, None, &props.tenant, props.queued).await.map_err(anyhow::Error::from)
        }),
        act!(read, read_with: |store, props| Gates::read(store, &props.tenant)),
        act!(replay_matching: |store, props| {
            replay_matching(store, &props.tenant, &props.filter, Some(2), None, DryRun::No)
        }),
        act!(cancel_matching: |store, props| {
            cancel_matching(store, &props.tenant, &props.anything, Some(2), DryRun::No)
        }),
        act!(release_matching: |store, props| {
            release_matching(store, &props.tenant, &props.anything, Some(2), DryRun::No)
        }),
    ]
}

/// Who may come in.
pub fn access() -> Vec<Act> {
    vec![
        act!(api_key_create: |store, props| store.api_key_create(&props.new_key)),
        act!(api_key_replace_if_valid: |store, props| {
            store.api_key_replace_if_valid(props.key, &props.next_key)
        }),
        act!(api_key_revoke: |store, props| store.api_key_revoke(props.key)),
        act!(api_keys: |store, props| store.api_keys(None)),
        act!(api_keys_lookup: |store, props| store.api_keys_lookup(&[props.new_key.hash])),
        act!(api_keys_note_use: |store, props| store.api_keys_note_use(&[(props.key, Duration::ZERO)])),
        act!(key_allowance_take: |store, props| store.key_allowance_take(props.key, NonZeroU32::MIN, 1)),
        act!(waiting_count: |store, props| store.waiting_count(&props.tenant, None, 10)),
        act!(nonce_note_if_new: |store, props| store.nonce_note_if_new("row-27", "nonce", WEEK)),
    ]
}

/// What processes do for themselves.
pub fn upkeep() -> Vec<Act> {
    vec![
        act!(connect, close: |store, props| async {
            let other = Store::connect(&StoreOptions { max_connections: 1, ..props.options.clone() }).await?;
            other.close().await;
            anyhow::Ok(())
        }),
        act!(database_now: |store, props| store.database_now()),
        act!(server_facts: |store, props| store.server_facts()),
        act!(connection_kind: |store, props| store.connection_kind(DatabaseUrl::Direct)),
        act!(schema_state: |store, props| store.schema_state()),
        act!(migrate: |store, props| store.migrate()),
        act!(ring: |store, props| store.ring(Doorbell::Ended)),
        act!(wake_sleepers: |store, props| store.wake_sleepers()),
        act!(listen, heard: |store, props| async {
            let mut listener = store.listen(&[Doorbell::Ended]).await?;
            store.ring(Doorbell::Ended).await?;
            listener.heard().await
        }),
        act!(incarnation_start: |store, props| by_hand::begin_incarnation(store)),
        act!(incarnation_sleep: |store, props| store.incarnation_sleep(props.incarnation)),
        act!(incarnation_wake: |store, props| store.incarnation_wake(props.incarnation)),
        act!(incarnation_end: |store, props| store.incarnation_end(props.incarnation)),
        act!(incarnation_end_if_unlocked: |store, props| {
            store.incarnation_end_if_unlocked(props.incarnation)
        }),
        act!(workers: |store, props| store.workers()),
        act!(workers_of_host: |store, props| store.workers_of_host("nowhere")),
        act!(orphans_expire: |store, props| store.orphans_expire()),
        act!(lease_health: |store, props| store.lease_health(WEEK)),
        act!(database_id: |store, props| store.database_id()),
        act!(body_compression: |store, props| store.body_compression()),
        act!(doorbell_is_heard: |store, props| store.doorbell_is_heard(Duration::from_secs(5))),
        act!(reap: |store, props| store.reap(ReapRequest { ttl: WEEK, expected: None })),
        act!(deadlines_end: |store, props| store.deadlines_end(10)),
        act!(partitions_ensure: |store, props| store.partitions_ensure(5)),
        act!(partitions_drop: |store, props| store.partitions_drop(WEEK, WEEK)),
        act!(incarnations_forget: |store, props| store.incarnations_forget()),
    ]
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;
    use crate::rows::row_27::handles::handles;

    /// The names of all `pub async fn` in a crate's sources.
    fn public_async_functions(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                public_async_functions(&path, found);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let names = text.lines().filter_map(|line| line.trim().strip_prefix("pub async fn "));
                found.extend(names.filter_map(|rest| rest.split(['(', '<']).next()).map(str::to_owned));
            }
        }
    }

    /// Those of a crate's that are not among the names.
    fn missing(sources: &str, listed: &BTreeSet<&str>) -> Vec<String> {
        let mut expected = BTreeSet::new();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        public_async_functions(&root.join(sources), &mut expected);
        assert!(!expected.is_empty(), "{sources} has no public async function");
        expected.into_iter().filter(|name| !listed.contains(name.as_str())).collect()
    }

    #[test]
    fn no_public_async_function_is_left_out() {
        let acts = [hot(), asked_by_people(), access(), upkeep(), super::super::door_acts::door()]
            .into_iter()
            .flatten();
        let questions: BTreeSet<&str> = acts.flat_map(|act| act.names.iter().copied()).collect();
        let none: Vec<String> = Vec::new();
        assert_eq!(missing("crates/store/src", &questions), none);
        for name in ["worker", "scheduler"] {
            let handles = handles().into_iter().map(|act| act.name);
            let of_crate = handles.filter(|of| of.0 == name).map(|of| of.1);
            let listed: BTreeSet<&str> = questions.iter().copied().chain(of_crate).collect();
            assert_eq!(missing(&format!("{name}/src"), &listed), none);
        }
    }
}
