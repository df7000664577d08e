//! What the product shows, beside what the model says.

use reqwest::StatusCode;
use serde_json::Value;
use sluice_domain::{ErrorClass, JobView, Outcome};
use sluice_store::Bodies;
use sqlx::Row;

use crate::{
    model::{Model, QUEUES, Shown},
    system::System,
};

/// After each action: all jobs and queues as the store shows them, and one job by every other door.
pub fn check(system: &System, model: &Model) {
    assert_eq!(system.jobs.len(), model.jobs.len(), "jobs that are not the model's");
    let views = system.world.wait(system.world.store.jobs_by_id(&system.jobs, Bodies::Included));
    let views = views.expect("jobs can be read");
    let shown: Vec<Shown> = views.iter().map(shown).collect();
    let expected: Vec<Shown> = (0..model.jobs.len()).map(|job| model.shown(job)).collect();
    assert_eq!(shown, expected, "the jobs as the store shows them");
    for (view, job) in views.iter().zip(&model.jobs) {
        assert_eq!(
            view.idempotency_key.as_ref().map(ToString::to_string),
            job.new.key.map(|key| system.key(key))
        );
        assert_eq!(
            (view.queue.as_str(), view.priority.get()),
            (&*system.queue(job.new.queue), job.new.priority)
        );
    }
    check_queues(system, model);
    if !model.jobs.is_empty() {
        let job = system.actions % model.jobs.len();
        check_over_rest(system, model, job);
        check_over_sql(system, model, job);
        check_attempts(system, model, job);
    }
}

fn shown(view: &JobView) -> Shown {
    Shown {
        state: view.state,
        hold_reason: view.hold_reason,
        generation: view.generation,
        tries: view.tries,
        crashes: view.crashes,
        error: view.error.as_ref().map(|error| error.class),
        result: view.result.as_ref().map(|result| {
            (String::from_utf8(result.body.clone()).expect("answers of the test are text"), result.is_late)
        }),
    }
}

fn check_queues(system: &System, model: &Model) {
    let depths = system.world.wait(system.world.store.queue_depths(Some(&system.tenant)));
    let depths = depths.expect("queues can be read");
    for queue in 0..QUEUES {
        let name = system.queue(queue);
        let found = depths.iter().find(|depth| depth.name.as_str() == name);
        let counts = found.map_or([0; 3], |depth| [depth.ready + depth.scheduled, depth.running, depth.held]);
        assert_eq!(counts, model.depth(queue), "waiting, running and held jobs of {name}");
        assert_eq!(found.is_some_and(|depth| depth.paused_at.is_some()), model.is_paused[queue], "{name}");
    }
}

fn check_over_rest(system: &System, model: &Model, job: usize) {
    let expected = model.shown(job);
    let (status, object) = system.world.get(&format!("/v1/jobs/{}", system.jobs[job]));
    assert_eq!(status, StatusCode::OK, "{object}");
    assert_eq!(object["state"], expected.state.as_str(), "{object}");
    assert_eq!(object["generation"], expected.generation, "{object}");
    assert_eq!(object["attempts"], expected.tries, "{object}");
    assert_eq!(object["error"]["class"].as_str(), expected.error.map(ErrorClass::as_str), "{object}");
    let (answer, is_late) = expected.result.unzip();
    assert_eq!(object["result"]["late"].as_bool(), is_late, "{object}");
    match answer.map(|answer| serde_json::from_str::<Value>(&answer)) {
        Some(Ok(answer)) => assert_eq!(object["result"]["body"], answer, "{object}"),
        // What is not JSON is shown in base64.
        Some(Err(_)) => assert_eq!(object["result"]["body_encoding"], "base64", "{object}"),
        None => assert_eq!(object["result"], Value::Null, "{object}"),
    }
}

fn check_over_sql(system: &System, model: &Model, job: usize) {
    let expected = model.shown(job);
    let read =
        sqlx::query("SELECT state, generation, attempts, error_class, result, late FROM sluice.job($1)")
            .bind(system.jobs[job].as_uuid())
            .fetch_one(system.world.database.pool());
    let row = system.world.wait(read).expect("a job can be read");
    let result: Option<String> = row.get(4);
    let shown = (row.get(0), row.get(1), row.get(2), row.get(3), result.map(|text| (text, row.get(5))));
    let expected: (String, i32, i32, Option<String>, Option<(String, bool)>) = (
        expected.state.as_str().to_owned(),
        expected.generation.cast_signed(),
        expected.tries.into(),
        expected.error.map(|class| class.as_str().to_owned()),
        expected.result,
    );
    assert_eq!(shown, expected, "job {job} as sluice.job shows it");
}

fn check_attempts(system: &System, model: &Model, job: usize) {
    let attempts = system.world.wait(system.world.store.attempts(&system.tenant, system.jobs[job]));
    let attempts = attempts.expect("the ledger can be read").expect("the job is there");
    let shown: Vec<(u32, u32, Option<Outcome>)> =
        attempts.iter().map(|attempt| (attempt.generation, attempt.lease_no, attempt.outcome)).collect();
    let expected: Vec<_> =
        model.leases_of(job).map(|(_, lease)| (lease.generation, lease.lease_no, lease.outcome)).collect();
    assert_eq!(shown, expected, "the attempts of job {job}");
}

/// At the end of a sequence: what no reader shows.
pub fn check_ledger(system: &System) {
    let ids: Vec<_> = system.jobs.iter().map(|id| id.as_uuid()).collect();
    for (what, statement) in [
        (
            "jobs that stand in no place, or in two",
            "SELECT count(*) FROM unnest($1::uuid[]) AS i(id) WHERE
                (SELECT count(*) FROM sluice.ready r WHERE r.job_id = i.id)
                + (SELECT count(*) FROM sluice.running r WHERE r.job_id = i.id)
                + (SELECT count(*) FROM sluice.held h WHERE h.job_id = i.id)
                + (SELECT count(*) FROM sluice.done d WHERE d.job_id = i.id AND d.generation = (
                    SELECT max(p.generation) FROM (
                        SELECT generation FROM sluice.done WHERE job_id = i.id
                        UNION ALL SELECT generation FROM sluice.ready WHERE job_id = i.id
                        UNION ALL SELECT generation FROM sluice.running WHERE job_id = i.id
                        UNION ALL SELECT generation FROM sluice.held WHERE job_id = i.id) p)) <> 1",
        ),
        (
            "attempts that ended twice",
            "SELECT count(*) FROM (SELECT e.lease_id FROM sluice.attempts_ended e WHERE e.job_id = ANY($1)
                                   GROUP BY e.lease_id HAVING count(*) > 1) twice",
        ),
        (
            "ends of attempts that never began",
            "SELECT count(*) FROM sluice.attempts_ended e WHERE e.job_id = ANY($1) AND NOT EXISTS (
                SELECT FROM sluice.attempts_begun b WHERE b.job_id = e.job_id AND b.lease_id = e.lease_id)",
        ),
        (
            "leases of dead workers",
            "SELECT count(*) FROM sluice.running r JOIN sluice.incarnations i ON i.id = r.incarnation_id
             WHERE r.job_id = ANY($1) AND i.dead_at IS NOT NULL",
        ),
    ] {
        let count =
            sqlx::query_scalar::<_, i64>(statement).bind(&ids).fetch_one(system.world.database.pool());
        assert_eq!(system.world.wait(count).expect("a look at the tables"), 0, "{what}");
    }
}
