//! The whole configuration: reading it, and asking it where a model is called and how a queue retries.

use serde::Serialize;
use serde_saphyr::Location;
use sluice_domain::{DeclaredLimit, LimitKind, LimitSubject, ModelName, QueueName, TenantName, UpstreamName};
use sluice_policy::backoff::{RetryPolicies, RetryPolicy};

use crate::{
    Access, Auth, Breaker, ConfigErrors, Limit, Provider, Queue, Route, SecretRef, Target, Tenant, Upstream,
    Webhooks,
    check::{self, Item},
    problem::Problems,
    section::{Field, Section},
    tree,
};

/// DeepSeek's API.
const DEEPSEEK_BASE_URL: &str = "https://api.deepseek.com";
/// Where DeepSeek's key is found by default.
const DEEPSEEK_KEY_VARIABLE: &str = "DEEPSEEK_API_KEY";

/// What `sluice.yaml` declares.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Configuration {
    /// Where calls can go. At least one.
    pub upstreams: Vec<Upstream>,
    /// Which model goes where. Where there are none, any model goes to the first upstream by priority.
    pub routes: Vec<Route>,
    /// What accounts may use.
    pub limits: Vec<Limit>,
    /// The lines that are set up. Others exist too, and are as `default` is.
    pub queues: Vec<Queue>,
    /// The tenants whose share is not the usual one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<Tenant>,
    /// When calls to a failing upstream are stopped.
    pub breaker: Breaker,
    /// Who may come in beside those with API keys.
    #[serde(skip_serializing_if = "Access::is_empty")]
    pub access: Access,
    /// How ends of jobs are told to those who asked for it.
    #[serde(skip_serializing_if = "Webhooks::is_empty")]
    pub webhooks: Webhooks,
}

impl Configuration {
    /// Reads and checks `sluice.yaml`.
    pub fn parse(text: &str) -> Result<Self, ConfigErrors> {
        let tree = tree::read(text)?;
        let mut problems = Problems::default();
        let root = Field { path: String::new(), node: &tree };
        let configuration = if tree.value == tree::Value::Null {
            problems.add("", Location::UNKNOWN, "the configuration is empty; declare at least one upstream");
            Self::default()
        } else {
            Self::read(&root, &mut problems)
        };
        problems.or(configuration)
    }

    fn read(root: &Field<'_>, problems: &mut Problems) -> Self {
        let known = ["upstreams", "routes", "limits", "queues", "tenants", "breaker", "access", "webhooks"];
        let Some(section) = Section::of(root, &known, problems) else { return Self::default() };
        let upstreams = read_list(&section, "upstreams", Upstream::read, problems);
        let routes = read_list(&section, "routes", Route::read, problems);
        let limits = read_list(&section, "limits", Limit::read, problems);
        let queues = read_list(&section, "queues", Queue::read, problems);
        let tenants = read_list(&section, "tenants", Tenant::read, problems);
        if section.items("upstreams", &mut Problems::default()).is_empty() {
            section.problem("upstreams: at least one is needed", problems);
        }
        check::unique("upstreams", &upstreams, |u| format!("upstream {:?}", u.name.as_str()), problems);
        check::unique("routes", &routes, |r| format!("a route for {:?}", r.model.as_str()), problems);
        check::unique("queues", &queues, |q| format!("queue {:?}", q.name.as_str()), problems);
        check::unique("tenants", &tenants, |t| format!("tenant {:?}", t.name.as_str()), problems);
        check::unique("limits", &limits, limit_key, problems);
        let (route_places, limit_places) = (places(&routes), places(&limits));
        let configuration = Self {
            upstreams: values(upstreams),
            routes: values(routes),
            limits: values(limits),
            queues: values(queues),
            tenants: values(tenants),
            breaker: section.get("breaker").map(|f| Breaker::read(&f, problems)).unwrap_or_default(),
            access: section.get("access").map(|f| Access::read(&f, problems)).unwrap_or_default(),
            webhooks: section.get("webhooks").map(|f| Webhooks::read(&f, problems)).unwrap_or_default(),
        };
        check::references(&configuration, &route_places, &limit_places, problems);
        configuration
    }

    /// DeepSeek itself, for every model, where its key is in the environment; else nothing.
    pub fn from_environment_defaults(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        variable(DEEPSEEK_KEY_VARIABLE).filter(|key| !key.trim().is_empty())?;
        let api_key = SecretRef::Environment(DEEPSEEK_KEY_VARIABLE.to_owned());
        Some(Self::of_one("deepseek", Provider::DeepSeek, DEEPSEEK_BASE_URL, Auth::Bearer { api_key }))
    }

    /// The simulator at `base_url`, for every model.
    pub fn simulator(base_url: &str) -> Self {
        Self::of_one("simulator", Provider::DeepSeek, base_url.trim_end_matches('/'), Auth::None)
    }

    fn of_one(name: &str, provider: Provider, base_url: &str, auth: Auth) -> Self {
        let name = UpstreamName::from_stored(name.to_owned());
        Self { upstreams: vec![Upstream::new(name, provider, base_url, auth)], ..Self::default() }
    }

    /// Where jobs that ask for `model` can be called: upstreams and the model's name there, by the upstreams' priority
    /// numbers, and by the order of the file among equals. Where no routes are declared, any model can go under its own
    /// name to any upstream. Where some are, a model without one goes nowhere (`no_route`), and the list is empty.
    pub fn targets<'a>(&'a self, model: &'a str) -> Vec<(&'a Upstream, &'a str)> {
        let mut targets: Vec<_> = if self.routes.is_empty() {
            self.upstreams.iter().map(|upstream| (upstream, model)).collect()
        } else {
            let route = self.routes.iter().find(|route| route.model.as_str() == model);
            let declared = route.map(|route| route.targets.as_slice()).unwrap_or_default();
            let named = |target: &'a Target| {
                let upstream = self.upstreams.iter().find(|upstream| upstream.name == target.upstream)?;
                Some((upstream, target.model.as_ref().map_or(model, |name| name.as_str())))
            };
            declared.iter().filter_map(named).collect()
        };
        targets.sort_by_key(|(upstream, _)| upstream.priority);
        targets
    }

    /// The first of [`Self::targets`].
    pub fn route<'a>(&'a self, model: &'a str) -> Option<(&'a Upstream, &'a str)> {
        self.targets(model).into_iter().next()
    }

    /// How jobs of `queue` are retried: as the queue says, else as `default` says, else as everywhere.
    pub fn retry_policies(&self, queue: &str) -> RetryPolicies {
        let of = |name: &str| self.queues.iter().find(|q| q.name.as_str() == name)?.retry.clone();
        of(queue).or_else(|| of("default")).unwrap_or_default()
    }

    /// How failures of jobs of `queue` are retried that are not named by their class.
    pub fn retry_policy(&self, queue: &str) -> RetryPolicy {
        self.retry_policies(queue).usual
    }

    /// The share of `queue` among the queues of a tenant; 1 where nothing is said of it.
    pub fn queue_weight(&self, queue: &str) -> u16 {
        self.queues.iter().find(|known| known.name.as_str() == queue).map_or(1, |known| known.weight)
    }

    /// The share of a tenant among all tenants; 1 where nothing is said of it.
    pub fn tenant_weight(&self, tenant: &TenantName) -> u16 {
        self.tenants.iter().find(|known| known.name == *tenant).map_or(1, |known| known.weight)
    }

    /// All limits that it declares; those of queues for the tenant `default`, and alike for any other.
    pub fn declared_limits(&self) -> Vec<DeclaredLimit> {
        let of_accounts = self.limits.iter().flat_map(Limit::declared);
        let tenant = TenantName::default_tenant();
        let of_queues = self.queues.iter().filter_map(|queue| queue_limit(queue, &tenant));
        of_accounts.chain(of_queues).collect()
    }

    /// The limits of which each job of a tenant's queue takes that is called as `model` at an upstream of `account`.
    pub fn limits_of(
        &self,
        tenant: &TenantName,
        queue: &QueueName,
        account: &str,
        model: &ModelName,
    ) -> Vec<DeclaredLimit> {
        let is_meant = |limit: &&Limit| {
            limit.account == account && limit.model.as_ref().is_none_or(|limited| limited == model)
        };
        let told = self.limits.iter().filter(is_meant).flat_map(Limit::told);
        let of_queue = self.queues.iter().filter(|declared| declared.name == *queue);
        told.chain(self.found_out(account, model))
            .chain(of_queue.filter_map(|declared| queue_limit(declared, tenant)))
            .collect()
    }

    /// How many calls at once go to `model` at an upstream of `account`, where that is found out by trying: what is said of
    /// the model itself counts before what is said of all of its account's.
    fn found_out(&self, account: &str, model: &ModelName) -> Option<DeclaredLimit> {
        let of_account = || self.limits.iter().filter(|limit| limit.account == account);
        let of_model = of_account().find(|limit| limit.model.as_ref() == Some(model));
        match of_model.filter(|limit| limit.concurrency.is_some() || limit.adaptive.is_some()) {
            Some(limit) => limit.found_out(model),
            None => of_account().find(|limit| limit.model.is_none())?.found_out(model),
        }
    }

    /// The configuration as YAML that [`Self::parse`] reads back, with all defaults written out.
    pub fn to_yaml(&self) -> String {
        // The types hold text, numbers, lists and maps with text keys, all of which YAML can write.
        serde_saphyr::to_string(self).expect("a configuration is writable as YAML")
    }
}

fn queue_limit(queue: &Queue, tenant: &TenantName) -> Option<DeclaredLimit> {
    let subject = LimitSubject::Queue { tenant: tenant.clone(), queue: queue.name.clone() };
    let cap = u64::from(queue.max_running?);
    Some(DeclaredLimit { subject, kind: LimitKind::Concurrency, window_s: 0, cap, floor: None })
}

fn read_list<T>(
    root: &Section<'_>,
    key: &str,
    read: impl Fn(&Field<'_>, &mut Problems) -> Option<T>,
    problems: &mut Problems,
) -> Vec<Item<T>> {
    let fields = root.items(key, problems);
    let items = fields.iter().enumerate();
    items.filter_map(|(index, f)| Some((index, f.node.referenced, read(f, problems)?))).collect()
}

fn values<T>(items: Vec<Item<T>>) -> Vec<T> {
    items.into_iter().map(|(_, _, item)| item).collect()
}

fn places<T>(items: &[Item<T>]) -> Vec<(usize, Location)> {
    items.iter().map(|(index, location, _)| (*index, *location)).collect()
}

fn limit_key(limit: &Limit) -> String {
    match &limit.model {
        Some(model) => format!("a limit of {:?} for {:?}", limit.account, model.as_str()),
        None => format!("a limit of {:?} for all models", limit.account),
    }
}
