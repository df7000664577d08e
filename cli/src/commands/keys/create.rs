//! `sluice keys create`.

use std::{num::NonZeroU32, time::Duration};

use sluice_domain::{ApiKeyId, KeyName, KeyRights, Network, Priority, QueueName, Scope, Scopes, TenantName};
use sluice_store::NewApiKey;

use super::{new_key, show_new, tenant_name};
use crate::{
    commands::Context,
    exit::{CliError, Exit},
    filter,
};

/// Make a key, and its tenant where that is new; the key is printed once
#[derive(clap::Args, Debug)]
pub struct CreateArgs {
    /// Whose jobs it reaches
    #[arg(long, value_name = "TENANT", default_value = "default", value_parser = tenant_name)]
    tenant: TenantName,
    /// What it is called
    #[arg(long, value_name = "NAME", default_value = "key", value_parser = key_name)]
    name: KeyName,
    /// What it may do: submit, read, cancel, replay, admin (all of them)
    #[arg(long = "scope", alias = "scopes", value_name = "SCOPES", value_delimiter = ',',
          default_values = ["submit", "read", "cancel", "replay"])]
    scopes: Vec<Scope>,
    /// Use this queue only; may be given several times
    #[arg(long = "queue", alias = "queues", value_name = "QUEUE", value_delimiter = ',',
          value_parser = filter::queue_name)]
    queues: Vec<QueueName>,
    /// The most urgent priority that its jobs may have, 1 to 5
    #[arg(long, value_name = "N", default_value = "5", value_parser = priority)]
    top_priority: Priority,
    /// For how long it is valid, such as 90d; without it for ever
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires: Option<Duration>,
    /// Jobs that it may submit a minute
    #[arg(long, value_name = "JOBS", value_parser = bound)]
    rate: Option<NonZeroU32>,
    /// Accept no job with it while so many of its tenant, in its queues, wait
    #[arg(long, value_name = "JOBS", value_parser = bound)]
    max_waiting: Option<NonZeroU32>,
    /// Take it from this address or range only, such as 10.0.0.0/8; may be given several times
    #[arg(long = "allow-ip", value_name = "RANGE", value_delimiter = ',')]
    networks: Vec<Network>,
}

/// Makes it.
pub async fn run(args: CreateArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    let key = new_key();
    let new = NewApiKey {
        id: ApiKeyId::generate(),
        tenant: args.tenant,
        name: args.name,
        hash: key.hash(),
        hint: key.hint(),
        rights: KeyRights {
            scopes: args.scopes.into_iter().collect::<Scopes>(),
            queues: (!args.queues.is_empty()).then_some(args.queues),
            top_priority: args.top_priority,
            submits_per_minute: args.rate,
            max_waiting: args.max_waiting,
            networks: (!args.networks.is_empty()).then_some(args.networks),
        },
        lifetime: args.expires,
    };
    context
        .with_store("sluice-keys", async |store| show_new(&key, &store.api_key_create(&new).await?, context))
        .await
}

fn key_name(text: &str) -> Result<KeyName, String> {
    KeyName::new(text).map_err(|error| error.to_string())
}

fn priority(text: &str) -> Result<Priority, String> {
    let number: i64 = text.parse().map_err(|_| "must be 1 to 5".to_owned())?;
    Priority::new(number).map_err(|error| error.to_string())
}

fn bound(text: &str) -> Result<NonZeroU32, String> {
    let number = text.parse().ok().filter(|number: &NonZeroU32| i32::try_from(number.get()).is_ok());
    number.ok_or_else(|| format!("must be a whole number from 1 to {}", i32::MAX))
}

/// A span that ends within the calendar of the database.
pub(super) fn lifetime(text: &str) -> Result<Duration, String> {
    let span =
        humantime::parse_duration(text).map_err(|_| "must be a span such as 12h, 90d or 1y".to_owned())?;
    if span.is_zero() || span > Duration::from_hours(24 * 36_525) {
        return Err("must be more than nothing, and a hundred years at most".to_owned());
    }
    Ok(span)
}
