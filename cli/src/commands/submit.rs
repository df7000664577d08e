//! `sluice submit`: jobs from a file or one from the command line; prints their ids.

use std::{fs, io, path::PathBuf};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sluice_domain::{
    ApiPath, IdempotencyKey, InvalidName, JobId, MAX_MAX_ATTEMPTS, NewJob, OnUnknown, Priority, QueueName,
    Tags, TenantName, WebhookUrl,
};
use sluice_scheduler::{InvalidInput, parse_submission, wall_clock};

use crate::{
    commands::Context,
    exit::{CliError, Exit},
    filter,
    home::Home,
    input::{FillIn, FillInArgs, Request, RequestReader, Source, check},
    output_line::CUSTOM_ID_TAG,
    submitter::{self, Submitter},
    times::{self, Moment},
};

/// Submit a file of requests, or one request, and print the ids
///
/// Lines are OpenAI batch lines or short ones such as {"prompt":"…"}, mixed freely, as for `sluice run`. Every line is
/// checked before anything is submitted. The jobs are worked by `sluice worker` or `sluice up`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice submit questions.jsonl --queue nightly --tag project=alpha
  sluice submit --body '{\"model\":\"deepseek-flash\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}'
  sluice submit --path /v1/embeddings --body @request.json --priority 5 --run-at 2h
  ID=$(sluice submit --body @request.json --idempotency-key order-17) && sluice watch $ID")]
pub struct SubmitArgs {
    /// The requests, one a line; `-` is standard input
    #[arg(value_name = "FILE.jsonl", required_unless_present = "body", conflicts_with_all = ["body", "path"])]
    file: Option<PathBuf>,
    /// The request's JSON; `@FILE` reads it from a file, `-` from standard input
    #[arg(long, value_name = "JSON", conflicts_with_all = ["template", "system", "parameters"])]
    body: Option<String>,
    /// The API path to call [default: /v1/chat/completions]
    #[arg(long, value_name = "PATH", value_parser = api_path)]
    path: Option<ApiPath>,
    #[command(flatten)]
    fill_in: FillInArgs,
    #[command(flatten)]
    options: JobOptions,
    /// Leave out lines that can't be used
    #[arg(long, conflicts_with = "body")]
    skip_invalid: bool,
}

/// What is the same for all jobs of one submit.
#[derive(clap::Args, Debug)]
struct JobOptions {
    /// The line they stand in
    #[arg(long, value_name = "QUEUE", value_parser = submit_queue, default_value = "default")]
    queue: QueueName,
    /// How urgent, 1 to 5 (5 is most urgent); a line's own wins [default: 3]
    #[arg(long, value_name = "N", value_parser = priority)]
    priority: Option<Priority>,
    /// A repeated submit with the same key answers with the first job; in a file, the line's id is added to it
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Not before then: a span from now (30m, 2h) or a time (2026-10-01T08:00:00Z)
    #[arg(long, value_name = "WHEN", value_parser = times::moment)]
    run_at: Option<Moment>,
    /// Fail those that have not ended by then, written as for --run-at
    #[arg(long, value_name = "WHEN", value_parser = times::moment)]
    deadline: Option<Moment>,
    /// Tries at most [default: the queue's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_MAX_ATTEMPTS)))]
    max_attempts: Option<u16>,
    /// A tag to find them by; may be given several times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = filter::tag)]
    tags: Vec<(String, String)>,
    /// Tell this URL when they end; its tenant's secret must be configured (docs/webhooks.md)
    #[arg(long, value_name = "URL", value_parser = webhook)]
    webhook: Option<WebhookUrl>,
    /// What to do when a call was sent and its answer is not known: `retry` may pay twice, `hold` waits for you
    #[arg(long, value_name = "retry|hold", value_parser = on_unknown, default_value = "retry")]
    on_unknown: OnUnknown,
}

/// Checks everything, then submits.
pub async fn run(args: SubmitArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    let fill_in = args.fill_in.checked().map_err(CliError::usage)?;
    let options = &args.options;
    if let Some(body) = &args.body {
        let mut job = one_job(&read_body(body)?, args.path.as_ref(), &fill_in)?;
        return context
            .with_home("sluice-submit", async |home| {
                options.start(home).await?.complete(&mut job, None)?;
                submitter::one(home, job, context.global.output).await
            })
            .await;
    }
    let Some(file) = &args.file else {
        return Err(CliError::usage("name a file of requests, or give --body"));
    };
    let source = Source::open(file)?;
    let checked = check(&source, &fill_in)?;
    if let Some(report) = checked.report(&source.name) {
        if !args.skip_invalid {
            let report = report.trim_end();
            return Err(CliError::usage(format!(
                "{report}\nnothing was submitted; --skip-invalid leaves them out"
            )));
        }
        eprint!("{report}");
    }
    context
        .with_home("sluice-submit", async |home| {
            let options = options.start(home).await?;
            let mut reader = RequestReader::open(&source, &checked, &fill_in)?;
            let mut submitter = Submitter::new(home, context.global.output, checked.requests);
            while let Some(request) = reader.next_request()? {
                let custom_id = request.custom_id();
                let mut job = job_of(request);
                options.complete(&mut job, Some(&custom_id))?;
                submitter.add(job, custom_id).await?;
            }
            reader.finish()?;
            submitter.finish().await
        })
        .await
}

/// The options with spans turned into times by the clock of [`Home::now`].
struct StartedOptions<'a> {
    given: &'a JobOptions,
    tags: Tags,
    run_at: Option<DateTime<Utc>>,
    deadline: Option<DateTime<Utc>>,
}

impl JobOptions {
    async fn start(&self, home: &Home) -> Result<StartedOptions<'_>, CliError> {
        let now = home.now().await?;
        let run_at = self.run_at.map(|moment| moment.after(now));
        let deadline = self.deadline.map(|moment| moment.after(now));
        if deadline.is_some_and(|deadline| deadline <= run_at.unwrap_or(now)) {
            return Err(CliError::usage("--deadline must be in the future and after --run-at"));
        }
        let tags = Tags::new(self.tags.iter().cloned().collect())
            .map_err(|error| CliError::usage(format!("--tag: {error}")))?;
        Ok(StartedOptions { given: self, tags, run_at, deadline })
    }
}

impl StartedOptions<'_> {
    /// Puts the options into a job; `custom_id` is what a line of a file is found by.
    fn complete(&self, job: &mut NewJob, custom_id: Option<&str>) -> Result<(), CliError> {
        let given = self.given;
        job.queue = given.queue.clone();
        job.run_at = self.run_at;
        job.deadline = self.deadline;
        job.max_attempts = given.max_attempts;
        job.on_unknown = given.on_unknown;
        if let Some(priority) = given.priority.filter(|_| job.priority == Priority::default()) {
            job.priority = priority;
        }
        if let Some(key) = &given.idempotency_key {
            let key = custom_id.map_or_else(|| key.clone(), |id| format!("{key}:{id}"));
            let key =
                IdempotencyKey::new(key).map_err(|e| CliError::usage(format!("--idempotency-key: {e}")))?;
            job.idempotency_key = Some(key);
        }
        if let Some(url) = &given.webhook {
            job.id = JobId::generate_for_webhook();
            job.webhook = Some(url.clone());
        }
        job.tags = self.tags.clone();
        if let Some(id) = custom_id {
            let mut pairs = self.tags.pairs().clone();
            pairs.insert(CUSTOM_ID_TAG.to_owned(), id.to_owned());
            job.tags = Tags::new(pairs).map_err(|error| CliError::usage(format!("--tag: {error}")))?;
        }
        Ok(())
    }
}

fn webhook(text: &str) -> Result<WebhookUrl, String> {
    WebhookUrl::new(text).map_err(|error| error.to_string())
}

/// The job of one line.
fn job_of(request: Request) -> NewJob {
    NewJob {
        id: JobId::generate(),
        tenant: TenantName::default_tenant(),
        queue: QueueName::default(),
        path: request.path,
        model: request.model,
        priority: request.priority,
        idempotency_key: None,
        run_at: None,
        deadline: None,
        max_attempts: None,
        on_unknown: OnUnknown::default(),
        tags: Tags::default(),
        webhook: None,
        traceparent: None,
        body: request.body,
    }
}

/// The job of `--body`, by the rules of REST. The body's bytes stay as they are.
fn one_job(body: &str, path: Option<&ApiPath>, fill_in: &FillIn) -> Result<NewJob, CliError> {
    if serde_json::from_str::<serde::de::IgnoredAny>(body).is_err() {
        return Err(CliError::usage("--body is not valid JSON; `@FILE` reads it from a file"));
    }
    let mut document = format!("{{\"body\":{body}");
    for (name, value) in [
        ("path", path.map(|path| Value::from(path.as_str()))),
        ("model", fill_in.model.as_ref().map(|model| Value::from(model.as_str()))),
    ] {
        if let Some(value) = value {
            document.extend([",", &json!(name).to_string(), ":", &value.to_string()]);
        }
    }
    document.push('}');
    parse_submission(document.as_bytes(), &TenantName::default_tenant(), wall_clock())
        .map_err(|error| refused(&error))
}

fn refused(error: &InvalidInput) -> CliError {
    let place = error.pointer.as_deref().map(|pointer| format!("{pointer}: ")).unwrap_or_default();
    CliError::usage(format!("{place}{}", error.message))
}

fn read_body(given: &str) -> Result<String, CliError> {
    let (name, text) = if given == "-" {
        ("standard input", io::read_to_string(io::stdin().lock()))
    } else if let Some(path) = given.strip_prefix('@') {
        (path, fs::read_to_string(path))
    } else {
        return Ok(given.trim().to_owned());
    };
    let text =
        text.map_err(|error| CliError::usage(format!("failed to read the body from {name}: {error}")))?;
    Ok(text.trim().to_owned())
}

fn api_path(text: &str) -> Result<ApiPath, InvalidName> {
    ApiPath::new(text)
}

fn priority(text: &str) -> Result<Priority, String> {
    let number = text.parse().map_err(|_| "must be 1 to 5 (5 is most urgent)".to_owned())?;
    Priority::new(number).map_err(|error| error.to_string())
}

fn on_unknown(text: &str) -> Result<OnUnknown, String> {
    match text {
        "retry" => Ok(OnUnknown::Retry),
        "hold" => Ok(OnUnknown::Hold),
        _ => Err("must be retry or hold".to_owned()),
    }
}

fn submit_queue(text: &str) -> Result<QueueName, String> {
    let queue = QueueName::new(text).map_err(|error| error.to_string())?;
    if queue.is_of_a_run() {
        Err("queues that begin with run: belong to `sluice run`".to_owned())
    } else {
        Ok(queue)
    }
}
