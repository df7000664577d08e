//! Limits of an account, as its provider states them.

use serde::Serialize;
use sluice_domain::{DeclaredLimit, LimitKind, LimitSubject, ModelName};

use crate::{
    problem::Problems,
    route::model_name,
    section::{Field, Section},
};

const KEYS: [&str; 12] = [
    "account",
    "model",
    "concurrency",
    "adaptive",
    "requests_per_second",
    "requests_per_minute",
    "requests_per_hour",
    "requests_per_day",
    "tokens_per_second",
    "tokens_per_minute",
    "tokens_per_hour",
    "tokens_per_day",
];

/// What an account may use of a model, or of all of its models together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Limit {
    /// Whose.
    pub account: String,
    /// Of which model; of all together where it says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// Calls under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    /// How many calls at once is found out by trying.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<Adaptive>,
    /// Requests and tokens within windows of time.
    #[serde(flatten, serialize_with = "windows_by_key")]
    pub windows: Vec<Window>,
}

/// Between what the calls at once move that are found out by trying.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Adaptive {
    /// At least so many.
    pub floor: u64,
    /// At most.
    pub ceiling: u64,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self { floor: 1, ceiling: 10_000 }
    }
}

impl Adaptive {
    fn read(field: &Field<'_>, problems: &mut Problems) -> Self {
        let mut adaptive = Self::default();
        let Some(section) = Section::of(field, &["floor", "ceiling"], problems) else { return adaptive };
        let mut bound = |key: &str, default: u64| {
            section.get(key).and_then(|f| f.integer(1..=10_000_000, problems)).unwrap_or(default)
        };
        adaptive.floor = bound("floor", adaptive.floor);
        adaptive.ceiling = bound("ceiling", adaptive.ceiling.max(adaptive.floor));
        if adaptive.floor > adaptive.ceiling {
            let Self { floor, ceiling } = adaptive;
            section.problem(format!("floor ({floor}) is above ceiling ({ceiling})"), problems);
        }
        adaptive
    }
}

/// So much within a length of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Its key in the configuration, such as `requests_per_minute`.
    pub key: &'static str,
    /// How long it is, in seconds.
    pub length_s: u32,
    /// Requests or tokens at most.
    pub at_most: u64,
}

impl Limit {
    /// Reads one item of `limits`.
    pub(crate) fn read(field: &Field<'_>, problems: &mut Problems) -> Option<Self> {
        let section = Section::of(field, &KEYS, problems)?;
        let account = section.require("account", problems).and_then(|f| f.text(problems)).map(str::to_owned);
        let model = section.get("model").and_then(|f| model_name(&f, problems));
        let concurrency =
            section.get("concurrency").map(|f| f.integer(1..=10_000_000, problems).unwrap_or(1));
        let windows: Vec<_> = KEYS
            .iter()
            .filter_map(|key| Some((*key, length_s(key)?, section.get(key)?)))
            .map(|(key, length_s, field)| {
                let at_most = field.integer(1..=1_000_000_000_000, problems).unwrap_or(1);
                Window { key, length_s, at_most }
            })
            .collect();
        let adaptive = section.get("adaptive").map(|f| Adaptive::read(&f, problems));
        if concurrency.is_none() && adaptive.is_none() && windows.is_empty() {
            section.problem(
                "limits nothing; give concurrency, adaptive, requests_per_minute, tokens_per_minute, …",
                problems,
            );
        }
        if concurrency.is_some() && adaptive.is_some() {
            section.problem("concurrency is told or found out (adaptive), not both", problems);
        }
        Some(Self { account: account?, model, concurrency, adaptive, windows })
    }
}

impl Limit {
    /// What it declares, limit by limit.
    pub fn declared(&self) -> impl Iterator<Item = DeclaredLimit> + '_ {
        let adaptive =
            self.adaptive.map(|bounds| (LimitKind::Concurrency, 0, bounds.ceiling, Some(bounds.floor)));
        self.told().chain(adaptive.map(|declared| self.limit(declared, self.model.clone())))
    }

    /// What it says that the provider tells, limit by limit.
    pub(crate) fn told(&self) -> impl Iterator<Item = DeclaredLimit> + '_ {
        let concurrency = self.concurrency.map(|cap| (LimitKind::Concurrency, 0, cap, None));
        let windows =
            self.windows.iter().map(|window| (window.kind(), window.length_s, window.at_most, None));
        concurrency.into_iter().chain(windows).map(|declared| self.limit(declared, self.model.clone()))
    }

    /// What it says of calls at once to `model` that is found out by trying: of each model by itself.
    pub(crate) fn found_out(&self, model: &ModelName) -> Option<DeclaredLimit> {
        let Adaptive { floor, ceiling } = self.adaptive?;
        Some(self.limit((LimitKind::Concurrency, 0, ceiling, Some(floor)), Some(model.clone())))
    }

    fn limit(
        &self,
        (kind, window_s, cap, floor): (LimitKind, u32, u64, Option<u64>),
        model: Option<ModelName>,
    ) -> DeclaredLimit {
        let subject = LimitSubject::Account { account: self.account.clone(), model };
        DeclaredLimit { subject, kind, window_s, cap, floor }
    }
}

impl Window {
    /// What it counts.
    pub fn kind(&self) -> LimitKind {
        if self.key.starts_with("tokens") { LimitKind::Tokens } else { LimitKind::Requests }
    }
}

fn length_s(key: &str) -> Option<u32> {
    let (_, unit) = key.split_once("_per_")?;
    match unit {
        "second" => Some(1),
        "minute" => Some(60),
        "hour" => Some(3600),
        "day" => Some(86_400),
        _ => None,
    }
}

fn windows_by_key<S: serde::Serializer>(windows: &[Window], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(windows.iter().map(|window| (window.key, window.at_most)))
}
