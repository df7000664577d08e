//! The OpenAI-compatible endpoints: calls that are jobs, and whose clients wait for the provider's answer.
//!
//! A call is stored like any other job before anything else happens, and a worker makes it. Meanwhile its client waits
//! without a database connection (`hub`), and then gets the provider's status and bytes. If it goes away, the job goes
//! on; the answer is fetched by the idempotency key, by the job's id, or by asking again.
//!
//! **Asking again.** The official clients repeat a request by themselves, without a key: after a timeout or a broken
//! connection, and they say so in `x-stainless-retry-count`. To submit once more would pay twice. So a client that goes
//! away is noted (`left`), and a repetition joins its job. Where an answer *was* given, `x-should-retry` tells the client
//! whether it may repeat: not after a job has failed, since the job's own tries are over.
//!
//! **Streams.** Tokens come from the worker through the database (`streams`), and go on to the client (`stream`).
//!
//! Not here: how calls are read (`input`), stored (`submitter`), and what each endpoint is called (`handlers`).

mod answer;
mod chunks;
mod event;
mod left;
mod stream;
mod wait;

pub(crate) use self::{
    left::{LEFT_WINDOW, LeftCalls},
    wait::{Incoming, answer, follow},
};
