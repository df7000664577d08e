//! Where a run's calls go: the configuration, DeepSeek by its key, or the simulator.

use sluice_config::Configuration;
use sluice_store::PausedKind;

use super::simulator::SimulatorThread;
use crate::{
    args::GlobalArgs,
    configuration_file::{self, ApplyMode, GivenConfiguration},
    database::Database,
    exit::{CliError, causes},
};

/// The reason of a pause that a person made.
const PAUSED_BY_OPERATOR: &str = "operator";

/// Where calls go.
pub struct ChosenUpstreams {
    /// What the worker is told.
    pub configuration: Configuration,
    /// The simulator, where it stands in.
    pub simulator: Option<SimulatorThread>,
    /// In words, for the line that says it.
    pub said: String,
}

impl ChosenUpstreams {
    /// Finds them. On a given database its own configuration counts, and the file only where it has none; on a private
    /// one the file comes first, and the simulator stands in where there is nothing at all.
    pub async fn choose(global: &GlobalArgs, database: &Database) -> Result<Self, CliError> {
        let given = configuration_file::file_to_use(global)
            .map(|path| GivenConfiguration::read(&path))
            .transpose()?;
        let applied = configuration_file::current(&database.store).await?;
        let from_key = || Configuration::from_environment_defaults(|name| std::env::var(name).ok());
        let (configuration, source) = match (given, applied) {
            (Some(given), _) if database.is_private() => (given.configuration, given.name),
            (given, Some((applied, configuration))) => {
                if given.is_some_and(|given| given.configuration != configuration) {
                    eprintln!(
                        "note: the database's configuration counts, not the file; see `sluice apply --dry-run`"
                    );
                }
                (configuration, format!("configuration {} of the database", applied.version))
            }
            (Some(given), None) => {
                configuration_file::apply(&database.store, &given, ApplyMode::Store, "sluice run").await?;
                let name = given.name;
                (given.configuration, format!("{name}, applied to the database"))
            }
            (None, None) => match from_key() {
                Some(configuration) => (configuration, "DEEPSEEK_API_KEY".to_owned()),
                None if database.is_private() => return Self::simulated(),
                None => return Err(nowhere()),
            },
        };
        check_secrets(&configuration)?;
        let names: Vec<_> = configuration
            .upstreams
            .iter()
            .map(|upstream| format!("{} ({})", upstream.name, upstream.base_url))
            .collect();
        let said = format!("upstreams: {}, from {source}", names.join(", "));
        Ok(Self { configuration, simulator: None, said })
    }

    fn simulated() -> Result<Self, CliError> {
        let simulator = SimulatorThread::start()?;
        Ok(Self {
            configuration: Configuration::simulator(&simulator.base_url),
            simulator: Some(simulator),
            said: "upstreams: none is configured, so the simulator answers (made-up texts; costs are what DeepSeek \
                   would ask); set DEEPSEEK_API_KEY or write a sluice.yaml for real ones"
                .to_owned(),
        })
    }

    /// What of them is part of a run's identity. The simulator's port is not: it changes with each start.
    pub fn identity_parts(&self) -> Vec<&str> {
        if self.simulator.is_some() {
            return vec!["simulator"];
        }
        self.configuration
            .upstreams
            .iter()
            .flat_map(|upstream| [upstream.name.as_str(), upstream.base_url.as_str()])
            .collect()
    }

    /// On a private database, lifts pauses that an earlier run met (a refused key, an empty account): whoever starts
    /// another run has seen to the cause, and else it is met again at once. Pauses by a person stay.
    pub async fn lift_old_pauses(&self, database: &Database) -> Result<(), CliError> {
        if !database.is_private() {
            return Ok(());
        }
        for pause in database.store.pauses().await? {
            let is_ours = self.configuration.upstreams.iter().any(|upstream| match pause.kind {
                PausedKind::Upstream => upstream.name.as_str() == pause.name,
                PausedKind::Account => upstream.account == pause.name,
                PausedKind::Model => {
                    pause.name.split_once(' ').is_some_and(|(of, _)| of == upstream.name.as_str())
                }
            });
            if is_ours && pause.reason != PAUSED_BY_OPERATOR {
                database.store.resume(pause.kind, &pause.name).await?;
            }
        }
        Ok(())
    }
}

/// A run that can call nothing is refused before it starts; one that can call some goes on with those.
fn check_secrets(configuration: &Configuration) -> Result<(), CliError> {
    let problems: Vec<_> = configuration.upstreams.iter().map(secret_problem).collect();
    let first = problems.iter().flatten().next();
    match first {
        Some(problem) if problems.iter().all(Option::is_some) => {
            Err(CliError::usage(format!("{problem}; set it and run again")))
        }
        Some(problem) => {
            eprintln!("note: {problem}");
            Ok(())
        }
        None => Ok(()),
    }
}

fn secret_problem(upstream: &sluice_config::Upstream) -> Option<String> {
    let error = upstream.auth.resolve(|name| std::env::var(name).ok()).err()?;
    Some(format!("upstream {} has no key: {}", upstream.name, causes(&error)))
}

fn nowhere() -> CliError {
    CliError::usage(
        "the database has no configuration, and there is no sluice.yaml and no DEEPSEEK_API_KEY: set the key, or \
         apply a configuration with `sluice apply -f sluice.yaml` (the simulator stands in only on a private \
         database: leave out --database-url)",
    )
}
