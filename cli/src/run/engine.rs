//! A run from its plan to its exit code: opens what it needs, starts the worker, collects results, ends cleanly.

use std::{
    collections::HashSet,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use sluice_domain::{JobId, QueueName, TenantName};
use sluice_scheduler::MaintenanceHandle;
use sluice_store::Bodies;
use sluice_worker::{ConfigurationSource, SettledJob, Worker, WorkerHandle, WorkerOptions};
use tokio::sync::mpsc;

use super::{
    collector::Collector,
    identity::RunIdentity,
    outcome::Ending,
    output_file::OutputFile,
    outstanding::Outstanding,
    patience::patiently,
    plan::{Limits, RunPlan},
    submitter::{JobPattern, Submitter},
    summary::Summary,
    tally::Tally,
    upstreams::ChosenUpstreams,
    watch::Watch,
    writer::ResultWriter,
};
use crate::{
    attempt,
    commands::Context,
    database::{Database, Schema},
    exit::{CliError, Exit, causes},
    roles::{self, Bells},
    stop_signals::StopSignals,
};

/// Connections of a run: its worker, its collector, its submitter, and the maintenance loops.
const MAX_CONNECTIONS: u32 = 16;
/// Jobs that are asked about at once when OUT is gone on with.
const KEPT_PAGE: usize = 1_000;

/// Works a plan to its end.
pub async fn work(plan: RunPlan, context: &Context<'_>) -> Result<Exit, CliError> {
    // Before anything is started: what is wrong with OUT is wrong whatever else is there.
    let output = OutputFile::open(&plan.output, plan.existing, plan.source.path())?;
    let database = Database::open(&context.global, "sluice-run", MAX_CONNECTIONS, Schema::Migrate).await?;
    let result = work_on(&database, output, plan, context).await;
    let closed = database.close().await;
    let exit = result?;
    closed.map(|()| exit)
}

async fn work_on(
    database: &Database,
    mut output: OutputFile,
    plan: RunPlan,
    context: &Context<'_>,
) -> Result<Exit, CliError> {
    let upstreams = ChosenUpstreams::choose(&context.global, database).await?;
    let options = plan.fill_in.fingerprint_parts();
    let identity = RunIdentity::new(&plan.checked.input_sha256, options, upstreams.identity_parts());
    let tenant = TenantName::default_tenant();
    go_on_with(&mut output, database, &identity.queue()).await?;
    upstreams.lift_old_pauses(database).await?;
    eprintln!("{}", upstreams.said);
    if !output.kept().is_empty() {
        eprintln!("going on: {} of {} results are there already", output.kept().len(), plan.checked.requests);
    }
    let began = Instant::now();
    let mut signals = StopSignals::listen()?;
    let maintenance = roles::start_maintenance(database, context, Bells::default(), None);
    let (settled, settled_groups) = mpsc::unbounded_channel();
    let worker_plan =
        WorkerPlan { queue: identity.queue(), tenant: tenant.clone(), concurrency: plan.concurrency };
    let worker = start_worker(database, &upstreams, worker_plan, settled, context).await?;

    let outstanding = Arc::new(Outstanding::default());
    let writer = start_writer(&output)?;
    let tally = Tally::new(plan.checked.requests, output.kept());
    let collector = Collector::new(database.store.clone(), Arc::clone(&outstanding), writer, tally);
    let (found, found_groups) = mpsc::unbounded_channel();
    let submitter = Submitter {
        store: database.store.clone(),
        pattern: JobPattern {
            identity: identity.clone(),
            tenant,
            max_attempts: plan.max_attempts,
            on_unknown: plan.on_unknown,
        },
        outstanding,
        written: output.kept().iter().map(|line| line.job_id).collect::<HashSet<JobId>>(),
        found,
    };
    let skipped_lines = plan.checked.bad_lines.len();
    let submitting = submitter.run(plan.source, Arc::new(plan.checked), plan.fill_in);
    let flow = Flow { collector, settled_groups, found_groups, worker, maintenance, limits: plan.limits };
    let (ending, tally) = flow.run(submitting, &mut signals, database).await?;

    let queue = identity.queue();
    let summary = Summary {
        tally: &tally,
        ending: &ending,
        took: began.elapsed(),
        skipped_lines,
        output: &plan.output,
        queue: &queue,
        database,
    };
    eprintln!("{}", summary.text());
    Ok(ending.exit(&tally))
}

/// Everything that runs while a run runs.
struct Flow {
    collector: Collector,
    settled_groups: mpsc::UnboundedReceiver<Vec<SettledJob>>,
    found_groups: mpsc::UnboundedReceiver<Vec<JobId>>,
    worker: WorkerHandle,
    maintenance: MaintenanceHandle,
    limits: Limits,
}

impl Flow {
    /// Works until the end, whichever it is, and puts everything away.
    async fn run(
        mut self,
        submitting: impl Future<Output = Result<(), CliError>> + Send + 'static,
        signals: &mut StopSignals,
        database: &Database,
    ) -> Result<(Ending, Tally), CliError> {
        let mut submitting = tokio::spawn(submitting);
        let mut watch = Watch::start(&self.collector.tally, self.limits);
        let ending = tokio::select! {
            ending = watch.collect(
                &mut self.collector,
                &mut self.settled_groups,
                &mut self.found_groups,
                &mut submitting,
                &self.worker,
                database,
            ) => ending,
            () = signals.next() => Ok(Ending::Interrupted),
            // By itself it ends only where it can't go on; why is told below.
            () = self.worker.join() => Ok(Ending::Interrupted),
        };
        submitting.abort();
        self.end_worker(&ending, &watch, signals).await;
        // What ended while the worker drained, and what its word on was lost.
        let swept = self.collector.sweep_all().await;
        watch.finish();
        let unwritten = roles::tell_end(&self.worker);
        let (tally, written) = self.collector.finish().await;
        self.maintenance.stop().await;
        written.map_err(|error| cannot_write(&error))?;
        let ending = ending?;
        unwritten?;
        swept?;
        Ok((ending, tally))
    }

    /// Lets calls under way end; a second signal lets go of them.
    async fn end_worker(&self, ending: &Result<Ending, CliError>, watch: &Watch, signals: &mut StopSignals) {
        self.worker.stop_starting();
        let in_flight = self.worker.in_flight();
        if in_flight > 0 && !matches!(ending, Ok(Ending::Complete)) {
            watch.say(&format!("finishing {in_flight} calls under way; Ctrl-C again lets go of them"));
        }
        tokio::select! {
            () = self.worker.drain() => {}
            () = signals.next() => {
                watch.say("letting go of calls under way");
                self.worker.stop_now().await;
            }
        }
    }
}

/// Checks that what OUT holds is of this run, and takes out results that are no longer their jobs' last word, since
/// those were replayed.
async fn go_on_with(output: &mut OutputFile, database: &Database, queue: &QueueName) -> Result<(), CliError> {
    let mut outdated = HashSet::new();
    for page in output.kept().chunks(KEPT_PAGE) {
        let ids: Vec<JobId> = page.iter().map(|line| line.job_id).collect();
        let jobs = patiently(|| database.store.jobs_by_id(&ids, Bodies::LeftOut)).await?;
        if jobs.len() != ids.len() || jobs.iter().any(|job| job.queue != *queue) {
            return Err(output.foreign());
        }
        for (line, job) in page.iter().zip(&jobs) {
            let is_success = job.state == sluice_domain::JobState::Succeeded;
            if !job.state.is_terminal() || (is_success && !line.is_success) {
                outdated.insert(job.id);
            }
        }
    }
    output.drop_lines(|job| outdated.contains(&job))
}

struct WorkerPlan {
    queue: QueueName,
    tenant: TenantName,
    concurrency: usize,
}

async fn start_worker(
    database: &Database,
    upstreams: &ChosenUpstreams,
    plan: WorkerPlan,
    settled: mpsc::UnboundedSender<Vec<SettledJob>>,
    context: &Context<'_>,
) -> Result<WorkerHandle, CliError> {
    let configuration = ConfigurationSource::Fixed(upstreams.configuration.clone());
    let metrics = context.telemetry.metrics().clone();
    let mut options = WorkerOptions {
        name: "run".to_owned(),
        concurrency: plan.concurrency,
        tenant: Some(plan.tenant),
        queues: Some(vec![plan.queue]),
        settled: Some(settled),
        timing: roles::lease_timing(&context.global),
        suspect_command: attempt::command(),
        ..WorkerOptions::new(database.store.clone(), configuration, metrics)
    };
    roles::use_data_dir(&mut options, database);
    Worker::start(options)
        .await
        .map_err(|error| CliError::unreachable(format!("failed to start the worker: {}", causes(&error))))
}

fn start_writer(output: &OutputFile) -> Result<ResultWriter, CliError> {
    output.handle().and_then(ResultWriter::start).map_err(|error| cannot_write(&error))
}

fn cannot_write(error: &io::Error) -> CliError {
    CliError::unreachable(format!(
        "failed to write the results: {error}; they are kept in the database: make room and run again to go on"
    ))
}

/// Between two looks at how far it is.
pub(super) const TICK: Duration = Duration::from_millis(200);
