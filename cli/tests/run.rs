//! `sluice run` as its users have it: the real binary, a private Postgres in a folder of its own, the simulator.

#![expect(clippy::unwrap_used, reason = "a helper of a test panics where it can't go on")]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// A folder with everything of one test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Under root the server has an account of its own, which must get through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        for name in ["DATABASE_URL", "DATABASE_DIRECT_URL", "DEEPSEEK_API_KEY", "SLUICE_CONFIG"] {
            command.env_remove(name);
        }
        command.env("SLUICE_DATA_DIR", self.path("data")).current_dir(self.0.path()).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The lines of a results file that are whole.
    fn results(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn wait_for_results(&self, name: &str, count: usize) {
        let began = Instant::now();
        while self.results(name).len() < count {
            assert!(began.elapsed() < Duration::from_secs(90), "no {count} results in time");
            sleep(Duration::from_millis(20));
        }
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn assert_exit(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
}

fn ids(results: &[Value]) -> BTreeSet<String> {
    results.iter().map(|line| line["custom_id"].as_str().unwrap().to_owned()).collect()
}

/// Lines whose answers take `latency_ms` each.
fn slow_lines(count: usize, latency_ms: u64) -> String {
    let lines: Vec<String> = (1..=count)
        .map(|n| format!("{{\"prompt\":\"[[sim:none latency_ms={latency_ms}]] {n}\"}}\n"))
        .collect();
    lines.concat()
}

fn numbers(count: usize) -> BTreeSet<String> {
    (1..=count).map(|n| n.to_string()).collect()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn a_second_run_of_the_same_writes_nothing_more() {
    let folder = Folder::new();
    folder.write(
        "in.jsonl",
        "{\"prompt\":\"a\"}\n\n{\"id\":\"second\",\"prompt\":\"b\",\"max_tokens\":5}\n{\"custom_id\":\"third\",\
         \"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{\"model\":\"deepseek-flash\",\
         \"messages\":[{\"role\":\"user\",\"content\":\"c\"}]}}\n",
    );
    let first = folder.run(&["run", "in.jsonl", "-o", "out.jsonl"]);
    assert_exit(&first, 0);
    assert!(stderr(&first).contains("the simulator answers"), "{}", stderr(&first));
    let results = folder.results("out.jsonl");
    assert_eq!(ids(&results), ["1", "second", "third"].map(str::to_owned).into());
    for result in &results {
        assert_eq!(result["response"]["status_code"], 200);
        assert!(result["response"]["body"]["choices"][0]["message"]["content"].is_string());
        assert_eq!(result["error"], Value::Null);
        assert_eq!(result["sluice"]["attempts"], 1);
    }
    let written = fs::read(folder.path("out.jsonl")).unwrap();
    let second = folder.run(&["run", "in.jsonl", "-o", "out.jsonl"]);
    assert_exit(&second, 0);
    assert_eq!(fs::read(folder.path("out.jsonl")).unwrap(), written);

    let other = folder.run(&["run", "in.jsonl", "-o", "out.jsonl", "--system", "Be brief."]);
    assert_exit(&other, 2);
    assert!(stderr(&other).contains("--force"), "{}", stderr(&other));
    assert_eq!(fs::read(folder.path("out.jsonl")).unwrap(), written);
}

#[test]
fn a_run_that_was_killed_goes_on_and_writes_each_line_once() {
    let folder = Folder::new();
    folder.write("in.jsonl", &slow_lines(40, 250));
    let args = ["run", "in.jsonl", "-o", "out.jsonl", "--concurrency", "5"];
    let mut child = folder.command(&args).stderr(Stdio::null()).spawn().unwrap();
    folder.wait_for_results("out.jsonl", 7);
    signal(&child, Signal::SIGKILL);
    child.wait().unwrap();
    let before = folder.results("out.jsonl").len();
    assert!(before < 40, "it was killed too late");
    let resumed_at = Instant::now();
    let output = folder.run(&args);
    assert_exit(&output, 0);
    assert!(
        resumed_at.elapsed() < Duration::from_secs(12),
        "it waited for the dead: {:?}",
        resumed_at.elapsed()
    );
    let results = folder.results("out.jsonl");
    assert_eq!((results.len(), ids(&results)), (40, numbers(40)), "{}", stderr(&output));
}

#[test]
fn two_runs_of_one_input_at_once_write_each_line_once() {
    let folder = Folder::new();
    folder.write("in.jsonl", &slow_lines(1_500, 5));
    let outputs = ["one.jsonl", "two.jsonl"];
    let runs = outputs.map(|output| folder.command(&["run", "in.jsonl", "-o", output]).spawn().unwrap());
    for run in runs {
        assert_exit(&run.wait_with_output().unwrap(), 0);
    }
    for output in outputs {
        let results = folder.results(output);
        assert_eq!((results.len(), ids(&results)), (1_500, numbers(1_500)), "{output}");
    }
}

#[test]
fn a_private_server_that_dies_is_started_again() {
    let folder = Folder::new();
    folder.write("in.jsonl", &slow_lines(120, 100));
    let run = folder.command(&["run", "in.jsonl", "-o", "out.jsonl", "--concurrency", "4"]).spawn().unwrap();
    folder.wait_for_results("out.jsonl", 20);
    let pid_file = fs::read_to_string(folder.path("data/postgres/data/postmaster.pid")).unwrap();
    kill(Pid::from_raw(pid_file.lines().next().unwrap().parse().unwrap()), Signal::SIGKILL).unwrap();
    assert_exit(&run.wait_with_output().unwrap(), 0);
    let results = folder.results("out.jsonl");
    assert_eq!((results.len(), ids(&results)), (120, numbers(120)));
}

#[test]
fn an_interrupt_finishes_what_is_under_way_and_the_next_run_goes_on() {
    let folder = Folder::new();
    folder.write("in.jsonl", &slow_lines(30, 300));
    let args = ["run", "in.jsonl", "-o", "out.jsonl", "--concurrency", "4"];
    let child = folder.command(&args).spawn().unwrap();
    folder.wait_for_results("out.jsonl", 3);
    signal(&child, Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert_exit(&output, 130);
    assert!(stderr(&output).contains("run the same command again to go on"), "{}", stderr(&output));
    let results = folder.results("out.jsonl");
    assert!(results.len() < 30 && results.iter().all(|line| line["response"]["status_code"] == 200));
    assert_exit(&folder.run(&args), 0);
    let results = folder.results("out.jsonl");
    assert_eq!((results.len(), ids(&results)), (30, numbers(30)));
}

#[test]
fn failures_are_results_and_make_exit_code_1_again_and_again() {
    let folder = Folder::new();
    folder.write("in.jsonl", "{\"prompt\":\"good\"}\n{\"prompt\":\"[[sim:http_422]] bad\"}\n");
    let args = ["run", "in.jsonl", "-o", "out.jsonl"];
    let output = folder.run(&args);
    assert_exit(&output, 1);
    assert!(stderr(&output).contains("1 failed"), "{}", stderr(&output));
    let failed: Vec<_> = folder
        .results("out.jsonl")
        .into_iter()
        .filter(|line| line["response"]["status_code"] == 422)
        .collect();
    assert_eq!(ids(&failed), ["2".to_owned()].into());
    assert_exit(&folder.run(&args), 1);
    assert_eq!(folder.results("out.jsonl").len(), 2);
}

#[test]
fn bad_input_is_told_in_full_before_anything_is_started() {
    let folder = Folder::new();
    folder.write("in.jsonl", "{\"prompt\":\"a\"}\nnonsense\n{\"prompt\":5}\n");
    let output = folder.run(&["run", "in.jsonl", "-o", "out.jsonl"]);
    assert_exit(&output, 2);
    let said = stderr(&output);
    assert!(said.contains("in.jsonl, line 2: is no JSON object"), "{said}");
    assert!(said.contains("in.jsonl, line 3: prompt must be text, not a number"), "{said}");
    assert!(said.contains("--skip-invalid"), "{said}");
    assert!(!folder.path("data").exists() && !folder.path("out.jsonl").exists());

    let output = folder.run(&["run", "in.jsonl", "-o", "out.jsonl", "--skip-invalid"]);
    assert_exit(&output, 0);
    assert!(stderr(&output).contains("2 lines skipped"), "{}", stderr(&output));
    assert_eq!(ids(&folder.results("out.jsonl")), numbers(1));
}

#[test]
fn a_run_stops_at_its_cost_and_goes_on_with_a_higher_one() {
    let folder = Folder::new();
    folder.write("in.jsonl", &slow_lines(60, 50));
    let args = ["run", "in.jsonl", "-o", "out.jsonl", "--concurrency", "2"];
    let stopped = folder.run(&[&args[..], &["--max-cost", "0.0000001"]].concat());
    assert_exit(&stopped, 1);
    assert!(stderr(&stopped).contains("stopped at --max-cost"), "{}", stderr(&stopped));
    let done = folder.results("out.jsonl").len();
    assert!((1..30).contains(&done), "{done} calls were made");
    assert_exit(&folder.run(&args), 0);
    assert_eq!(ids(&folder.results("out.jsonl")), numbers(60));
}

#[test]
fn a_refused_key_ends_the_run_with_the_reason() {
    let folder = Folder::new();
    folder.write("in.jsonl", "{\"prompt\":\"[[sim:http_401]]\"}\n");
    let args = ["run", "in.jsonl", "-o", "out.jsonl"];
    let output = folder.run(&args);
    assert_exit(&output, 3);
    assert!(stderr(&output).contains("is paused (unauthorized"), "{}", stderr(&output));
    // The next run asks the upstream again, instead of standing before the old pause.
    let again = folder.run(&args);
    assert!(stderr(&again).contains("is paused (unauthorized"), "{}", stderr(&again));
}
