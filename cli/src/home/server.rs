//! Jobs behind a server that is asked over gRPC: how it is reached, and what its errors mean for whoever typed a command.

use std::{num::NonZeroU32, time::Duration};

use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use sluice_client::{Client, Code, Error, Job, Refusal, ReplayManyRequest};
use sluice_domain::{JobFilter, JobId, NewJob};
use sluice_scheduler::{DryRun, ManyReport, ShownJob};

use super::{Fate, message};
use crate::{
    args::GlobalArgs,
    exit::{CliError, causes},
    jobs::no_such_job,
    table::one_line,
};

/// The API key, where it is in the environment. There is no flag for it: others on the machine see the arguments of a process.
const KEY_VARIABLE: &str = "SLUICE_API_KEY";
/// How long a command goes on trying when the server or its database is away for a moment.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a replay of many may take.
const REPLAY_TIME: Duration = Duration::from_mins(30);

/// A server.
#[derive(Debug)]
pub struct Server {
    client: Client,
    url: String,
}

/// The error of a command that needs a database. `what`: as it reads before "is not offered"; `rest`: the call of REST that
/// does the same, where there is one.
pub fn not_offered(what: &str, rest: Option<&str>) -> CliError {
    let rest = rest.map(|call| format!("ask its REST interface ({call}), or ")).unwrap_or_default();
    CliError::usage(format!(
        "{what} is not offered over --remote (SLUICE_REMOTE); {rest}leave --remote out and give --database-url"
    ))
}

impl Server {
    /// Connects to the server of `--remote`.
    pub async fn connect(url: &str, global: &GlobalArgs) -> Result<Self, CliError> {
        let mut builder = Client::builder(url).retry_for(PATIENCE);
        if let Some(key) = api_key(global)? {
            builder = builder.api_key(key);
        }
        match builder.connect().await {
            Ok(client) => Ok(Self { client, url: url.trim_end_matches('/').to_owned() }),
            // Before the URL was checked it may hold anything, so it is not repeated.
            Err(error @ (Error::InvalidUrl(_) | Error::InvalidApiKey(_))) => {
                Err(failure("the server", &error))
            }
            Err(error) => Err(failure(url, &error)),
        }
    }

    fn failed(&self, error: &Error) -> CliError {
        failure(&self.url, error)
    }

    /// An error of a call about one job.
    fn failed_at(&self, id: JobId, error: &Error) -> CliError {
        match error.refusal().map(|refusal| refusal.status) {
            Some(Code::NotFound) => no_such_job(id),
            Some(Code::FailedPrecondition) => {
                let refusal = error.refusal().map(ToString::to_string).unwrap_or_default();
                CliError::usage(format!("job {id}: {}; `sluice get {id}` shows it", one_line(&refusal)))
            }
            _ => self.failed(error),
        }
    }

    pub(super) async fn job(&self, id: JobId) -> Result<ShownJob, CliError> {
        let job = self.client.get(&id.to_string()).await.map_err(|error| self.failed_at(id, &error))?;
        message::shown(job)
    }

    pub(super) async fn ended_job(&self, id: JobId, most: Duration) -> Result<ShownJob, CliError> {
        let waiting = self.client.wait_for(&id.to_string(), most).await;
        message::shown(waiting.map_err(|error| self.failed_at(id, &error))?)
    }

    pub(super) async fn jobs(&self, filter: &JobFilter, limit: u64) -> Result<Vec<ShownJob>, CliError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let jobs = self.client.list(message::filter(filter)).take(limit);
        let jobs: Vec<Job> = jobs.try_collect().await.map_err(|error| self.failed(&error))?;
        jobs.into_iter().map(message::shown).collect()
    }

    pub(super) fn watch(&self, id: JobId) -> Watch {
        let states = self.client.watch(id.to_string()).boxed();
        Watch { server: Self { client: self.client.clone(), url: self.url.clone() }, id, states }
    }

    pub(super) async fn submit(&self, jobs: &[NewJob]) -> Result<Vec<Fate>, CliError> {
        let requests: Vec<_> = jobs.iter().map(message::request).collect();
        let mut answers = self.client.submit_many(stream::iter(requests));
        let mut fates = Vec::with_capacity(jobs.len());
        while let Some(answer) = answers.try_next().await.map_err(|error| self.failed(&error))? {
            fates.push(match answer.outcome {
                Ok(submitted) if submitted.is_new => Fate::Created(message::id(&submitted.id)?),
                Ok(submitted) => Fate::Existing(message::id(&submitted.id)?),
                Err(error) => Fate::Refused(self.failed(&error)),
            });
        }
        Ok(fates)
    }

    pub(super) async fn cancel(&self, id: JobId) -> Result<(), CliError> {
        let cancelled = self.client.cancel(&id.to_string()).await;
        cancelled.map(drop).map_err(|error| self.failed_at(id, &error))
    }

    pub(super) async fn replay(&self, id: JobId) -> Result<(), CliError> {
        let replayed = self.client.replay(&id.to_string()).await;
        replayed.map(drop).map_err(|error| self.failed_at(id, &error))
    }

    pub(super) async fn replay_matching(
        &self,
        filter: &JobFilter,
        limit: Option<u64>,
        rate_per_minute: Option<NonZeroU32>,
        dry_run: DryRun,
    ) -> Result<ManyReport, CliError> {
        let request = ReplayManyRequest {
            filter: Some(message::filter(filter)),
            limit,
            rate_per_minute: rate_per_minute.map(NonZeroU32::get),
            dry_run: matches!(dry_run, DryRun::Yes),
        };
        let report = self.client.replay_many(request, REPLAY_TIME).await;
        let report = report.map_err(|error| self.failed(&error))?;
        Ok(ManyReport { matched: report.matched, changed: report.changed, dry_run: report.dry_run })
    }
}

/// The changes of one job, as a server tells them.
pub struct Watch {
    server: Server,
    id: JobId,
    states: BoxStream<'static, Result<Job, Error>>,
}

impl Watch {
    pub(super) async fn next(&mut self) -> Result<Option<ShownJob>, CliError> {
        let told = self.states.try_next().await.map_err(|error| self.server.failed_at(self.id, &error))?;
        told.map(message::shown).transpose()
    }
}

/// The API key: what the file holds that was named, or else the variable.
fn api_key(global: &GlobalArgs) -> Result<Option<String>, CliError> {
    let named = global.api_key_file.as_deref().filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = named {
        let read = std::fs::read_to_string(path);
        return read.map(Some).map_err(|error| {
            CliError::usage(format!("failed to read the API key from {}: {error}", path.display()))
        });
    }
    Ok(std::env::var(KEY_VARIABLE).ok().filter(|key| !key.trim().is_empty()))
}

/// What an error of the client means, in one line that says what to do next.
fn failure(url: &str, error: &Error) -> CliError {
    let text = one_line(&format!("failed to {}", causes(error)));
    match error {
        Error::InvalidUrl(_) => CliError::usage(format!("{text}; --remote (SLUICE_REMOTE) holds it")),
        Error::InvalidApiKey(_) => {
            CliError::usage(format!("{text}; {KEY_VARIABLE} or the file of --api-key-file holds it"))
        }
        Error::Tls(_) | Error::Unreachable(_) => CliError::unreachable(format!(
            "{text}; check that a server runs there and that it is its gRPC address (port 8081 by default), not REST's: \
             --remote (SLUICE_REMOTE) is {url}"
        )),
        Error::TimedOut => CliError::unreachable(format!("{text} from {url}; try again")),
        Error::Malformed(_) => CliError::unreachable(format!("{text}; use the same version as {url}")),
        Error::Refused { refusal } => refused(url, &text, refusal),
    }
}

fn refused(url: &str, text: &str, refusal: &Refusal) -> CliError {
    match refusal.status {
        Code::Unauthenticated => CliError::usage(format!(
            "{text}; put a key of {url} into {KEY_VARIABLE}, or into a file for --api-key-file"
        )),
        Code::PermissionDenied => CliError::usage(format!("{text}; use a key that may do this")),
        // REST answers so, too, and what stands before other services.
        Code::Unimplemented | Code::Unknown if refusal.code.is_empty() => CliError::usage(format!(
            "{text}; {url} does not speak Sluice's gRPC, which has a port of its own beside REST (8081 by default)"
        )),
        Code::Unavailable | Code::Aborted | Code::Internal => {
            CliError::unreachable(format!("{text}; try again soon"))
        }
        Code::ResourceExhausted if refusal.retry_after.is_some() => {
            let seconds = refusal.retry_after.map_or(1, |wait| wait.as_secs().max(1));
            CliError::unreachable(format!("{text}; try again in {seconds}s"))
        }
        _ => CliError::usage(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn what_is_not_offered_says_where_it_is() {
        let text = not_offered("`sluice queues`", Some("GET /v1/queues")).to_string();
        assert!(text.contains("GET /v1/queues") && text.contains("--database-url"), "{text}");
        assert!(!not_offered("`sluice up`", None).to_string().contains("REST"));
    }

    #[test]
    fn a_limit_can_be_waited_for_and_bad_input_can_not() {
        let refusal = |status, retry_after| Refusal {
            status,
            code: "x".to_owned(),
            message: "two\nlines".to_owned(),
            field: None,
            retry_after,
        };
        let exit = |refusal: Refusal| failure("u", &refusal.into()).exit();
        assert_eq!(exit(refusal(Code::ResourceExhausted, Some(Duration::from_secs(2)))), Exit::Unreachable);
        assert_eq!(exit(refusal(Code::ResourceExhausted, None)), Exit::WrongUsage);
        assert_eq!(exit(refusal(Code::InvalidArgument, None)), Exit::WrongUsage);
        assert_eq!(exit(refusal(Code::Unavailable, None)), Exit::Unreachable);
        let text = failure("u", &refusal(Code::InvalidArgument, None).into()).to_string();
        assert_eq!(text.lines().count(), 1);
    }
}
