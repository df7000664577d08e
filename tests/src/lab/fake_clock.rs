//! A wall clock that jumps while programs run, by libfaketime.
//!
//! Programs that were started with [`FakeClock::variables`] read their wall clock shifted by what the clock was last set
//! to. Their monotonic clocks are left as they are: a clock that somebody sets, or that NTP corrects, does the same.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Context, Result};
use chrono::TimeDelta;
use tempfile::TempDir;

use super::tools;

/// A clock for any number of processes.
#[derive(Debug)]
pub struct FakeClock {
    library: String,
    /// Of its own, since a server's account must be able to read it.
    folder: TempDir,
}

impl FakeClock {
    /// A clock that goes right; or the reason why there can be none here.
    pub async fn new() -> Result<Result<Self, String>> {
        let library = match tools::find("libfaketime").await? {
            Ok(library) => library,
            Err(reason) => return Ok(Err(reason)),
        };
        let folder = tempfile::Builder::new()
            .prefix("sluice-clock-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .context("make a folder for a clock")?;
        let clock = Self { library, folder };
        clock.set(TimeDelta::zero())?;
        Ok(Ok(clock))
    }

    /// What processes must be started with.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", self.library.clone()),
            ("FAKETIME_TIMESTAMP_FILE", self.folder.path().join("clock").display().to_string()),
            // Read at each look, so that all processes see a jump at once.
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    /// From now on the clock is wrong by so much.
    pub fn set(&self, wrong_by: TimeDelta) -> Result<()> {
        let [fresh, clock] = ["clock.new", "clock"].map(|name| self.folder.path().join(name));
        fs::write(&fresh, format!("{:+}\n", wrong_by.num_seconds())).context("write a clock")?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o644))?;
        // At once: nobody reads half a number.
        fs::rename(&fresh, &clock).context("set a clock")
    }
}
