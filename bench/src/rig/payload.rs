//! What is stored: bodies of 300 bytes and answers of 600, where nothing else is said, as JSON that a provider would take
//! and give.

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
    body_of(BODY_BYTES)
}

/// The body of a request of so many bytes.
pub fn body_of(bytes: usize) -> Vec<u8> {
    padded("{\"model\":\"no-op\",\"messages\":[{\"role\":\"user\",\"content\":\"", "\"}]}", bytes)
}

/// The answer to a request, as long as all others.
pub fn answer() -> Vec<u8> {
    answer_of(ANSWER_BYTES)
}

/// The answer to a request, of so many bytes.
pub fn answer_of(bytes: usize) -> Vec<u8> {
    padded(
        "{\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"finish_reason\":\"stop\",\
         \"message\":{\"role\":\"assistant\",\"content\":\"",
        "\"}}],\"usage\":{\"prompt_tokens\":60,\"completion_tokens\":120,\"total_tokens\":180}}",
        bytes,
    )
}

/// A job in the default queue with a body of so many bytes.
fn job(body_bytes: usize) -> NewJob {
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
        webhook: None,
        traceparent: None,
        body: body_of(body_bytes),
    }
}

/// So many jobs, each with an id of its own.
pub fn jobs(count: usize) -> Vec<NewJob> {
    jobs_of(count, BODY_BYTES)
}

/// So many jobs with bodies of so many bytes.
pub fn jobs_of(count: usize, body_bytes: usize) -> Vec<NewJob> {
    let one = job(body_bytes);
    (0..count).map(|_| NewJob { id: JobId::generate(), ..one.clone() }).collect()
}

/// Filled with words of random letters: a text that repeats itself would be compressed to nothing where it is stored.
fn padded(before: &str, after: &str, bytes: usize) -> Vec<u8> {
    const LETTERS: &[u8] = b"etaoinshrdlucmfw ";
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = std::iter::repeat_with(|| {
        // xorshift64 (Marsaglia, 2003): the same text each time.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(LETTERS[(state >> 32) as usize % LETTERS.len()])
    });
    let mut text = before.to_owned();
    text.extend(words.take(bytes - before.len() - after.len()));
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
