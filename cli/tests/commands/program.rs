//! Runs the binary and reads what it prints.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;
use sluice_testkit::TestDatabase;
use tempfile::TempDir;

/// A database, a folder to work in, and the binary.
pub struct Sluice {
    database: TestDatabase,
    pub folder: TempDir,
}

impl Sluice {
    /// A migrated database without a configuration.
    pub async fn new() -> Self {
        Self::on(TestDatabase::new().await)
    }

    pub fn on(database: TestDatabase) -> Self {
        Self { database, folder: TempDir::new().unwrap() }
    }

    /// A command with its arguments, in a folder and an environment of its own.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = without_environment(self.folder.path());
        command.env("DATABASE_URL", self.database.url()).args(args);
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a command prints, which must end with code 0.
    pub fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "sluice {args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The JSON that a command prints, which must end with code 0.
    pub fn json(&self, args: &[&str]) -> Value {
        let args = [args, &["--output", "json"]].concat();
        serde_json::from_str(&self.text(&args)).unwrap()
    }

    /// The error of a command that must end with `code` and print nothing else.
    pub fn error(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "sluice {args:?}: {error}");
        assert!(
            output.stdout.is_empty(),
            "sluice {args:?} printed {:?}",
            String::from_utf8_lossy(&output.stdout)
        );
        error
    }

    /// Writes a file into the folder; commands name it without a path.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// Reads a file of the folder, a JSON value a line.
    pub fn read_lines(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Starts `sluice sim` and applies a configuration that leads to it.
    pub fn with_simulator(&self, args: &[&str]) -> Simulator {
        let simulator = Simulator::start(self, args);
        let base_url = &simulator.base_url;
        let file = format!(
            "upstreams:\n  - {{ name: sim, provider: deepseek, base_url: \"{base_url}\", account: main }}\n"
        );
        self.write("sim.yaml", &file);
        self.text(&["apply", "-f", "sim.yaml"]);
        simulator
    }
}

/// The binary in a folder, without anything of this process's environment that it looks at.
pub fn without_environment(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.current_dir(folder).env("SLUICE_DATA_DIR", folder).env("SLUICE_LOG", "warn");
    for name in [
        "DATABASE_URL",
        "DATABASE_DIRECT_URL",
        "DEEPSEEK_API_KEY",
        "SLUICE_API_KEY",
        "SLUICE_API_KEY_FILE",
        "SLUICE_CONFIG",
        "SLUICE_GRPC_LISTEN",
        "SLUICE_LISTEN",
        "SLUICE_LOG_FORMAT",
        "SLUICE_REMOTE",
    ] {
        command.env_remove(name);
    }
    command
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A running `sluice sim`, ended when it is dropped.
pub struct Simulator {
    process: Child,
    pub base_url: String,
}

impl Simulator {
    fn start(sluice: &Sluice, args: &[&str]) -> Self {
        let args = [&["sim", "--listen", "127.0.0.1:0", "--output", "json"], args].concat();
        let mut process = sluice.command(&args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        Self { process, base_url: said["base_url"].as_str().unwrap().to_owned() }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
