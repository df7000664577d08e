//! `sluice keys rotate`.

use std::time::Duration;

use sluice_domain::ApiKeyId;
use sluice_store::NextApiKey;

use super::{create::lifetime, key_id, new_key, show_new};
use crate::{
    commands::Context,
    exit::{CliError, Exit},
};

/// Make a key with the same rights as another, which stays valid for a while
#[derive(clap::Args, Debug)]
pub struct RotateArgs {
    /// The id of the key to be replaced
    #[arg(value_name = "ID")]
    id: String,
    /// How long the old one stays valid, if it does not end before
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = humantime::parse_duration)]
    overlap: Duration,
    /// For how long the new one is valid; without it for as long as the old one was made for
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires: Option<Duration>,
}

/// Makes the new one.
pub async fn run(args: RotateArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    let (id, key) = (key_id(&args.id)?, new_key());
    let next = NextApiKey {
        id: ApiKeyId::generate(),
        hash: key.hash(),
        hint: key.hint(),
        lifetime: args.expires,
        // A century is as good as for ever, and within the database's calendar.
        overlap: args.overlap.min(Duration::from_hours(24 * 36_525)),
    };
    context
        .with_store("sluice-keys", async |store| {
            let replaced = store.api_key_replace_if_valid(id, &next).await?;
            let view = replaced.ok_or_else(|| {
                CliError::usage(format!(
                    "there is no valid key {id}; `sluice keys list` shows them, and `sluice keys create` makes a new one"
                ))
            })?;
            show_new(&key, &view, context)
        })
        .await
}
