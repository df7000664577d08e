//! What makes a run the same run: its input, the options that change requests, its upstreams.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use sluice_domain::{IdempotencyKey, QueueName};

/// So much of the fingerprint names the queue.
const QUEUE_DIGITS: usize = 16;

/// The identity of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunIdentity {
    fingerprint: String,
}

impl RunIdentity {
    /// Hashes what counts. Each part goes in with its length, so that no two lists of parts look the same.
    pub fn new<'a>(
        input_sha256: &[u8; 32],
        options: impl IntoIterator<Item = Option<&'a str>>,
        upstreams: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"sluice run 1\n");
        hash.update(input_sha256);
        for part in options {
            add(&mut hash, part);
        }
        hash.update(b"upstreams");
        for part in upstreams {
            add(&mut hash, Some(part));
        }
        let digest: [u8; 32] = hash.finalize().into();
        let fingerprint = digest.iter().fold(String::new(), |mut text, byte| {
            // Writing to memory does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Self { fingerprint }
    }

    /// The queue of its jobs.
    pub fn queue(&self) -> QueueName {
        QueueName::from_stored(format!("{}{}", QueueName::RUN_PREFIX, &self.fingerprint[..QUEUE_DIGITS]))
    }

    /// The key of a line's job.
    pub fn key(&self, line_no: u64) -> IdempotencyKey {
        IdempotencyKey::from_stored(format!("{}{}:{line_no}", QueueName::RUN_PREFIX, self.fingerprint))
    }
}

fn add(hash: &mut Sha256, part: Option<&str>) {
    match part {
        None => hash.update([0]),
        Some(text) => {
            hash.update([1]);
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_changes_the_requests_makes_another_run() {
        let identities = [
            RunIdentity::new(&[0; 32], [], []),
            RunIdentity::new(&[1; 32], [], []),
            RunIdentity::new(&[0; 32], [Some("ab"), None], []),
            RunIdentity::new(&[0; 32], [None, Some("ab")], []),
            RunIdentity::new(&[0; 32], [Some("a"), Some("b")], []),
            RunIdentity::new(&[0; 32], [], ["ab"]),
            RunIdentity::new(&[0; 32], [], ["a", "b"]),
        ];
        for (at, one) in identities.iter().enumerate() {
            assert!(identities[..at].iter().all(|other| other.queue() != one.queue()), "{at}");
        }
        assert_eq!(identities[0], RunIdentity::new(&[0; 32], [], []));
    }

    #[test]
    fn its_queue_is_one_that_nobody_else_works() {
        let identity = RunIdentity::new(&[0; 32], [], []);
        let queue = QueueName::new(identity.queue().as_str()).unwrap();
        assert!(queue.is_of_a_run());
        assert!(IdempotencyKey::new(identity.key(u64::MAX).as_str()).is_ok());
    }
}
