//! Who keeps dead rows from being cleaned up, and the log from being removed.

use std::time::Duration;

use sluice_store::{ReplicaHold, ServerFacts};

use super::report::{Report, Verdict};
use crate::times;

/// A snapshot that is older keeps dead rows from being cleaned up.
const OLD_SNAPSHOT: Duration = Duration::from_mins(5);
/// A standby or slot that holds rows so many transactions old holds far too many: a busy queue makes a thousand a second.
const MANY_TRANSACTIONS: u64 = 300_000;
/// A slot that nobody uses and that keeps so much of the log fills the disk some day.
const MUCH_LOG: u64 = 1024 * 1024 * 1024;

/// Checks open transactions, prepared ones, slots and standbys.
pub fn check(facts: &ServerFacts, report: &mut Report) {
    let warnings: Vec<String> = open(facts)
        .into_iter()
        .chain(prepared(facts))
        .chain(facts.replicas.iter().filter_map(replica))
        .collect();
    for text in &warnings {
        report.add(Verdict::Warn, "snapshots", text);
    }
    if warnings.is_empty() {
        let age = facts.oldest_snapshot_age.map_or_else(|| "none is open".to_owned(), times::span_shown);
        report.add(Verdict::Ok, "snapshots", &format!("the oldest transaction: {age}"));
    }
}

fn open(facts: &ServerFacts) -> Option<String> {
    let age = facts.oldest_snapshot_age.filter(|age| *age > OLD_SNAPSHOT)?;
    let holder = facts.oldest_snapshot_holder.as_deref().unwrap_or("an unknown process");
    Some(format!(
        "{holder} has held a transaction open for {}: dead rows pile up; end it, or set \
         idle_in_transaction_session_timeout",
        times::span_shown(age)
    ))
}

fn prepared(facts: &ServerFacts) -> Option<String> {
    let age = facts.oldest_prepared_age.filter(|age| *age > OLD_SNAPSHOT)?;
    let name = facts.oldest_prepared_name.as_deref().unwrap_or("?");
    Some(format!(
        "the prepared transaction '{name}' has waited for {}: dead rows pile up; COMMIT PREPARED or ROLLBACK \
         PREPARED it",
        times::span_shown(age)
    ))
}

fn replica(replica: &ReplicaHold) -> Option<String> {
    let ReplicaHold { name, is_active, held_transactions, kept_log_bytes } = replica;
    let remedy = if *is_active {
        "end what runs for long there"
    } else {
        "nobody uses it: drop it unless it is awaited"
    };
    if let Some(held) = held_transactions.filter(|held| *held > MANY_TRANSACTIONS) {
        return Some(format!(
            "the {name} holds rows that are {held} transactions old: dead rows pile up; {remedy}"
        ));
    }
    let keeps_much = !is_active && *kept_log_bytes > MUCH_LOG;
    keeps_much.then(|| {
        let gigabytes = kept_log_bytes / MUCH_LOG;
        format!("the {name} keeps {gigabytes} GiB of the log, until the disk is full; {remedy}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(is_active: bool, held: Option<u64>, kept: u64) -> Option<String> {
        let name = "slot copy".to_owned();
        replica(&ReplicaHold { name, is_active, held_transactions: held, kept_log_bytes: kept })
    }

    #[test]
    fn only_what_holds_much_is_told() {
        assert_eq!(slot(true, None, 90 * MUCH_LOG), None);
        assert_eq!(slot(false, Some(1_000), MUCH_LOG), None);
        assert!(slot(true, Some(400_000), 0).unwrap().contains("slot copy holds rows"));
        assert!(slot(false, None, 3 * MUCH_LOG + 1).unwrap().contains("keeps 3 GiB"));
    }
}
