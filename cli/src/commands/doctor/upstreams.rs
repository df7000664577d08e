//! The configuration, its secrets as this host sees them, and its upstreams.

use futures::{StreamExt, stream};
use sluice_config::{Secret, Upstream};
use sluice_provider::{Client, ProviderError};
use sluice_worker::called_upstream;

use super::report::{Report, Verdict};
use crate::{
    configuration_file,
    database::Database,
    exit::{CliError, causes},
};

/// Upstreams that are asked at once.
const AT_ONCE: usize = 8;

/// Checks the configuration that counts and, unless offline, asks each upstream for its models.
pub async fn check(offline: bool, database: &Database, report: &mut Report) -> Result<(), CliError> {
    let Some((applied, configuration)) = configuration_file::current(&database.store).await? else {
        let text =
            "none was applied, so workers know no upstream; apply one with `sluice apply -f sluice.yaml`";
        report.add(Verdict::Warn, "configuration", text);
        return Ok(());
    };
    let (version, upstreams, routes) =
        (applied.version, configuration.upstreams.len(), configuration.routes.len());
    let text = format!("version {version}: {upstreams} upstreams, {routes} routes");
    report.add(Verdict::Ok, "configuration", &text);
    let mut reachable = Vec::new();
    for upstream in &configuration.upstreams {
        match upstream.auth.resolve(|name| std::env::var(name).ok()) {
            Ok(secret) => reachable.push((upstream, secret)),
            Err(error) => {
                let problem = causes(&error);
                let text = format!("{}: {problem} on this host; workers need it on theirs", upstream.name);
                report.add(Verdict::Warn, "secrets", &text);
            }
        }
    }
    if reachable.len() == configuration.upstreams.len() {
        report.add(Verdict::Ok, "secrets", "all that the configuration refers to are found on this host");
    }
    if offline {
        report.add(Verdict::Ok, "upstreams", "not asked (--offline)");
        return Ok(());
    }
    let probes = reachable
        .into_iter()
        .map(|(upstream, secret)| async move { (upstream, probe(upstream, secret.as_ref()).await) });
    let answers: Vec<_> = stream::iter(probes).buffered(AT_ONCE).collect().await;
    for (upstream, answer) in answers {
        judge(upstream, answer, report);
    }
    Ok(())
}

async fn probe(upstream: &Upstream, secret: Option<&Secret>) -> Result<Vec<String>, ProviderError> {
    Client::new(called_upstream(upstream, secret))?.models().await
}

fn judge(upstream: &Upstream, answer: Result<Vec<String>, ProviderError>, report: &mut Report) {
    let name = &upstream.name;
    let (verdict, text) = match answer {
        Ok(models) => (Verdict::Ok, format!("{name}: answers, with {} models", models.len())),
        Err(ProviderError::Refused { status_code: status @ (401 | 403), .. }) => (
            Verdict::Fail,
            format!("{name}: refuses the key ({status}); put a valid one where the configuration refers to"),
        ),
        Err(ProviderError::Refused { status_code: 404 | 405, .. } | ProviderError::Malformed { .. }) => {
            (Verdict::Warn, format!("{name}: answers, but lists no models; check base_url if calls fail"))
        }
        Err(error) => {
            let text = format!(
                "{name}: failed to {}; check base_url ({}) and the network",
                causes(&error),
                upstream.base_url
            );
            return report.add_unreachable("upstreams", &text);
        }
    };
    report.add(verdict, "upstreams", &text);
}
