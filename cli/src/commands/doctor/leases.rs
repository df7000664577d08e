//! Whether the leases of dead workers are taken from them, and why not.

use std::time::Duration;

use sluice_store::LeaseHealth;

use super::report::{Report, Verdict};
use crate::{database::Database, exit::CliError, times};

/// The lease TTL that workers and reapers have.
const LEASE_TTL: Duration = Duration::from_secs(15);
/// A lease that has been overdue for longer waits for more than a scan.
const PATIENCE: Duration = Duration::from_secs(5);

/// Checks what is overdue. The brake is each scheduler's own and shown by its metrics; what engages all of them at once,
/// a server that was started a moment ago, is seen here too.
pub async fn check(database: &Database, report: &mut Report) -> Result<(), CliError> {
    let health = database.store.lease_health(LEASE_TTL).await?;
    let facts = database.store.server_facts().await?;
    let up = (database.store.database_now().await? - facts.started_at).to_std().unwrap_or_default();
    let (verdict, text) = judged(&health, up);
    report.add(verdict, "leases", &text);
    Ok(())
}

fn judged(health: &LeaseHealth, server_up: Duration) -> (Verdict, String) {
    let is_braked = server_up < LEASE_TTL + PATIENCE;
    let overdue = format!(
        "{} leases of dead workers have been overdue for {}",
        health.overdue,
        times::span_shown(health.overdue_age)
    );
    if health.overdue == 0 || health.overdue_age <= PATIENCE {
        let text = if is_braked {
            "none is overdue; the server started a moment ago, so no worker is marked dead for 15 s"
        } else {
            "none is overdue"
        };
        (Verdict::Ok, text.to_owned())
    } else if is_braked {
        let text = format!(
            "{overdue}: the server started a moment ago, and no worker is marked dead for 15 s; wait"
        );
        (Verdict::Ok, text)
    } else if health.overdue_age <= LEASE_TTL + 2 * PATIENCE {
        let text = format!(
            "{overdue}: a scheduler that just started, or that saw an outage, waits for 15 s; look again"
        );
        (Verdict::Warn, text)
    } else {
        let text = format!(
            "{overdue}: start a scheduler with `sluice scheduler`, or look at its log and at sluice_brake_engaged \
             if one runs"
        );
        (Verdict::Fail, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(overdue: u64, age_s: u64, up_s: u64) -> Verdict {
        let overdue_age = Duration::from_secs(age_s);
        let health = LeaseHealth { overdue, overdue_age, ..LeaseHealth::default() };
        judged(&health, Duration::from_secs(up_s)).0
    }

    #[test]
    fn a_lease_is_overdue_once_scan_and_brake_are_over() {
        assert_eq!(verdict(0, 0, 5), Verdict::Ok);
        assert_eq!(verdict(9, 3, 1_000), Verdict::Ok);
        assert_eq!(verdict(9, 60, 10), Verdict::Ok);
        assert_eq!(verdict(9, 20, 1_000), Verdict::Warn);
        assert_eq!(verdict(9, 60, 1_000), Verdict::Fail);
    }
}
