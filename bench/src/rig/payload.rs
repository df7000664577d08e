//! What is stored: bodies of 300 bytes and answers of 600, as JSON that a provider would take and give.

use std::collections::BTreeMap;

use sluice_domain::{ApiPath, JobId, ModelName, NewJob, OnUnknown, Priority, QueueName, Tags, TenantName};

/// Bytes of a request's body.
pub const BODY_BYTES: usize = 300;
/// Bytes of an answer.
pub const ANSWER_BYTES: usize = 600;
/// The model that the jobs ask for.
pub const MODEL: &str = "no-op";

/// The body of a request, as long as all others.
pub fn body() -> Vec<u8> {
    padded("{\"model\":\"no-op\",\"messages\":[{\"role\":\"user\",\"content\":\"", "\"}]}", BODY_BYTES)
}

/// The answer to a request, as long as all others.
pub fn answer() -> Vec<u8> {
    padded(
        "{\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"finish_reason\":\"stop\",\
         \"message\":{\"role\":\"assistant\",\"content\":\"",
        "\"}}],\"usage\":{\"prompt_tokens\":60,\"completion_tokens\":120,\"total_tokens\":180}}",
        ANSWER_BYTES,
    )
}

/// A job in the default queue with such a body.
pub fn job() -> NewJob {
    NewJob {
        id: JobId::generate(),
        tenant: TenantName::default_tenant(),
        queue: QueueName::default(),
        path: ApiPath::default(),
        model: ModelName::from_stored(MODEL.to_owned()),
        priority: Priority::default(),
        idempotency_key: None,
        run_at: None,
        deadline: None,
        max_attempts: None,
        on_unknown: OnUnknown::Retry,
        tags: Tags::new(BTreeMap::new()).expect("no tags are good tags"),
        traceparent: None,
        body: body(),
    }
}

/// So many jobs, each with an id of its own.
pub fn jobs(count: usize) -> Vec<NewJob> {
    let one = job();
    (0..count).map(|_| NewJob { id: JobId::generate(), ..one.clone() }).collect()
}

fn padded(before: &str, after: &str, bytes: usize) -> Vec<u8> {
    const WORDS: &str = "the quick brown fox jumps over the lazy dog and ";
    let words = WORDS.chars().cycle().take(bytes - before.len() - after.len());
    let mut text = before.to_owned();
    text.extend(words);
    text.push_str(after);
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_and_answers_are_json_of_the_promised_length() {
        for (bytes, length) in [(body(), BODY_BYTES), (answer(), ANSWER_BYTES)] {
            assert_eq!(bytes.len(), length);
            serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
        }
    }
}
