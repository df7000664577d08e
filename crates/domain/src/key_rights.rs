//! What a caller may do, with what bounds. Pure: addresses and jobs come in as they are.

use std::{net::IpAddr, num::NonZeroU32};

use thiserror::Error;

use crate::{Network, NewJob, Priority, QueueName, Scope, Scopes};

/// What an API key, or a caller who proves otherwise who it is, may do within its tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRights {
    /// Which kinds of things.
    pub scopes: Scopes,
    /// In these queues only; `None` means all.
    pub queues: Option<Vec<QueueName>>,
    /// The most urgent priority that its jobs may have.
    pub top_priority: Priority,
    /// Jobs that it may submit a minute; `None` means any number.
    pub submits_per_minute: Option<NonZeroU32>,
    /// Submits are refused while so many jobs of its tenant wait (in its queues); `None` means never.
    pub max_waiting: Option<NonZeroU32>,
    /// Requests may come from these addresses only; `None` means any.
    pub networks: Option<Vec<Network>>,
}

/// Why a job may not be submitted.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum NotPermitted {
    /// It would stand in a queue that is not the caller's.
    #[error("this key may not use the queue \"{0}\"")]
    Queue(QueueName),
    /// It would be more urgent than the caller's jobs may be.
    #[error("this key may give priorities up to {}, not {}", .top.get(), .asked.get())]
    Priority {
        /// What the job asks for.
        asked: Priority,
        /// The caller's bound.
        top: Priority,
    },
}

impl KeyRights {
    /// Everything, without bounds.
    pub const fn all() -> Self {
        Self::of_scopes(Scopes::ALL)
    }

    /// These scopes, without bounds.
    pub const fn of_scopes(scopes: Scopes) -> Self {
        Self {
            scopes,
            queues: None,
            top_priority: Priority::MOST_URGENT,
            submits_per_minute: None,
            max_waiting: None,
            networks: None,
        }
    }

    /// Whether it may do things of this kind.
    pub const fn allow(&self, scope: Scope) -> bool {
        self.scopes.allow(scope)
    }

    /// Whether it may use a queue.
    pub fn allow_queue(&self, queue: &QueueName) -> bool {
        self.queues.as_ref().is_none_or(|queues| queues.contains(queue))
    }

    /// Whether requests may come from an address.
    pub fn allow_address(&self, address: IpAddr) -> bool {
        self.networks.as_ref().is_none_or(|networks| networks.iter().any(|network| network.contains(address)))
    }

    /// The job as it may be submitted. The usual priority is lowered to the caller's bound, since most jobs have it
    /// without asking; a higher one was asked for, and is refused.
    pub fn permit(&self, mut job: NewJob) -> Result<NewJob, NotPermitted> {
        if !self.allow_queue(&job.queue) {
            return Err(NotPermitted::Queue(job.queue));
        }
        if job.priority > self.top_priority {
            if job.priority != Priority::default() {
                return Err(NotPermitted::Priority { asked: job.priority, top: self.top_priority });
            }
            job.priority = self.top_priority;
        }
        Ok(job)
    }
}
