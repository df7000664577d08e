//! Jobs for tests: name what the test is about, the rest is filled in.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sluice_domain::{
    ApiPath, IdempotencyKey, JobId, ModelName, NewJob, OnUnknown, Priority, QueueName, Tags, TenantName,
};

/// A chat completion for `deepseek-flash` in the default queue, unless told otherwise.
pub fn job() -> JobBuilder {
    let body = json!({"model": "deepseek-flash", "messages": [{"role": "user", "content": "hello"}]});
    JobBuilder {
        tags: BTreeMap::new(),
        job: NewJob {
            id: JobId::generate(),
            tenant: TenantName::default_tenant(),
            queue: QueueName::default(),
            path: ApiPath::default(),
            model: ModelName::from_stored("deepseek-flash".to_owned()),
            priority: Priority::default(),
            idempotency_key: None,
            run_at: None,
            deadline: None,
            max_attempts: None,
            on_unknown: OnUnknown::Retry,
            tags: Tags::default(),
            webhook: None,
            traceparent: None,
            body: body.to_string().into_bytes(),
        },
    }
}

/// Collects what a test says about a job.
#[derive(Clone, Debug)]
#[must_use]
pub struct JobBuilder {
    job: NewJob,
    tags: BTreeMap<String, String>,
}

/// Panics where a test names something that is no name.
fn checked<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("the test's job can't be made: {error}"))
}

impl JobBuilder {
    /// Whose it is.
    pub fn tenant(mut self, name: &str) -> Self {
        self.job.tenant = checked(TenantName::new(name));
        self
    }

    /// The line it stands in.
    pub fn queue(mut self, name: &str) -> Self {
        self.job.queue = checked(QueueName::new(name));
        self
    }

    /// The path it calls.
    pub fn path(mut self, path: &str) -> Self {
        self.job.path = checked(ApiPath::new(path));
        self
    }

    /// The model it asks for; the body is left alone.
    pub fn model(mut self, name: &str) -> Self {
        self.job.model = checked(ModelName::new(name));
        self
    }

    /// How urgent, 1 to 5.
    pub fn priority(mut self, priority: i64) -> Self {
        self.job.priority = checked(Priority::new(priority));
        self
    }

    /// Its idempotency key.
    pub fn key(mut self, key: &str) -> Self {
        self.job.idempotency_key = Some(checked(IdempotencyKey::new(key)));
        self
    }

    /// Not before.
    pub fn run_at(mut self, at: DateTime<Utc>) -> Self {
        self.job.run_at = Some(at);
        self
    }

    /// Not after.
    pub fn deadline(mut self, at: DateTime<Utc>) -> Self {
        self.job.deadline = Some(at);
        self
    }

    /// Tries at most.
    pub fn max_attempts(mut self, tries: u16) -> Self {
        self.job.max_attempts = Some(tries);
        self
    }

    /// What happens when an answer is not known.
    pub fn on_unknown(mut self, on_unknown: OnUnknown) -> Self {
        self.job.on_unknown = on_unknown;
        self
    }

    /// One more tag.
    pub fn tag(mut self, key: &str, value: &str) -> Self {
        self.tags.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The body as JSON.
    pub fn body(self, body: &Value) -> Self {
        self.body_bytes(body.to_string())
    }

    /// The body as bytes, which need not be JSON.
    pub fn body_bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.job.body = body.into();
        self
    }

    /// The job.
    pub fn build(mut self) -> NewJob {
        self.job.tags = checked(Tags::new(self.tags));
        self.job
    }

    /// That many such jobs, each with an id of its own.
    pub fn times(self, count: usize) -> Vec<NewJob> {
        let job = self.build();
        (0..count).map(|_| NewJob { id: JobId::generate(), ..job.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_holds_what_the_test_said() {
        let made = job().queue("q").priority(5).tag("k", "v").body(&json!({"a": 1})).build();
        assert_eq!(
            (made.queue.as_str(), made.priority.get(), made.body.as_slice()),
            ("q", 5, &b"{\"a\":1}"[..])
        );
        assert_eq!(made.tags.pairs().get("k").map(String::as_str), Some("v"));
    }
}
