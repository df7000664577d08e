//! Jobs as clients of gRPC send them: the message, and its way into the rules of REST.

use sluice_domain::{IdempotencyKey, TenantName};
use sluice_proto::{Message, v1::SubmitRequest};

use crate::submission::{check_job, check_refusal};

#[path = "../../../scheduler/src/grpc/submission.rs"]
mod submission;
#[path = "../../../scheduler/src/grpc/time.rs"]
#[expect(dead_code, reason = "answers use the rest")]
mod time;

/// The bytes are a message; where they are none, they are the body of one.
pub(crate) fn check(bytes: &[u8]) {
    match SubmitRequest::decode(bytes) {
        Ok(request) => check_message(&request),
        Err(_) => check_message(&SubmitRequest { body: bytes.to_vec().into(), ..SubmitRequest::default() }),
    }
}

fn check_message(request: &SubmitRequest) {
    let encoded = request.encode_to_vec();
    assert_eq!(SubmitRequest::decode(&encoded[..]).as_ref(), Ok(request), "it reads back");
    let now = crate::wall_clock();
    match submission::job_of(request, &TenantName::default_tenant()) {
        Ok(job) => {
            check_job(&job, &request.body, now);
            // A body can't reach into the other fields: each is what its own field says.
            assert_eq!(job.body, request.body.trim_ascii());
            assert_eq!(u32::from(job.priority.get()), request.priority.unwrap_or(3));
            assert_eq!(job.max_attempts.map(u32::from), request.max_attempts);
            assert_eq!(
                job.idempotency_key.as_ref().map(IdempotencyKey::as_str),
                request.idempotency_key.as_deref()
            );
            assert_eq!(job.queue.as_str(), request.queue.as_deref().unwrap_or("default"));
            assert_eq!(job.tags.pairs(), &request.tags);
            assert_eq!(job.run_at.map(|at| at.timestamp()), request.run_at.map(|at| at.seconds));
            assert_eq!(job.deadline.map(|at| at.timestamp()), request.deadline.map(|at| at.seconds));
        }
        Err(refusal) => check_refusal(&refusal),
    }
}
