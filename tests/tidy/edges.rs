//! Which crate may know which. Dependencies point one way, so that a change is felt in few places.

use crate::repository::{assert_none, packages};

/// What each of our crates may depend on, of ours. A crate that is not here is new: say here what it may know.
const ALLOWED: &[(&str, &[&str])] = &[
    ("domain", &[]),
    // Whoever uses it gets nothing of the server.
    ("client", &["proto"]),
    ("cluster", &[]),
    ("policy", &["domain"]),
    ("telemetry", &["domain"]),
    ("store", &["domain"]),
    ("config", &["domain", "policy"]),
    ("provider", &["domain", "policy"]),
    ("simulator", &["domain", "policy"]),
    ("webhook", &["domain"]),
    // The parsers that it checks in other crates are compiled in from their source.
    ("fuzz-checks", &["config", "domain", "policy", "proto"]),
    // Not `store`: it brings the database that the statements in `store` are checked against.
    ("testkit", &["cluster", "domain"]),
    // Control plane and data plane meet in the database and nowhere else.
    ("scheduler", &["config", "domain", "policy", "proto", "store", "telemetry", "webhook"]),
    ("worker", &["config", "domain", "policy", "provider", "store", "telemetry"]),
    ("proto", &["domain"]),
    (
        "cli",
        &[
            "client",
            "cluster",
            "config",
            "domain",
            "policy",
            "proto",
            "provider",
            "scheduler",
            "simulator",
            "store",
            "telemetry",
            "worker",
        ],
    ),
    ("bench", ANY),
    ("tests", ANY),
];

const ANY: &[&str] = &["*"];

/// What every crate's tests may use besides.
const FOR_TESTS: &[&str] = &["testkit", "simulator"];

/// Crates of others that stand for a rule: who may use them, and why nobody else.
const WALLS: &[(&str, &[&str], &str)] = &[
    ("sqlx", &["store", "testkit", "tests", "bench"], "only `store` holds SQL"),
    (
        "reqwest",
        &["provider", "webhook", "telemetry", "cli", "tests", "bench"],
        "only `provider` calls upstreams, and only `webhook` what users name",
    ),
    ("testcontainers", &["testkit"], "only `testkit` starts containers"),
];

/// Crates that wait, or read the world: the crates that only decide may not.
const NOT_PURE: &[&str] = &["tokio", "futures", "hyper", "axum", "nix", "tempfile"];

#[test]
fn crates_know_only_the_crates_they_may_know() {
    let mut problems = Vec::new();
    for package in packages() {
        let Some(name) = package.name.strip_prefix("sluice-").or((package.name == "sluice").then_some("cli"))
        else {
            problems.push(format!("{} is not named like ours", package.name));
            continue;
        };
        let Some((_, allowed)) = ALLOWED.iter().find(|(crate_name, _)| *crate_name == name) else {
            problems.push(format!("{name} has no line in the table of allowed edges"));
            continue;
        };
        for (dependency, kind) in &package.dependencies {
            let Some(other) = dependency.strip_prefix("sluice-") else { continue };
            let for_tests = kind == "dev" && FOR_TESTS.contains(&other);
            if !for_tests && *allowed != ANY && !allowed.contains(&other) {
                problems.push(format!("{name} must not depend on {other} ({kind})"));
            }
        }
    }
    assert_none("forbidden edges between our crates", &problems);
}

#[test]
fn crates_that_stand_for_a_rule_are_used_where_they_may() {
    let mut problems = Vec::new();
    for package in packages() {
        let name = package.name.strip_prefix("sluice-").unwrap_or("cli");
        for (dependency, kind) in &package.dependencies {
            let wall = WALLS.iter().find(|(crate_name, ..)| crate_name == dependency);
            if let Some((_, users, reason)) = wall
                && !users.contains(&name)
                // A test may call the server that it tests, and look into the database to judge what it did.
                && !(kind == "dev" && matches!(dependency.as_str(), "reqwest" | "sqlx"))
            {
                problems.push(format!("{name} must not depend on {dependency} ({kind}): {reason}"));
            }
            if matches!(name, "domain" | "policy")
                && kind == "normal"
                && NOT_PURE.contains(&dependency.as_str())
            {
                problems.push(format!("{name} must not depend on {dependency}: it only decides"));
            }
        }
    }
    assert_none("forbidden crates", &problems);
}
