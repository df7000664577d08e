//! Waiting for what happens. Unlike the testkit's, it gives an error and not a panic: a row reports it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until `is_so` says yes; an error after `most`, or the last one that a look gave. A look that fails is
/// repeated: the database may be away.
pub async fn until(what: &str, most: Duration, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    loop {
        let looked = is_so().await;
        if matches!(looked, Ok(true)) {
            return Ok(());
        }
        if begun.elapsed() > most {
            match looked {
                Err(error) => return Err(error.context(format!("waited {most:?} in vain for {what}"))),
                Ok(_) => bail!("waited {most:?} in vain for {what}"),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
