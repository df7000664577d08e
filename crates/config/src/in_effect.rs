//! What is declared, right, and without effect so far. It is refused in those words, so that nobody relies on it.

use crate::{Auth, Breaker, Configuration, Problem};

impl Configuration {
    /// Everything declared that has no effect yet; empty where all of it works.
    pub fn in_effect_errors(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut refuse = |path: String, what: &str, remedy: &str| {
            let message = format!("{what} no effect yet; {remedy}");
            found.push(Problem { path, position: None, message });
        };
        let first = self.route("").map(|(upstream, _)| &upstream.name);
        for (index, upstream) in self.upstreams.iter().enumerate() {
            if !matches!(upstream.auth, Auth::None | Auth::Bearer { .. }) {
                let what = format!("auth of kind {} has", upstream.auth.kind());
                refuse(format!("upstreams[{index}].auth"), &what, "use api_key");
            }
            if upstream.weight != 1 {
                refuse(format!("upstreams[{index}].weight"), "a weight other than 1 has", "remove it");
            }
            if self.routes.is_empty() && first != Some(&upstream.name) {
                let what =
                    "without routes, all calls go to the first upstream by priority, and a further one has";
                refuse(format!("upstreams[{index}]"), what, "remove it, or add routes");
            }
        }
        for (index, _) in self.routes.iter().enumerate().filter(|(_, route)| route.targets.len() > 1) {
            refuse(format!("routes[{index}].targets[1]"), "a second target has", "keep one target a route");
        }
        for index in 0..self.limits.len() {
            let remedy = "remove them (the provider's own 429 and Retry-After are obeyed)";
            refuse(format!("limits[{index}]"), "rate limits have", remedy);
        }
        for (index, queue) in self.queues.iter().enumerate() {
            if queue.max_running.is_some() {
                let remedy = "remove it (`worker --concurrency` bounds each worker)";
                refuse(format!("queues[{index}].max_running"), "a cap on running jobs has", remedy);
            }
            if queue.weight != 1 {
                refuse(format!("queues[{index}].weight"), "a weight other than 1 has", "remove it");
            }
        }
        if self.breaker != Breaker::default() {
            refuse("breaker".to_owned(), "the circuit breaker has", "remove it");
        }
        found
    }
}
