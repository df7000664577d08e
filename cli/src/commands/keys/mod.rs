//! `sluice keys`: the API keys of tenants. Schedulers follow what is changed here within five seconds.

mod create;
mod list;
mod revoke;
mod rotate;

use clap::Subcommand;
use rand::Rng;
use serde_json::{Value, json};
use sluice_domain::{ApiKey, ApiKeyId, TenantName};
use sluice_store::ApiKeyView;

use crate::{
    args::OutputFormat,
    commands::Context,
    exit::{CliError, Exit},
    stdout, times,
};

/// Make, list, rotate and revoke the API keys of tenants
///
/// Once a key was made, nobody gets in over REST or gRPC without one.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice keys create --name checkout
  sluice keys create --tenant search --name indexer --scope submit,read --queue nightly --expires 90d
  sluice keys list --tenant search
  sluice keys rotate 0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b --overlap 1d
  sluice keys revoke 0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")]
pub struct KeysArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    Create(Box<create::CreateArgs>),
    List(list::ListArgs),
    Rotate(rotate::RotateArgs),
    Revoke(revoke::RevokeArgs),
}

/// Does it.
pub async fn run(args: KeysArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    match args.action {
        Action::Create(args) => create::run(*args, context).await,
        Action::List(args) => list::run(args, context).await,
        Action::Rotate(args) => rotate::run(args, context).await,
        Action::Revoke(args) => revoke::run(args, context).await,
    }
}

/// A new key, of the operating system's randomness by way of the generator that it seeds.
fn new_key() -> ApiKey {
    let mut random = [0; 24];
    rand::rng().fill_bytes(&mut random);
    ApiKey::of_random(random)
}

/// Shows a key that was just made, for the only time.
fn show_new(key: &ApiKey, view: &ApiKeyView, context: &Context<'_>) -> Result<Exit, CliError> {
    match context.global.output {
        OutputFormat::Json => {
            let mut shown = key_json(view);
            shown["key"] = key.expose().into();
            stdout::json(&shown)?;
        }
        OutputFormat::Table => {
            stdout::line(key.expose())?;
            eprintln!(
                "note: this is the key {:?} of the tenant {} (id {}); it is shown this once and stored nowhere",
                view.name.as_str(),
                view.tenant,
                view.id
            );
        }
    }
    Ok(Exit::Done)
}

/// A key for scripts, without the key itself.
fn key_json(view: &ApiKeyView) -> Value {
    let rights = &view.rights;
    let words = |list: Option<Vec<String>>| list.map_or(Value::Null, Value::from);
    json!({
        "id": view.id, "object": "api_key", "tenant": view.tenant, "name": view.name, "hint": view.hint,
        "scopes": rights.scopes.iter().map(sluice_domain::Scope::as_str).collect::<Vec<_>>(),
        "queues": words(rights.queues.as_ref().map(|list| list.iter().map(ToString::to_string).collect())),
        "top_priority": rights.top_priority, "submits_per_minute": rights.submits_per_minute,
        "max_waiting": rights.max_waiting,
        "networks": words(rights.networks.as_ref().map(|list| list.iter().map(ToString::to_string).collect())),
        "created_at": times::rfc3339(view.created_at), "expires_at": view.expires_at.map(times::rfc3339),
        "revoked_at": view.revoked_at.map(times::rfc3339), "last_used_at": view.last_used_at.map(times::rfc3339),
        "valid": view.is_valid,
    })
}

fn unknown(id: ApiKeyId) -> CliError {
    CliError::usage(format!("there is no key {id}; `sluice keys list` shows them"))
}

/// Reads a key's id. What is given instead is not repeated: it may be the key itself.
fn key_id(text: &str) -> Result<ApiKeyId, CliError> {
    let wrong = "a key is named by its id, as `sluice keys list` shows it, and not by the key itself";
    text.parse().map_err(|_| CliError::usage(wrong))
}

pub(super) fn tenant_name(text: &str) -> Result<TenantName, String> {
    TenantName::new(text).map_err(|error| error.to_string())
}
