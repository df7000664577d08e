//! From the model that a job asks for to the client that calls it: a configuration, with a client for each upstream.
//!
//! An upstream without a client (its secret is missing, or is no key of its kind) blocks the lanes that lead there; a
//! model without a route does not, and its jobs fail.

use std::{collections::HashMap, sync::Arc};

use sluice_config::{Configuration, Secret, Upstream};
use sluice_domain::{DeclaredLimit, ModelName, QueueName, TenantName, UpstreamName};
use sluice_policy::{backoff::RetryPolicies, breaker::BreakerPolicy};
use sluice_provider::Client;
use sluice_store::CooledGate;
use url::Url;

use crate::{cooldowns, pace::Pace, upstream::called_upstream};

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
    /// How long its calls took lately.
    pub(crate) pace: Pace,
    declared: Upstream,
    secret: Option<Secret>,
}

/// Where a job is called.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) upstream: Arc<Reachable>,
    /// The model's name there.
    pub(crate) model: ModelName,
    /// Targets of lower ones are taken first.
    pub(crate) priority: u16,
    /// Its share among those of the same priority.
    pub(crate) weight: u16,
}

/// One of the places where a model leads.
pub(crate) enum Place {
    /// There.
    Target(Target),
    /// To an upstream that can't be called, and why.
    Unusable { upstream: String, reason: String },
}

/// Where a model leads.
pub(crate) enum Lookup {
    /// To these, those of the lowest priority number first.
    Places(Vec<Place>),
    /// Nowhere: no route has the model.
    NoRoute,
    /// Nothing is configured yet.
    NotConfigured,
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
        let targets = configuration.targets(model.as_str());
        let place = |(upstream, there): (&Upstream, &str)| match self.upstreams.get(&upstream.name)? {
            Ok(reachable) => Some(Place::Target(Target {
                upstream: Arc::clone(reachable),
                model: ModelName::from_stored(there.to_owned()),
                priority: upstream.priority,
                weight: upstream.weight,
            })),
            Err(reason) => {
                Some(Place::Unusable { upstream: upstream.name.to_string(), reason: reason.clone() })
            }
        };
        let places: Vec<_> = targets.into_iter().filter_map(place).collect();
        if places.is_empty() { Lookup::NoRoute } else { Lookup::Places(places) }
    }

    /// The upstream of this name, if it can be called.
    pub(crate) fn reachable(&self, name: &str) -> Option<Arc<Reachable>> {
        let reachable = self.upstreams.get(&UpstreamName::from_stored(name.to_owned()))?;
        reachable.as_ref().ok().map(Arc::clone)
    }

    /// The share of a queue among those of its tenant.
    pub(crate) fn queue_weight(&self, queue: &str) -> u16 {
        self.configuration.as_ref().map_or(1, |configuration| configuration.queue_weight(queue))
    }

    /// The share of a tenant among all.
    pub(crate) fn tenant_weight(&self, tenant: &TenantName) -> u16 {
        self.configuration.as_ref().map_or(1, |configuration| configuration.tenant_weight(tenant))
    }

    /// When calls to a failing upstream are stopped.
    pub(crate) fn breaker(&self) -> BreakerPolicy {
        self.configuration.as_ref().map(|configuration| configuration.breaker.into()).unwrap_or_default()
    }

    /// The targets of jobs that ask for `model`, whether or not they can be called: upstreams and the model's name there, in
    /// the order in which they are taken.
    pub(crate) fn targets<'a>(&'a self, model: &'a ModelName) -> Vec<(&'a Upstream, ModelName)> {
        let targets =
            self.configuration.as_ref().map(|known| known.targets(model.as_str())).unwrap_or_default();
        let named =
            |(upstream, there): (&'a Upstream, &str)| (upstream, ModelName::from_stored(there.to_owned()));
        targets.into_iter().map(named).collect()
    }

    /// The models that jobs ask for of which every call goes through a gate: while it is closed, none of theirs can run.
    pub(crate) fn models_only_at(&self, gate: &CooledGate) -> Vec<String> {
        let Some(configuration) = &self.configuration else { return Vec::new() };
        let models: Vec<ModelName> = if configuration.routes.is_empty() {
            // Any model goes under its own name.
            vec![ModelName::from_stored(gate.model.clone())]
        } else {
            configuration.routes.iter().map(|route| route.model.clone()).collect()
        };
        let is_only_there = |model: &&ModelName| {
            let targets = self.targets(model);
            let leads_there = |(upstream, there): &(&Upstream, ModelName)| {
                cooldowns::gates_of(upstream.name.as_str(), &upstream.account, there).contains(gate)
            };
            !targets.is_empty() && targets.iter().all(leads_there)
        };
        models.iter().filter(is_only_there).map(ToString::to_string).collect()
    }

    /// Whether anything is limited at all.
    pub(crate) fn has_limits(&self) -> bool {
        self.configuration.as_ref().is_some_and(|configuration| {
            !configuration.limits.is_empty()
                || configuration.queues.iter().any(|queue| queue.max_running.is_some())
        })
    }

    /// The limits of which jobs of a tenant's queue take that are called as `there` at an upstream of `account`.
    pub(crate) fn limits_at(
        &self,
        tenant: &TenantName,
        queue: &QueueName,
        account: &str,
        there: &ModelName,
    ) -> Vec<DeclaredLimit> {
        let Some(configuration) = &self.configuration else { return Vec::new() };
        configuration.limits_of(tenant, queue, account, there)
    }

    /// How jobs of a queue are retried.
    pub(crate) fn retry_policies(&self, queue: &str) -> RetryPolicies {
        self.configuration
            .as_ref()
            .map(|configuration| configuration.retry_policies(queue))
            .unwrap_or_default()
    }
}

fn reachable(
    upstream: &Upstream,
    before: &Routing,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Arc<Reachable>, String> {
    let secret =
        upstream.auth.resolve(variable).map_err(|error| match std::error::Error::source(&error) {
            Some(source) => format!("failed to {error}: {source}"),
            None => error.to_string(),
        })?;
    if let Some(Ok(known)) = before.upstreams.get(&upstream.name)
        && known.declared == *upstream
        && known.secret == secret
    {
        return Ok(Arc::clone(known));
    }
    let called = called_upstream(upstream, secret.as_ref());
    let client = Client::new(called).map_err(|error| format!("failed to {error}"))?;
    let url = Url::parse(&upstream.base_url).ok();
    Ok(Arc::new(Reachable {
        client,
        name: upstream.name.to_string(),
        account: upstream.account.clone(),
        provider: upstream.provider.as_str(),
        server_address: url.as_ref().and_then(Url::host_str).unwrap_or_default().to_owned(),
        server_port: url.as_ref().and_then(Url::port_or_known_default).unwrap_or_default(),
        pace: Pace::default(),
        declared: upstream.clone(),
        secret,
    }))
}
