//! What a user can type: the global options and the list of commands. Each command's own options stand in its file
//! under `commands`.

use std::{path::PathBuf, time::Duration};

use clap::{ArgMatches, Parser, Subcommand, ValueEnum, parser::ValueSource};
use sluice_telemetry::TelemetryOptions;

use crate::{commands, exit::CliError};

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
    /// Ask the server at this gRPC address instead of a database
    ///
    /// For submit, get, list, watch, cancel and replay. The API key is taken from the variable SLUICE_API_KEY or from
    /// --api-key-file. Example: --remote https://sluice.example.com
    #[arg(long, global = true, env = "SLUICE_REMOTE", value_name = "URL")]
    pub remote: Option<String>,
    /// The file that holds the API key for --remote
    ///
    /// Without it, the variable SLUICE_API_KEY holds the key. Example: --api-key-file /run/secrets/sluice
    #[arg(long, global = true, env = "SLUICE_API_KEY_FILE", value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
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

impl GlobalArgs {
    /// Decides between a database and a server where both are said: what was typed wins over what the environment says, and of
    /// two variables the server's wins.
    pub fn settle(&mut self, matches: &ArgMatches) -> Result<(), CliError> {
        // Global options are told at the top, wherever they were typed.
        let is_typed = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        match (is_typed("remote"), is_typed("database_url")) {
            (true, true) => Err(CliError::usage("give either --remote or --database-url, not both")),
            (false, true) => {
                self.remote = None;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The server to ask; an empty variable counts as none.
    pub fn remote(&self) -> Option<&str> {
        self.remote.as_deref().map(str::trim).filter(|url| !url.is_empty())
    }
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

/// Whether a command works on a server (`--remote`) as on a database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OverRemote {
    /// It does, or needs neither.
    Offered,
    /// It does not; this call of REST does the same.
    AskRest(&'static str),
    /// It works on a database by its nature.
    NeedsDatabase,
}

impl Command {
    /// Whether it works over `--remote`, and what it is called.
    pub const fn over_remote(&self) -> (OverRemote, &'static str) {
        use OverRemote::{AskRest, NeedsDatabase, Offered};
        match self {
            Self::Submit(_) => (Offered, "submit"),
            Self::Get(_) => (Offered, "get"),
            Self::List(_) => (Offered, "list"),
            Self::Watch(_) => (Offered, "watch"),
            Self::Cancel(_) => (Offered, "cancel"),
            Self::Replay(_) => (Offered, "replay"),
            Self::Sim(_) => (Offered, "sim"),
            Self::Explain(_) => (AskRest("GET /v1/jobs/{id}/explain"), "explain"),
            Self::Release(_) => (AskRest("POST /v1/releases"), "release"),
            Self::Results(_) => (AskRest("GET /v1/jobs/{id}/result"), "results"),
            Self::Queues(_) => (AskRest("GET /v1/queues"), "queues"),
            Self::Pause(_) => (AskRest("POST /v1/queues/{queue}/pause"), "pause"),
            Self::Resume(_) => (AskRest("POST /v1/queues/{queue}/resume"), "resume"),
            Self::Upstreams(_) => (AskRest("GET /v1/upstreams"), "upstreams"),
            Self::Run(_) => (NeedsDatabase, "run"),
            Self::Up(_) => (NeedsDatabase, "up"),
            Self::Scheduler(_) => (NeedsDatabase, "scheduler"),
            Self::Worker(_) => (NeedsDatabase, "worker"),
            Self::Migrate(_) => (NeedsDatabase, "migrate"),
            Self::Apply(_) => (NeedsDatabase, "apply"),
            Self::Webhooks(_) => (NeedsDatabase, "webhooks"),
            Self::Keys(_) => (NeedsDatabase, "keys"),
            Self::Doctor(_) => (NeedsDatabase, "doctor"),
        }
    }

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
