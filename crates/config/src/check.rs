//! What can be checked only when all parts are read: names used twice, and names that lead nowhere.

use std::collections::BTreeSet;

use serde_saphyr::Location;

use crate::{Configuration, problem::Problems, section::nearest};

/// An item that was read: its index in the text's list, its place, and the item.
pub(crate) type Item<T> = (usize, Location, T);

/// Notes each item whose key an earlier one has.
pub(crate) fn unique<T>(list: &str, items: &[Item<T>], key: impl Fn(&T) -> String, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, location, item) in items {
        let key = key(item);
        if !seen.insert(key.clone()) {
            problems.add(format!("{list}[{index}]"), *location, format!("{key} is there twice"));
        }
    }
}

/// Notes each name that leads nowhere. The lists of `configuration` hold what could be read, in order.
pub(crate) fn references(
    configuration: &Configuration,
    routes: &[(usize, Location)],
    limits: &[(usize, Location)],
    problems: &mut Problems,
) {
    let upstreams: Vec<_> = configuration.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    let accounts: Vec<_> = configuration.upstreams.iter().map(|upstream| upstream.account.as_str()).collect();
    for (route, (index, location)) in configuration.routes.iter().zip(routes) {
        let mut seen = BTreeSet::new();
        for (target_index, target) in route.targets.iter().enumerate() {
            let path = format!("routes[{index}].targets[{target_index}]");
            let name = target.upstream.as_str();
            if !upstreams.contains(&name) {
                let message = missing("upstream", name, &upstreams);
                problems.add(format!("{path}.upstream"), *location, message);
            }
            if !seen.insert((name, target.model.as_ref())) {
                problems.add(path, *location, format!("upstream {name:?} is there twice"));
            }
        }
    }
    for (limit, (index, location)) in configuration.limits.iter().zip(limits) {
        if !accounts.contains(&limit.account.as_str()) {
            let message = missing("account", &limit.account, &accounts);
            problems.add(format!("limits[{index}].account"), *location, message);
        }
    }
}

fn missing(what: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("there is no {what} {name:?}; did you mean {near:?}?"),
        None => format!("there is no {what} {name:?}"),
    }
}
