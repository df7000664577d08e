//! `sluice keys revoke`.

use super::{key_id, key_json, unknown};
use crate::{
    args::OutputFormat,
    commands::Context,
    exit::{CliError, Exit},
    stdout,
};

/// Take a key back; every scheduler refuses it within five seconds
#[derive(clap::Args, Debug)]
pub struct RevokeArgs {
    /// Its id, as `sluice keys list` shows it
    #[arg(value_name = "ID")]
    id: String,
}

/// Revokes it.
pub async fn run(args: RevokeArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    let id = key_id(&args.id)?;
    context
        .with_store("sluice-keys", async |store| {
            let key = store.api_key_revoke(id).await?.ok_or_else(|| unknown(id))?;
            match context.global.output {
                OutputFormat::Json => stdout::json(&key_json(&key))?,
                OutputFormat::Table => stdout::line(&format!(
                    "The key {:?} of the tenant {} is revoked.",
                    key.name.as_str(),
                    key.tenant
                ))?,
            }
            Ok(Exit::Done)
        })
        .await
}
