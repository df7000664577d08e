//! `sluice keys`, and a scheduler that asks for what it makes.

use serde_json::Value;

use crate::program::Sluice;

#[tokio::test]
async fn a_key_is_shown_once_listed_without_itself_rotated_and_revoked() {
    let sluice = Sluice::new().await;
    let made = sluice.json(&[
        "keys",
        "create",
        "--tenant",
        "search",
        "--name",
        "indexer",
        "--scope",
        "submit,read",
        "--queue",
        "nightly",
        "--top-priority",
        "3",
        "--rate",
        "600",
        "--max-waiting",
        "1000",
        "--allow-ip",
        "10.0.0.0/8",
        "--expires",
        "90d",
    ]);
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("sluice_") && key.len() == 46, "{key}");
    let rights = |key: &Value| {
        [
            "tenant",
            "name",
            "scopes",
            "queues",
            "top_priority",
            "submits_per_minute",
            "max_waiting",
            "networks",
        ]
        .map(|field| key[field].clone())
    };
    let listed = sluice.text(&["keys", "list", "--output", "json"]);
    assert!(!listed.contains(&key[11..]), "{listed}");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(rights(&listed["data"][0]), rights(&made));
    assert_eq!(made["scopes"], serde_json::json!(["submit", "read"]));
    assert_eq!(listed["data"][0]["valid"], Value::Bool(true));

    let id = made["id"].as_str().unwrap();
    let next = sluice.json(&["keys", "rotate", id, "--overlap", "1h"]);
    assert_eq!(rights(&next), rights(&made));
    assert_ne!(next["key"], made["key"]);
    let revoked = sluice.json(&["keys", "revoke", id]);
    assert_eq!(revoked["valid"], Value::Bool(false));
    assert!(sluice.error(2, &["keys", "rotate", id]).contains("there is no valid key"));
    let nobody = "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    assert!(sluice.error(2, &["keys", "revoke", nobody]).contains("there is no key"));

    // Where an id is asked for, a key itself is not repeated.
    let mistaken = sluice.error(2, &["keys", "revoke", key]);
    assert!(mistaken.contains("by its id") && !mistaken.contains(&key[11..]), "{mistaken}");

    let table = sluice.text(&["keys", "list", "--tenant", "search"]);
    assert!(table.contains("revoked") && table.contains("until") && table.contains("submit,read"), "{table}");
    assert!(sluice.text(&["keys", "list", "--tenant", "other"]).contains("There are no keys"));
}

#[tokio::test]
async fn only_the_key_is_printed_so_that_a_script_can_take_it() {
    let sluice = Sluice::new().await;
    let printed = sluice.text(&["keys", "create"]);
    assert!(printed.starts_with("sluice_") && printed.lines().count() == 1, "{printed}");
    for wrong in [
        &["keys", "create", "--scope", "root"][..],
        &["keys", "create", "--top-priority", "6"],
        &["keys", "create", "--rate", "0"],
        &["keys", "create", "--allow-ip", "10.0.0/8"],
        &["keys", "create", "--expires", "soon"],
        &["keys", "create", "--tenant", "two words"],
    ] {
        assert!(!sluice.error(2, wrong).is_empty());
    }
}
