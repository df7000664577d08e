//! `sluice keys list`.

use sluice_domain::TenantName;
use sluice_store::ApiKeyView;

use super::{key_json, tenant_name};
use crate::{
    args::OutputFormat,
    commands::Context,
    exit::{CliError, Exit},
    stdout,
    table::Table,
    times,
};

/// Show the keys, also those that are not valid any more
#[derive(clap::Args, Debug)]
pub struct ListArgs {
    /// Of this tenant only
    #[arg(long, value_name = "TENANT", value_parser = tenant_name)]
    tenant: Option<TenantName>,
}

/// Prints them.
pub async fn run(args: ListArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    context
        .with_store("sluice-keys", async |store| {
            let keys = store.api_keys(args.tenant.as_ref()).await?;
            match context.global.output {
                OutputFormat::Json => stdout::list_of(keys.iter().map(key_json))?,
                OutputFormat::Table if keys.is_empty() => {
                    stdout::line("There are no keys; `sluice keys create` makes one.")?;
                }
                OutputFormat::Table => stdout::line(&table_of(&keys).text())?,
            }
            Ok(Exit::Done)
        })
        .await
}

fn table_of(keys: &[ApiKeyView]) -> Table {
    let mut table = Table::new(&["ID", "TENANT", "NAME", "KEY", "SCOPES", "STATE", "LAST USED"]);
    for key in keys {
        table.row(vec![
            key.id.to_string(),
            key.tenant.to_string(),
            key.name.to_string(),
            key.hint.clone(),
            key.rights.scopes.to_string(),
            state_of(key),
            key.last_used_at.map_or_else(|| "never".to_owned(), times::shown),
        ]);
    }
    table
}

fn state_of(key: &ApiKeyView) -> String {
    match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {}", times::shown(at)),
        (None, Some(at)) if key.is_valid => format!("until {}", times::shown(at)),
        (None, Some(at)) => format!("expired {}", times::shown(at)),
        (None, None) => "valid".to_owned(),
    }
}
