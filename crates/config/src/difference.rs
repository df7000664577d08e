//! What applying a configuration would change, line by line. Secrets appear as their references.

use std::fmt;

use serde_json::{Map, Value};

use crate::Configuration;

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// What changes, such as `upstreams.local.base_url`: items by their names, not by their places.
    pub path: String,
    /// How.
    pub kind: ChangeKind,
}

/// How something changes. Values are as they would be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    /// It is new.
    Added(String),
    /// It is gone.
    Removed(String),
    /// It is another.
    Changed {
        /// What it is now.
        from: String,
        /// What it would be.
        to: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ChangeKind::Added(value) => write!(f, "+ {}: {value}", self.path),
            ChangeKind::Removed(value) => write!(f, "- {}: {value}", self.path),
            ChangeKind::Changed { from, to } => write!(f, "~ {}: {from} → {to}", self.path),
        }
    }
}

/// All changes from `old` to `new`, in the order of the configuration. The order of upstreams, routes, limits and
/// queues means nothing and is not compared; that of targets is their order of choice.
pub fn difference(old: &Configuration, new: &Configuration) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", &by_name(old), &by_name(new), &mut changes);
    changes
}

/// The configuration as a tree in which the items of lists stand under their names.
fn by_name(configuration: &Configuration) -> Value {
    let named = |items: Vec<(String, Value)>| Value::Object(items.into_iter().collect());
    let upstreams = configuration.upstreams.iter().map(|u| (u.name.to_string(), tree(u, "name"))).collect();
    let routes = configuration.routes.iter().map(|r| (r.model.to_string(), tree(r, "model"))).collect();
    let queues = configuration.queues.iter().map(|q| (q.name.to_string(), tree(q, "name"))).collect();
    let limits = configuration.limits.iter().map(|limit| {
        let model = limit.model.as_ref().map_or("all models", |model| model.as_str());
        let mut tree = tree(limit, "account");
        if let Value::Object(fields) = &mut tree {
            fields.shift_remove("model");
        }
        (format!("{} of {model}", limit.account), tree)
    });
    let tenants = configuration.tenants.iter().map(|t| (t.name.to_string(), tree(t, "name"))).collect();
    let sections = [
        ("upstreams", named(upstreams)),
        ("routes", named(routes)),
        ("limits", named(limits.collect())),
        ("queues", named(queues)),
        ("tenants", named(tenants)),
        ("breaker", tree(&configuration.breaker, "")),
        ("access", access(configuration)),
        ("webhooks", webhooks(configuration)),
    ];
    Value::Object(sections.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Who may come in, by their names.
fn access(configuration: &Configuration) -> Value {
    let access = &configuration.access;
    let jwt = access.jwt.iter().map(|issuer| (issuer.issuer.clone(), tree(issuer, "issuer"))).collect();
    let signed = access.signed.iter().map(|signer| (signer.id.clone(), tree(signer, "id"))).collect();
    let proxies = access.trusted_proxies.iter().map(|network| Value::String(network.to_string())).collect();
    let kinds = [
        ("jwt", Value::Object(jwt)),
        ("signed", Value::Object(signed)),
        ("trusted_proxies", Value::Array(proxies)),
    ];
    Value::Object(kinds.into_iter().map(|(kind, items)| (kind.to_owned(), items)).collect())
}

/// Secrets of webhooks by their tenants.
fn webhooks(configuration: &Configuration) -> Value {
    let webhooks = &configuration.webhooks;
    let secrets = webhooks.secrets.iter();
    let secrets = secrets.map(|secret| (secret.tenant.to_string(), tree(secret, "tenant"))).collect();
    let allowed = webhooks.allow_addresses.iter().map(|network| Value::String(network.to_string())).collect();
    let parts = [("secrets", Value::Object(secrets)), ("allow_addresses", Value::Array(allowed))];
    Value::Object(parts.into_iter().map(|(part, value)| (part.to_owned(), value)).collect())
}

/// A part as a tree, without the key that it is found by.
fn tree(part: &impl serde::Serialize, key: &str) -> Value {
    // Parts hold text, numbers, lists and maps with text keys, all of which JSON can write.
    let mut tree = serde_json::to_value(part).expect("a part of a configuration is writable as JSON");
    if let Value::Object(fields) = &mut tree {
        fields.shift_remove(key);
    }
    tree
}

fn compare(path: &str, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    let (Value::Object(old_fields), Value::Object(new_fields)) = (old, new) else {
        if old != new {
            let kind = ChangeKind::Changed { from: written(old), to: written(new) };
            changes.push(Change { path: path.to_owned(), kind });
        }
        return;
    };
    for key in keys_of_both(old_fields, new_fields) {
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match (old_fields.get(key), new_fields.get(key)) {
            (Some(old), Some(new)) => compare(&path, old, new, changes),
            (Some(old), None) => changes.push(Change { path, kind: ChangeKind::Removed(written(old)) }),
            (None, Some(new)) => changes.push(Change { path, kind: ChangeKind::Added(written(new)) }),
            (None, None) => {}
        }
    }
}

/// The old one's keys in its order, then what is new.
fn keys_of_both<'a>(old: &'a Map<String, Value>, new: &'a Map<String, Value>) -> Vec<&'a str> {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    old.keys().chain(added).map(String::as_str).collect()
}

/// A value in YAML's flow style, as a person would write it.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(key, value)| format!("{key}: {}", written(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}
