//! Calls to places that users name, by the rules of Standard Webhooks (standardwebhooks.com): what is signed and how, when a
//! try is repeated, and a client that goes to no address which is not meant for it.
//!
//! The client is apart from `provider`'s, since it trusts nobody: whoever may submit a job chooses where it goes. Not here:
//! which deliveries are due (`store`), and what they say (`scheduler`).

mod address;
mod resolver;
mod schedule;
mod sender;
mod signature;

pub use address::{Guard, RefusedTarget};
pub use schedule::{MOST_TRIES, next_try};
pub use sender::{Message, Sender, SenderError, Told};
pub use signature::{InvalidSecret, SigningSecret, SigningSecrets};
