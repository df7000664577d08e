//! Wrong usage: code 2, one line that says what to do.

use crate::program::{Sluice, without_environment};

#[tokio::test]
async fn wrong_usage_ends_with_code_two_and_says_what_would_be_right() {
    let sluice = Sluice::new().await;
    sluice.write("bad.jsonl", "{\"prompt\":\"One\"}\n{\"promt\":\"Two\"}\n");
    for (args, expected) in [
        (&["cancel"][..], "--all"),
        (&["replay"], "--all"),
        (&["release"], "--all"),
        (&["cancel", "--all", "--queue", "q"], "not both"),
        (&["cancel", "--state", "failed"], "ended"),
        (&["replay", "--state", "queued", "--queue", "q"], "only ended jobs"),
        (&["release", "--state", "failed"], "only held jobs"),
        (&["get", "nonsense"], "ID"),
        (&["get", "01930f5e-7a3c-7cc1-b0a1-5f0e5d1c2b3a"], "sluice list"),
        (&["explain", "01930f5e-7a3c-7cc1-b0a1-5f0e5d1c2b3a"], "there is no job"),
        (&["list", "--state", "done"], "succeeded"),
        (&["list", "--since", "yesterday"], "30m"),
        (&["list", "--tag", "novalue"], "KEY=VALUE"),
        (&["pause"], "QUEUE"),
        (&["pause", "q", "--upstream", "u"], "cannot be used"),
        (&["pause", "--upstream", "u"], "no upstream"),
        (&["submit"], "FILE"),
        (&["submit", "absent.jsonl"], "absent.jsonl"),
        (&["submit", "bad.jsonl"], "line 2"),
        (&["submit", "--body", "{"], "not valid JSON"),
        (&["submit", "--body", "{\"messages\":[]}"], "model"),
        (&["submit", "--body", "{}", "--model", "m", "--queue", "run:x"], "run:"),
        (&["submit", "--body", "{}", "--model", "m", "--deadline", "2020-01-01T00:00:00Z"], "--deadline"),
        (&["results", "--state", "queued", "-o", "x"], "only ended jobs"),
        (&["sim", "--fault", "nonsense=1"], "known are"),
        (&["sim", "--latency", "fast"], "200ms"),
    ] {
        let error = sluice.error(2, args);
        assert!(error.contains(expected), "sluice {args:?} said {error:?}");
    }
}

#[test]
fn a_database_that_is_not_there_is_code_three() {
    let folder = tempfile::tempdir().unwrap();
    let output = without_environment(folder.path())
        .args(["list", "--database-url", "postgres://nobody@127.0.0.1:1/none"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("error: ") && error.contains("DATABASE_URL"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[test]
fn every_command_shows_examples_in_its_help() {
    let folder = tempfile::tempdir().unwrap();
    let help = |args: &[&str]| {
        let output = without_environment(folder.path()).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let commands = help(&["--help"]);
    let commands = commands.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap().to_owned();
    let names = commands.lines().filter_map(|line| {
        line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?.split_whitespace().next()
    });
    for name in names.filter(|name| *name != "help") {
        assert!(help(&[name, "--help"]).contains("Examples:"), "{name}");
    }
}
