//! The Rust client of Sluice: jobs submitted, read, waited for, watched, listed, cancelled and replayed over gRPC.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use futures::{StreamExt, TryStreamExt, stream};
//! use sluice_client::{Client, JobFilter, JobState, SubmitRequest};
//!
//! # async fn run() -> Result<(), sluice_client::Error> {
//! let client = Client::builder("https://sluice.example.com")
//!     .api_key("sluice_…")
//!     .timeout(Duration::from_secs(10))
//!     .connect()
//!     .await?;
//!
//! let request = |text: &str| SubmitRequest {
//!     body: format!(r#"{{"model":"deepseek-flash","messages":[{{"role":"user","content":"{text}"}}]}}"#).into(),
//!     ..SubmitRequest::default()
//! };
//! let submitted = client.submit(SubmitRequest { priority: Some(5), ..request("Hello") }).await?;
//! let job = client.wait(&submitted.job.id).await?;
//! if let Some(result) = job.result {
//!     println!("{}", String::from_utf8_lossy(&result.body.unwrap_or_default()));
//! }
//!
//! // Many: as fast as they come, with an answer for each in their order.
//! let requests: Vec<_> = ["One", "Two", "Three"].map(request).into();
//! let mut answers = client.submit_many(stream::iter(requests));
//! while let Some(answer) = answers.try_next().await? {
//!     match answer.outcome {
//!         Ok(submitted) => println!("{}: job {}", answer.index, submitted.id),
//!         Err(refused) => println!("{}: {refused}", answer.index),
//!     }
//! }
//!
//! let filter = JobFilter { state: JobState::Failed.into(), ..JobFilter::default() };
//! let failed: Vec<_> = client.list(filter).take(100).try_collect().await?;
//! println!("{} jobs have failed", failed.len());
//! # Ok(())
//! # }
//! ```
//!
//! # What is repeated
//!
//! A call that ends with `UNAVAILABLE` or `ABORTED`, or whose connection breaks, is made again after a pause that grows, for
//! [as long as the client is patient](ClientBuilder::retry_for), where that is safe:
//!
//! - Reads, waits, lists, watches and cancels always are.
//! - A submit is by its idempotency key. One without a key gets a UUID as its key, unless
//!   [`MissingKey::SendOnce`] says otherwise.
//! - A replay pays again, so it is repeated only where nothing can have come of it: it was never sent, or the server
//!   said so.
//!
//! A limit ([`Error::retry_after`]) is not waited for: when to go on is the caller's to say.
//!
//! Not here: the wire contract (`sluice-proto`, whose messages are the arguments and answers), and what only REST offers.

mod api_key;
mod builder;
mod client;
mod error;
mod retry;
mod streams;
mod submit_many;

pub use api_key::ApiKey;
pub use builder::{ClientBuilder, MissingKey};
pub use client::{Client, SubmittedJob};
pub use error::{Error, Refusal};
pub use sluice_proto::{
    Duration as ProtoDuration, Timestamp,
    v1::{
        DeferredBy, Job, JobError, JobFilter, JobResult, JobState, ListRequest, ListResponse, OnUnknown,
        ReplayManyRequest, ReplayManyResponse, SubmitRequest, Usage,
    },
};
pub use submit_many::{Submission, Submitted};
pub use tonic::Code;
