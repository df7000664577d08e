//! Programs and libraries of the system that some rows need. A script of each (`tests/tools`) finds it, installs it where
//! that is allowed, or says why it can't be had; then the row is skipped with that word.

use std::path::Path;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// The exit code of a script whose tool can't be had.
const NOT_TO_BE_HAD: i32 = 4;

/// What the script of that name says of its tool (a path, mostly); or why there is none.
pub async fn find(name: &str) -> Result<Result<String, String>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(name);
    let output = Command::new(&script).output().await.with_context(|| format!("run {}", script.display()))?;
    let [said, told] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned());
    match output.status.code() {
        Some(0) => Ok(Ok(said)),
        Some(NOT_TO_BE_HAD) => Ok(Err(told)),
        _ => bail!("{name} ended with {}: {told}", output.status),
    }
}
