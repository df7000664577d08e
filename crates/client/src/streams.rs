//! What comes one after the other: the pages of a list, and the states of a watched job.

use std::collections::VecDeque;

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use sluice_proto::v1::{Job, JobFilter, ListRequest, WatchRequest};
use tonic::{Status, Streaming};

use crate::{
    Client, Error,
    retry::{Repeat, Tries},
};

/// Jobs that are read at once.
const PAGE: u32 = 200;

/// The jobs that a filter means.
pub(crate) fn list(client: Client, filter: JobFilter) -> BoxStream<'static, Result<Job, Error>> {
    let listing = Listing { client, filter, read: VecDeque::new(), after: None, is_last_page: false };
    stream::unfold(Some(listing), |listing| async move {
        let mut listing = listing?;
        match listing.next().await {
            Ok(job) => job.map(|job| (Ok(job), Some(listing))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Listing {
    client: Client,
    filter: JobFilter,
    /// What was read and not given on.
    read: VecDeque<Job>,
    after: Option<String>,
    is_last_page: bool,
}

impl Listing {
    async fn next(&mut self) -> Result<Option<Job>, Error> {
        if self.read.is_empty() && !self.is_last_page {
            let page = self.client.list_page(ListRequest {
                filter: Some(self.filter.clone()),
                limit: Some(PAGE),
                after: self.after.take(),
            });
            let page = page.await?;
            self.is_last_page = !page.has_more || page.last_id.is_none();
            self.after = page.last_id;
            self.read = page.jobs.into();
        }
        Ok(self.read.pop_front())
    }
}

/// The states of a job until it has ended.
pub(crate) fn watch(client: Client, id: String) -> BoxStream<'static, Result<Job, Error>> {
    let tries = client.tries();
    let watching = Watching { client, id, states: None, last: None, tries };
    stream::unfold(Some(watching), |watching| async move {
        let mut watching = watching?;
        match watching.next().await {
            Ok(job) => job.map(|job| (Ok(job), Some(watching))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Watching {
    client: Client,
    id: String,
    /// What the server tells; `None` while there is no connection.
    states: Option<Streaming<Job>>,
    /// What was told last: a new connection begins with the job as it stands.
    last: Option<Job>,
    tries: Tries,
}

impl Watching {
    async fn next(&mut self) -> Result<Option<Job>, Error> {
        loop {
            match self.told().await {
                Ok(Some(job)) => {
                    self.tries.went_on();
                    if self.last.as_ref() != Some(&job) {
                        self.last = Some(job.clone());
                        return Ok(Some(job));
                    }
                }
                // An end without an error says that the job has ended.
                Ok(None) => return Ok(None),
                Err(status) => {
                    self.states = None;
                    self.tries.again(&status, Repeat::Safe).await?;
                }
            }
        }
    }

    async fn told(&mut self) -> Result<Option<Job>, Status> {
        if let Some(states) = &mut self.states {
            return states.message().await;
        }
        // No deadline for the whole: a job may take days. The beginning has one.
        let request = self.client.request(WatchRequest { id: self.id.clone() }, None);
        let mut service = self.client.service.clone();
        let beginning = tokio::time::timeout(self.client.settings.timeout, service.watch(request)).await;
        let states = beginning.map_err(|_| Status::deadline_exceeded("no answer came in time"))??;
        self.states.insert(states.into_inner()).message().await
    }
}
