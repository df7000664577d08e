//! The whole configuration: reading it, and asking it where a model is called and how a queue retries.

use serde::Serialize;
use serde_saphyr::Location;
use sluice_domain::UpstreamName;
use sluice_policy::backoff::RetryPolicy;

use crate::{
    Auth, Breaker, ConfigErrors, Limit, Provider, Queue, Route, SecretRef, Upstream,
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
    /// When calls to a failing upstream are stopped.
    pub breaker: Breaker,
}

impl Configuration {
    /// Reads and checks `sluice.yaml`, whether or not all of it has an effect yet ([`Self::in_effect_errors`]).
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

    /// [`Self::parse`], refusing also what has no effect yet: a setting is never ignored silently.
    pub fn parse_in_effect(text: &str) -> Result<Self, ConfigErrors> {
        let configuration = Self::parse(text)?;
        let problems = configuration.in_effect_errors();
        if problems.is_empty() { Ok(configuration) } else { Err(ConfigErrors(problems)) }
    }

    fn read(root: &Field<'_>, problems: &mut Problems) -> Self {
        let known = ["upstreams", "routes", "limits", "queues", "breaker"];
        let Some(section) = Section::of(root, &known, problems) else { return Self::default() };
        let upstreams = read_list(&section, "upstreams", Upstream::read, problems);
        let routes = read_list(&section, "routes", Route::read, problems);
        let limits = read_list(&section, "limits", Limit::read, problems);
        let queues = read_list(&section, "queues", Queue::read, problems);
        if section.items("upstreams", &mut Problems::default()).is_empty() {
            section.problem("upstreams: at least one is needed", problems);
        }
        check::unique("upstreams", &upstreams, |u| format!("upstream {:?}", u.name.as_str()), problems);
        check::unique("routes", &routes, |r| format!("a route for {:?}", r.model.as_str()), problems);
        check::unique("queues", &queues, |q| format!("queue {:?}", q.name.as_str()), problems);
        check::unique("limits", &limits, limit_key, problems);
        let (route_places, limit_places) = (places(&routes), places(&limits));
        let configuration = Self {
            upstreams: values(upstreams),
            routes: values(routes),
            limits: values(limits),
            queues: values(queues),
            breaker: section.get("breaker").map(|f| Breaker::read(&f, problems)).unwrap_or_default(),
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

    /// The upstream for jobs that ask for `model`, and the model's name there. Where no routes are declared, any
    /// model goes under its own name to the upstream with the lowest priority number, the first among equals. Where
    /// some are, a model without one goes nowhere (`no_route`).
    pub fn route<'a>(&'a self, model: &'a str) -> Option<(&'a Upstream, &'a str)> {
        if self.routes.is_empty() {
            return self
                .upstreams
                .iter()
                .min_by_key(|upstream| upstream.priority)
                .map(|upstream| (upstream, model));
        }
        let route = self.routes.iter().find(|route| route.model.as_str() == model)?;
        let target = route.targets.first()?;
        let upstream = self.upstreams.iter().find(|upstream| upstream.name == target.upstream)?;
        Some((upstream, target.model.as_ref().map_or(model, |name| name.as_str())))
    }

    /// How jobs of `queue` are retried: as the queue says, else as `default` says, else as everywhere.
    pub fn retry_policy(&self, queue: &str) -> RetryPolicy {
        let of = |name: &str| self.queues.iter().find(|q| q.name.as_str() == name).and_then(|q| q.retry);
        of(queue).or_else(|| of("default")).unwrap_or_default()
    }

    /// The configuration as YAML that [`Self::parse`] reads back, with all defaults written out.
    pub fn to_yaml(&self) -> String {
        // The types hold text, numbers, lists and maps with text keys, all of which YAML can write.
        serde_saphyr::to_string(self).expect("a configuration is writable as YAML")
    }
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
