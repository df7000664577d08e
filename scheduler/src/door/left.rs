//! Clients that go away before their answer.
//!
//! The note is written after the fact, in groups, by a task of its own: a dropped request can't wait. Between the moment
//! and the note lie a few milliseconds; the official clients rest at least 300 before they ask again. A scheduler that
//! is killed notes nothing.

use std::{convert::Infallible, time::Duration};

use http::{HeaderMap, header::AUTHORIZATION};
use sha2::{Digest, Sha256};
use sluice_domain::{JobId, NewJob};
use sluice_store::{CallFingerprint, Store};
use tokio::sync::{mpsc, oneshot};

/// How long after it went away a client may ask again and get the same job.
pub(crate) const LEFT_WINDOW: Duration = Duration::from_mins(15);
/// How long one try to write notes may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// While the database is away, notes wait so long at most.
const TRIES: u32 = 60;
const REST: Duration = Duration::from_secs(1);
/// The most notes of one statement.
const GROUP: usize = 500;

struct Note {
    job: JobId,
    fingerprint: CallFingerprint,
    /// Dropped when it is written.
    _written: Option<oneshot::Sender<Infallible>>,
}

/// Takes notes of clients that went away.
#[derive(Clone)]
pub(crate) struct LeftCalls(mpsc::UnboundedSender<Note>);

impl LeftCalls {
    /// Starts the task, which ends when the last clone is dropped.
    pub(crate) fn start(store: Store) -> Self {
        let (notes, mut coming) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut group = Vec::new();
            while coming.recv_many(&mut group, GROUP).await > 0 {
                write(&store, &group).await;
                group.clear();
            }
        });
        Self(notes)
    }

    /// Somebody waits for `job` from now on. Without a fingerprint nothing is noted: its key finds the job.
    pub(super) fn watch(&self, job: JobId, fingerprint: Option<CallFingerprint>) -> Waiter {
        Waiter { left: self.clone(), job, fingerprint }
    }
}

async fn write(store: &Store, group: &[Note]) {
    let left: Vec<_> = group.iter().map(|note| (note.job, note.fingerprint)).collect();
    for _ in 0..TRIES {
        match tokio::time::timeout(PATIENCE, store.left_calls_note(&left)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) if !error.is_unavailable() => {
                tracing::error!(error = %error, "clients that went away could not be noted");
                return;
            }
            Ok(Err(_)) | Err(_) => tokio::time::sleep(REST).await,
        }
    }
    tracing::warn!(clients = left.len(), "clients went away and could not be noted: the database is away");
}

/// Somebody who waits for a job. If this is dropped before [`Waiter::is_answered`], its client went away.
pub(super) struct Waiter {
    left: LeftCalls,
    pub(super) job: JobId,
    fingerprint: Option<CallFingerprint>,
}

impl Waiter {
    /// The client has its answer, whatever it is.
    pub(super) fn is_answered(&mut self) {
        self.fingerprint = None;
    }

    /// The client is sent away; comes back when that is noted.
    pub(super) async fn leaves(&mut self) {
        let (written, noted) = oneshot::channel();
        if self.note(Some(written)) {
            // The task drops the sender.
            let _ = tokio::time::timeout(PATIENCE, noted).await;
        }
    }

    fn note(&mut self, written: Option<oneshot::Sender<Infallible>>) -> bool {
        let Some(fingerprint) = self.fingerprint.take() else { return false };
        // The task ends after all who wait.
        self.left.0.send(Note { job: self.job, fingerprint, _written: written }).is_ok()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.note(None);
    }
}

/// What a repetition has in common with `job`: tenant, credential, path and body. `None` where the job has a key.
pub(super) fn fingerprint(job: &NewJob, headers: &HeaderMap) -> Option<CallFingerprint> {
    if job.idempotency_key.is_some() {
        return None;
    }
    let credential = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let mut hash = Sha256::new();
    for part in [job.tenant.as_str().as_bytes(), credential, job.path.as_str().as_bytes(), &job.body] {
        // Lengths, so that nothing moves from one part to the next.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Some(hash.finalize().into())
}

/// Whether this is a repetition of the official clients.
pub(super) fn is_repeated(headers: &HeaderMap) -> bool {
    let count = headers.get("x-stainless-retry-count").and_then(|value| value.to_str().ok());
    count.and_then(|count| count.trim().parse::<u32>().ok()).is_some_and(|count| count >= 1)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use sluice_domain::{ApiPath, TenantName};

    use super::*;
    use crate::input::{CallWishes, parse_call};

    fn of(body: &str, path: &str, key: Option<&'static str>) -> Option<CallFingerprint> {
        let path = ApiPath::new(path).unwrap();
        let call = parse_call(body.as_bytes(), path, &TenantName::default_tenant(), CallWishes::default());
        let mut headers = HeaderMap::new();
        headers.extend(key.map(|key| (AUTHORIZATION, HeaderValue::from_static(key))));
        fingerprint(&call.unwrap().job, &headers)
    }

    #[test]
    fn a_repetition_is_the_same_bytes_of_the_same_caller_on_the_same_path() {
        let first = of(r#"{"model":"m"}"#, "/v1/completions", Some("Bearer a"));
        assert_eq!(first, of(r#"{"model":"m"}"#, "/v1/completions", Some("Bearer a")));
        for other in [
            of(r#"{"model": "m"}"#, "/v1/completions", Some("Bearer a")),
            of(r#"{"model":"m"}"#, "/v1/embeddings", Some("Bearer a")),
            of(r#"{"model":"m"}"#, "/v1/completions", Some("Bearer b")),
            of(r#"{"model":"m"}"#, "/v1/completions", None),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn only_counts_from_one_on_are_repetitions() {
        let counted = |text: &'static str| {
            is_repeated(&HeaderMap::from_iter([(
                http::HeaderName::from_static("x-stainless-retry-count"),
                HeaderValue::from_static(text),
            )]))
        };
        assert!(counted("1") && counted("12"));
        assert!(!counted("0") && !counted("x") && !counted("-1") && !is_repeated(&HeaderMap::new()));
    }
}
