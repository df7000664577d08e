//! `sluice.yaml` on its way into the database: which file it is, what it says, and how it differs from what counts.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sluice_config::{Change, Configuration, difference};
use sluice_store::{AppliedConfiguration, Store};

use crate::{args::GlobalArgs, exit::CliError};

/// The file that is used where none is named, if it is there.
const DEFAULT_FILE: &str = "sluice.yaml";

/// A configuration that was read, and is right in full.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GivenConfiguration {
    /// What it is called in messages.
    pub name: String,
    /// The text, as it will be stored.
    pub document: String,
    /// What it says.
    pub configuration: Configuration,
}

impl GivenConfiguration {
    /// Reads a file and refuses what is wrong; `-` is standard input.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let (name, text) = if path.as_os_str() == "-" {
            ("standard input".to_owned(), io::read_to_string(io::stdin().lock()))
        } else {
            (path.display().to_string(), fs::read_to_string(path))
        };
        let document = text
            .map_err(|error| CliError::usage(format!("failed to read the configuration {name}: {error}")))?;
        let configuration = Configuration::parse(&document).map_err(|errors| {
            let problems: Vec<_> = errors.0.iter().map(|problem| format!("{name}: {problem}")).collect();
            CliError::usage(problems.join("\n"))
        })?;
        Ok(Self { name, document, configuration })
    }

    /// Writes out a configuration that was made here.
    pub fn made(name: &str, configuration: Configuration) -> Self {
        Self { name: name.to_owned(), document: configuration.to_yaml(), configuration }
    }
}

/// The file to use: `--config`, else `sluice.yaml` in the current folder if it is there.
pub fn file_to_use(global: &GlobalArgs) -> Option<PathBuf> {
    let named = global.config.clone().filter(|path| !path.as_os_str().is_empty());
    named.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()))
}

/// The configuration that counts, as it is stored and as it is understood.
pub async fn current(store: &Store) -> Result<Option<(AppliedConfiguration, Configuration)>, CliError> {
    let Some(applied) = store.configuration().await? else { return Ok(None) };
    let configuration = Configuration::parse(&applied.document).map_err(|errors| {
        CliError::unreachable(format!(
            "failed to understand configuration {} in the database ({errors}); a newer program may have applied it: \
             use that one, or apply a file with `sluice apply -f`",
            applied.version
        ))
    })?;
    Ok(Some((applied, configuration)))
}

/// What became of an apply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    /// The version that counts now; 0 where there is none.
    pub version: i64,
    /// What changed, or would.
    pub changes: Vec<Change>,
}

/// Whether a configuration is stored or only looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApplyMode {
    /// It is stored where it differs.
    Store,
    /// Only the difference is found.
    Compare,
}

/// Applies a configuration where it differs from the one that counts.
pub async fn apply(
    store: &Store,
    given: &GivenConfiguration,
    mode: ApplyMode,
    applied_by: &str,
) -> Result<Applied, CliError> {
    let (version, old) = match current(store).await? {
        Some((applied, configuration)) => (applied.version, configuration),
        None => (0, Configuration::default()),
    };
    let changes = difference(&old, &given.configuration);
    if mode == ApplyMode::Compare || (changes.is_empty() && version > 0) {
        return Ok(Applied { version, changes });
    }
    let limits = given.configuration.declared_limits();
    match store.configuration_apply_if_newest(version, &given.document, &limits, applied_by).await? {
        Some(version) => Ok(Applied { version, changes }),
        None => Err(CliError::unreachable(
            "failed to apply the configuration: somebody else applied one at the same moment; look at the \
             difference with --dry-run and apply again",
        )),
    }
}
