//! What a user can type: the global options and the list of commands. Each command's own options stand in its file
//! under `commands`.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use sluice_telemetry::TelemetryOptions;

use crate::commands;

/// Says it where faults can be ordered, so that such a program is not taken for a release.
const VERSION: &str = if cfg!(feature = "failpoints") {
    concat!(env!("CARGO_PKG_VERSION"), "+failpoints")
} else {
    env!("CARGO_PKG_VERSION")
};

/// A durable queue for LLM API calls on Postgres.
#[derive(Parser, Debug)]
#[command(name = "sluice", version = VERSION, about, max_term_width = 110)]
#[command(after_help = "Exit codes: 0 done, 1 some jobs failed, 2 wrong usage, 3 cannot reach something, \
                        130 interrupted.")]
pub struct Args {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of every command")]
pub struct GlobalArgs {
    /// The Postgres to use; without one, a private database in the data directory is started
    ///
    /// Example: --database-url postgres://sluice:secret@db.internal:5432/sluice
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// The same database past a pooler, for heartbeats, LISTEN and migrations
    ///
    /// Only where --database-url leads to PgBouncer or the like.
    /// Example: --database-direct-url postgres://sluice:secret@db.internal:5433/sluice
    #[arg(long, global = true, env = "DATABASE_DIRECT_URL", hide_env_values = true, value_name = "URL")]
    pub database_direct_url: Option<String>,
    /// Where the private database and other files lie
    ///
    /// Default: the platform's data directory. Example: --data-dir ./sluice-data
    #[arg(long, global = true, env = "SLUICE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The configuration: upstreams, routes, queues
    ///
    /// Default: ./sluice.yaml, where it exists. Example: --config deploy/sluice.yaml
    #[arg(long, global = true, env = "SLUICE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How what is found is printed; `json` is stable, for scripts
    ///
    /// Example: --output json
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub output: OutputFormat,
    /// How long leases outlive their worker's last beat; beats and scans shorten with it
    ///
    /// For tests: all processes of a database must be given the same.
    #[arg(long, global = true, env = "SLUICE_LEASE_TTL", hide = true, value_name = "TIME",
          value_parser = humantime::parse_duration)]
    pub lease_ttl: Option<Duration>,
}

/// How what is found is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    #[default]
    Table,
    /// For scripts; stable.
    Json,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    Run(commands::run::RunArgs),
    Up(commands::up::UpArgs),
    Scheduler(commands::scheduler::SchedulerArgs),
    Worker(commands::worker::WorkerCommandArgs),
    Migrate(commands::migrate::MigrateArgs),
    Apply(commands::apply::ApplyArgs),
    Submit(Box<commands::submit::SubmitArgs>),
    Get(commands::get::GetArgs),
    List(commands::list::ListArgs),
    Watch(commands::watch::WatchArgs),
    Cancel(commands::cancel::CancelArgs),
    Explain(commands::explain::ExplainArgs),
    Replay(commands::replay::ReplayArgs),
    Release(commands::release::ReleaseArgs),
    Results(commands::results::ResultsArgs),
    Queues(commands::queues::QueuesArgs),
    Pause(commands::pause::PauseArgs),
    Resume(commands::pause::ResumeArgs),
    Upstreams(commands::upstreams::UpstreamsArgs),
    Webhooks(commands::webhooks::WebhooksArgs),
    Keys(commands::keys::KeysArgs),
    Sim(commands::sim::SimArgs),
    Doctor(commands::doctor::DoctorArgs),
}

impl Command {
    /// What the process is called in telemetry, and from which level on it logs where `SLUICE_LOG` is not set.
    /// Roles that run for long tell what they do; commands that a person waits for speak for themselves.
    pub fn telemetry(&self) -> TelemetryOptions {
        let (service_name, default_filter) = match self {
            Self::Run(_) => ("sluice-run", "warn"),
            Self::Up(_) => ("sluice", "info"),
            Self::Scheduler(_) => ("sluice-scheduler", "info"),
            Self::Worker(_) => ("sluice-worker", "info"),
            _ => ("sluice-cli", "warn"),
        };
        TelemetryOptions { default_filter: default_filter.to_owned(), ..TelemetryOptions::new(service_name) }
    }
}
