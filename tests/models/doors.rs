//! What people and programs do, by each door.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use sluice_domain::{JobId, JobState, OnUnknown, QueueName, SubmitOutcome};
use sluice_store::{CancelOutcome, ReleaseOutcome, ReplayOutcome};
use sluice_testkit::job;
use sqlx::error::DatabaseError;

use crate::{
    action::Door,
    model::{Answer, NewJob, Submitted},
    system::System,
};

/// SQLSTATE: `unique_violation`, for a key with another content.
const OTHER_CONTENT: &str = "23505";
/// SQLSTATE: `object_not_in_prerequisite_state`.
const NOT_IN_THIS_STATE: &str = "55000";

impl System {
    pub fn submit(&mut self, door: Door, new: &NewJob) -> Answer {
        // Ids of the same millisecond that two doors made need not stand in order.
        std::thread::sleep(Duration::from_millis(2));
        if door != Door::Rest {
            return self.submit_bulk(door, std::slice::from_ref(new));
        }
        let (status, answer) = self.world.post("/v1/jobs", self.document(new).to_string());
        if status == StatusCode::UNPROCESSABLE_ENTITY {
            assert_eq!(answer["error"]["code"], "idempotency_key_reused", "{answer}");
            return Answer::Submitted(vec![Submitted::Refused]);
        }
        let submitted = self.submitted(id_of(&answer));
        let expected =
            if matches!(submitted, Submitted::Created(_)) { StatusCode::CREATED } else { StatusCode::OK };
        assert_eq!(status, expected, "{answer}");
        Answer::Submitted(vec![submitted])
    }

    pub fn submit_bulk(&mut self, door: Door, jobs: &[NewJob]) -> Answer {
        std::thread::sleep(Duration::from_millis(2));
        match door {
            Door::Rest => self.submit_over_rest(jobs),
            Door::Sql => self.submit_over_sql(jobs),
            Door::Store => self.submit_to_store(jobs),
        }
    }

    fn submit_over_rest(&mut self, jobs: &[NewJob]) -> Answer {
        let lines: Vec<String> = jobs.iter().map(|job| self.document(job).to_string()).collect();
        let (status, text) = self.world.post_lines("/v1/jobs/bulk", lines.join("\n"));
        assert_eq!(status, StatusCode::OK, "{text}");
        let answers: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        let submitted = answers.iter().map(|answer| {
            if answer["error"]["code"] == "idempotency_key_reused" {
                return Submitted::Refused;
            }
            let submitted = self.submitted(id_of(answer));
            let is_new = matches!(submitted, Submitted::Created(_));
            assert_eq!(answer["status"], if is_new { "created" } else { "existing" }, "{answer}");
            submitted
        });
        Answer::Submitted(submitted.collect())
    }

    fn submit_over_sql(&mut self, jobs: &[NewJob]) -> Answer {
        let pool = self.world.database.pool();
        let documents: Vec<Value> = jobs.iter().map(|job| self.document(job)).collect();
        // One job by the function for one, several by the function for several.
        let ids: Result<Vec<uuid::Uuid>, _> = self.world.wait(async {
            match &documents[..] {
                [one] => {
                    let submit =
                        "SELECT sluice.submit($1::json, queue => $2, priority => $3, idempotency_key => $4,
                        run_at => $5::timestamptz, deadline => $6::timestamptz, on_unknown => $7)";
                    let text = |name: &str| one[name].as_str().map(str::to_owned);
                    sqlx::query_scalar(submit)
                        .bind(one["body"].to_string())
                        .bind(text("queue"))
                        .bind(one["priority"].as_i64().map(|priority| priority as i32))
                        .bind(text("idempotency_key"))
                        .bind(text("run_at"))
                        .bind(text("deadline"))
                        .bind(text("on_unknown"))
                        .fetch_all(pool)
                        .await
                }
                several => {
                    sqlx::query_scalar("SELECT sluice.submit_many($1::json)")
                        .bind(Value::from(several).to_string())
                        .fetch_all(pool)
                        .await
                }
            }
        });
        match ids {
            Ok(ids) => {
                Answer::Submitted(ids.into_iter().map(|id| self.submitted(JobId::from_uuid(id))).collect())
            }
            Err(error) => {
                assert_eq!(code(&error).as_deref(), Some(OTHER_CONTENT), "{error}");
                Answer::AllRefused
            }
        }
    }

    fn submit_to_store(&mut self, jobs: &[NewJob]) -> Answer {
        let jobs: Vec<_> = jobs.iter().map(|job| self.built(job)).collect();
        let outcomes = self.world.wait(self.world.store.submit_many(&jobs)).expect("a submit");
        let submitted = outcomes.into_iter().map(|outcome| match outcome {
            SubmitOutcome::Created(id) => {
                assert_eq!(self.number_of(id), None, "a new job has an id of its own");
                self.submitted(id)
            }
            SubmitOutcome::Existing(id) => {
                assert!(self.number_of(id).is_some(), "the job is not known");
                self.submitted(id)
            }
            SubmitOutcome::Conflict(_) => Submitted::Refused,
        });
        Answer::Submitted(submitted.collect())
    }

    /// An id as the model's number: one that was not seen before is a new job's.
    fn submitted(&mut self, id: JobId) -> Submitted {
        self.number_of(id).map_or_else(
            || {
                self.jobs.push(id);
                Submitted::Created(self.jobs.len() - 1)
            },
            Submitted::Existing,
        )
    }

    fn document(&self, new: &NewJob) -> Value {
        let job = self.built(new);
        let body: Value = serde_json::from_slice(&job.body).expect("the body is JSON");
        let time = |time: Option<chrono::DateTime<chrono::Utc>>| time.map(|time| time.to_rfc3339());
        let mut document = json!({
            "body": body, "queue": job.queue.as_str(), "priority": new.priority,
            "on_unknown": if new.holds { "hold" } else { "retry" },
        });
        for (name, value) in [
            ("idempotency_key", job.idempotency_key.as_ref().map(ToString::to_string)),
            ("run_at", time(job.run_at)),
            ("deadline", time(job.deadline)),
        ] {
            if let Some(value) = value {
                document[name] = value.into();
            }
        }
        document
    }

    fn built(&self, new: &NewJob) -> sluice_domain::NewJob {
        let now = sluice_scheduler::wall_clock();
        let mut built = job()
            .queue(&self.queue(new.queue))
            .priority(new.priority.into())
            .model("m")
            .on_unknown(if new.holds { OnUnknown::Hold } else { OnUnknown::Retry })
            .body(&json!({"model": "m", "content": new.content}));
        if let Some(key) = new.key {
            built = built.key(&self.key(key));
        }
        if new.is_for_later {
            built = built.run_at(now + chrono::TimeDelta::days(1));
        }
        if new.has_deadline {
            built = built.deadline(now + chrono::TimeDelta::days(2));
        }
        built.build()
    }

    pub fn cancel(&self, door: Door, id: JobId) -> CancelOutcome {
        match door {
            Door::Store => self.world.wait(self.world.store.job_cancel(&self.tenant, id)).expect("a cancel"),
            Door::Sql => {
                let was = self.state(id);
                match self.call::<String>("SELECT sluice.cancel($1)", id).expect("a cancel").as_str() {
                    "cancelled" if was == JobState::Cancelled => CancelOutcome::AlreadyCancelled,
                    "cancelled" => CancelOutcome::Cancelled,
                    state => CancelOutcome::AlreadyEnded(state.parse().expect("a state")),
                }
            }
            Door::Rest => {
                let was = self.state(id);
                match self.world.post(&format!("/v1/jobs/{id}/cancel"), String::new()) {
                    (StatusCode::OK, job) => {
                        assert_eq!(job["state"], "cancelled", "{job}");
                        let was_cancelled = was == JobState::Cancelled;
                        if was_cancelled { CancelOutcome::AlreadyCancelled } else { CancelOutcome::Cancelled }
                    }
                    (status, answer) => {
                        assert_eq!(status, StatusCode::CONFLICT, "{answer}");
                        CancelOutcome::AlreadyEnded(was)
                    }
                }
            }
        }
    }

    pub fn replay(&self, door: Door, id: JobId) -> ReplayOutcome {
        match door {
            Door::Store => {
                let replay = self.world.store.job_replay_if_ended(&self.tenant, id, Duration::ZERO);
                self.world.wait(replay).expect("a replay")
            }
            Door::Sql => match self.call::<()>("SELECT sluice.replay($1)", id) {
                Ok(()) => ReplayOutcome::Queued,
                Err(error) => {
                    assert_eq!(code(&error).as_deref(), Some(NOT_IN_THIS_STATE), "{error}");
                    ReplayOutcome::NotEnded
                }
            },
            Door::Rest => match self.world.post(&format!("/v1/jobs/{id}/replay"), String::new()) {
                (StatusCode::OK, job) => {
                    assert_eq!(job["state"], "queued", "{job}");
                    ReplayOutcome::Queued
                }
                (status, answer) => {
                    assert_eq!(status, StatusCode::CONFLICT, "{answer}");
                    ReplayOutcome::NotEnded
                }
            },
        }
    }

    pub fn release(&self, door: Door, id: JobId) -> ReleaseOutcome {
        if door != Door::Rest {
            return self.world.wait(self.world.store.job_release(&self.tenant, id)).expect("a release");
        }
        match self.world.post(&format!("/v1/jobs/{id}/release"), String::new()) {
            (StatusCode::OK, job) => {
                assert_eq!(job["state"], "queued", "{job}");
                ReleaseOutcome::Released
            }
            (status, answer) => {
                assert_eq!(status, StatusCode::CONFLICT, "{answer}");
                ReleaseOutcome::NotHeld
            }
        }
    }

    pub fn pause(&self, door: Door, queue: usize) -> Answer {
        let name = self.queue(queue);
        if door == Door::Rest {
            let (status, answer) = self.world.post(&format!("/v1/queues/{name}/pause"), String::new());
            assert_eq!((status, &answer["paused"]), (StatusCode::OK, &json!(true)));
        } else {
            let name = QueueName::new(name).expect("a name");
            self.world.wait(self.world.store.queue_pause(&self.tenant, &name)).expect("a pause");
        }
        Answer::Nothing
    }

    pub fn resume(&self, door: Door, queue: usize) -> Answer {
        let name = self.queue(queue);
        if door == Door::Rest {
            let (status, answer) = self.world.post(&format!("/v1/queues/{name}/resume"), String::new());
            assert_eq!((status, &answer["paused"]), (StatusCode::OK, &json!(false)));
        } else {
            let name = QueueName::new(name).expect("a name");
            self.world.wait(self.world.store.queue_resume(&self.tenant, &name)).expect("a resume");
        }
        Answer::Nothing
    }

    fn state(&self, id: JobId) -> JobState {
        let job = self.world.store.job(&self.tenant, id, sluice_store::Bodies::LeftOut);
        self.world.wait(job).expect("a read").expect("the job").state
    }

    fn call<T>(&self, statement: &'static str, id: JobId) -> Result<T, sqlx::Error>
    where
        T: Send + Unpin + sqlx::Type<sqlx::Postgres> + for<'r> sqlx::Decode<'r, sqlx::Postgres>,
    {
        let called = sqlx::query_scalar(statement).bind(id.as_uuid()).fetch_one(self.world.database.pool());
        self.world.wait(called)
    }
}

fn id_of(answer: &Value) -> JobId {
    let id = answer["id"].as_str().unwrap_or_else(|| panic!("no id in {answer}"));
    id.parse().expect("an id")
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(DatabaseError::code).map(std::borrow::Cow::into_owned)
}
