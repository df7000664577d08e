//! The gRPC wire contract: `sluice/v1/*.proto` and the code generated from it, client and server.
//!
//! Not here: conversions to our own types and the service itself (`scheduler`).
//!
//! ```no_run
//! use sluice_proto::v1::{GetRequest, SubmitRequest, job_service_client::JobServiceClient};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = JobServiceClient::connect("http://127.0.0.1:8081")
//!     .await?
//!     // Answers may be larger than the 4 MiB that tonic takes by default.
//!     .max_decoding_message_size(64 * 1024 * 1024);
//! let submitted = client
//!     .submit(SubmitRequest {
//!         body: r#"{"model":"deepseek-flash","messages":[{"role":"user","content":"Hello"}]}"#.into(),
//!         idempotency_key: Some("order-17".to_owned()),
//!         ..SubmitRequest::default()
//!     })
//!     .await?
//!     .into_inner();
//! let id = submitted.job.ok_or("no job")?.id;
//! // Answers when the job ends, or after 30 s with the job as it then stands.
//! let wait = Some(sluice_proto::Duration { seconds: 30, nanos: 0 });
//! let job = client.get(GetRequest { id, wait }).await?.into_inner();
//! if let Some(result) = job.result {
//!     println!("{}", String::from_utf8_lossy(&result.body.unwrap_or_default()));
//! }
//! # Ok(())
//! # }
//! ```

pub use prost::Message;
pub use prost_types::{Duration, Timestamp};

/// Version 1 of the contract. Fields and methods are only ever added to it.
#[expect(
    clippy::pedantic,
    reason = "the code is generated; its documentation is the comments of the .proto file"
)]
pub mod v1 {
    tonic::include_proto!("sluice.v1");
}

/// The compiled descriptors of the contract and of what it imports, with comments: for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sluice_descriptors.bin"));
