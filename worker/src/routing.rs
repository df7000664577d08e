//! From the model that a job asks for to the client that calls it: a configuration, with a client for each upstream.
//!
//! An upstream without a client (its secret is missing, its kind of authorisation is not supported) blocks the lanes
//! that lead there; a model without a route does not, and its jobs fail.

use std::{collections::HashMap, sync::Arc};

use sluice_config::{Auth, Configuration, Provider, Secret, SecretRef, Upstream};
use sluice_domain::{ModelName, UpstreamName};
use sluice_policy::backoff::RetryPolicy;
use sluice_provider::{Client, Dialect};
use url::Url;

/// A configuration that can be called.
#[derive(Default)]
pub(crate) struct Routing {
    /// Its version in the database; 0 where it is fixed or there is none.
    pub(crate) version: i64,
    configuration: Option<Configuration>,
    upstreams: HashMap<UpstreamName, Result<Arc<Reachable>, String>>,
}

/// An upstream that can be called.
pub(crate) struct Reachable {
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) account: String,
    pub(crate) provider: &'static str,
    pub(crate) server_address: String,
    pub(crate) server_port: u16,
    declared: Upstream,
    secret: Option<Secret>,
}

/// Where a job is called.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) upstream: Arc<Reachable>,
    /// The model's name there.
    pub(crate) model: ModelName,
}

/// Where a model leads.
pub(crate) enum Lookup {
    /// There.
    Target(Target),
    /// To an upstream that can't be called, and why.
    Unusable { upstream: String, reason: String },
    /// Nowhere: no route has the model.
    NoRoute,
    /// Nothing is configured yet.
    NotConfigured,
}

impl Reachable {
    /// The credential, for a process that makes a call in our place.
    pub(crate) fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }
}

impl Routing {
    /// Makes clients for all upstreams; one that is declared as before, with the same secret, keeps its connections.
    pub(crate) fn build(
        version: i64,
        configuration: Configuration,
        before: &Self,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let make = |upstream: &Upstream| {
            let made = reachable(upstream, before, variable);
            if let Err(reason) = &made {
                let is_news =
                    !matches!(before.upstreams.get(&upstream.name), Some(Err(known)) if known == reason);
                if is_news {
                    tracing::error!(upstream = %upstream.name, %reason, "an upstream can't be called");
                }
            }
            (upstream.name.clone(), made)
        };
        let upstreams = configuration.upstreams.iter().map(make).collect();
        Self { version, configuration: Some(configuration), upstreams }
    }

    /// Where jobs that ask for `model` are called.
    pub(crate) fn lookup(&self, model: &ModelName) -> Lookup {
        let Some(configuration) = &self.configuration else { return Lookup::NotConfigured };
        let Some((upstream, there)) = configuration.route(model.as_str()) else { return Lookup::NoRoute };
        match self.upstreams.get(&upstream.name) {
            Some(Ok(reachable)) => Lookup::Target(Target {
                upstream: Arc::clone(reachable),
                model: ModelName::from_stored(there.to_owned()),
            }),
            Some(Err(reason)) => {
                Lookup::Unusable { upstream: upstream.name.to_string(), reason: reason.clone() }
            }
            None => Lookup::NoRoute,
        }
    }

    /// How jobs of a queue are retried.
    pub(crate) fn retry_policy(&self, queue: &str) -> RetryPolicy {
        self.configuration.as_ref().map(|configuration| configuration.retry_policy(queue)).unwrap_or_default()
    }
}

fn reachable(
    upstream: &Upstream,
    before: &Routing,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Arc<Reachable>, String> {
    let secret = match &upstream.auth {
        Auth::None => None,
        Auth::Bearer { api_key } => Some(resolve(api_key, variable)?),
        other => {
            return Err(format!("authorisation of kind {} is not supported yet; use api_key", other.kind()));
        }
    };
    if let Some(Ok(known)) = before.upstreams.get(&upstream.name)
        && known.declared == *upstream
        && known.secret == secret
    {
        return Ok(Arc::clone(known));
    }
    let mut called = sluice_provider::Upstream::new(
        upstream.name.clone(),
        match upstream.provider {
            Provider::DeepSeek => Dialect::DeepSeek,
            Provider::OpenAi => Dialect::OpenAi,
        },
        upstream.base_url.clone(),
    );
    called.api_key = secret.as_ref().map(|secret| sluice_provider::Secret::new(secret.expose()));
    called.timeouts.connect = upstream.connect_timeout;
    called.max_idle_connections = upstream.max_idle_connections as usize;
    let client = Client::new(called).map_err(|error| format!("failed to {error}"))?;
    let url = Url::parse(&upstream.base_url).ok();
    Ok(Arc::new(Reachable {
        client,
        name: upstream.name.to_string(),
        account: upstream.account.clone(),
        provider: upstream.provider.as_str(),
        server_address: url.as_ref().and_then(Url::host_str).unwrap_or_default().to_owned(),
        server_port: url.as_ref().and_then(Url::port_or_known_default).unwrap_or_default(),
        declared: upstream.clone(),
        secret,
    }))
}

fn resolve(reference: &SecretRef, variable: &dyn Fn(&str) -> Option<String>) -> Result<Secret, String> {
    reference.resolve(variable).map_err(|error| match std::error::Error::source(&error) {
        Some(source) => format!("failed to {error}: {source}"),
        None => error.to_string(),
    })
}
