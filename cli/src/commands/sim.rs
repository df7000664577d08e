//! `sluice sim`: the simulator as a server of its own.

use std::{fs, net::SocketAddr, path::PathBuf};

use serde_json::json;
use sluice_simulator::{
    Distribution, FaultKind, FaultRule, Latency, SimulatorConfig, SimulatorError, SimulatorStats,
};

use crate::{
    args::OutputFormat,
    commands::Context,
    exit::{CliError, Exit, causes},
    stdout,
    stop_signals::StopSignals,
};

/// Serve a simulated upstream that answers as OpenAI's and DeepSeek's APIs do
///
/// Answers depend on the seed and the prompt alone. Any key is good, and none is needed unless --require-key is given.
/// `/sim/stats` and `/sim/ledger` tell what it received.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice sim
  sluice sim --latency 300ms/2s --concurrency-limit 100 --fault http_500=0.05 --fault hang=0.001
  sluice sim --listen 127.0.0.1:0 --seed 7 --ledger calls.jsonl --output json")]
pub struct SimArgs {
    /// Where to listen; port 0 takes a free one. Default: the file's, else 127.0.0.1:8090
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Decides answers, latencies and faults
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// How long answers take: 200ms always, 50ms..200ms evenly between, 300ms/2s by median and 99th percentile
    #[arg(long, value_name = "TIME", value_parser = latency)]
    latency: Option<Distribution>,
    /// Calls under way at once for each account and model; more are answered with 429
    #[arg(long, value_name = "N")]
    concurrency_limit: Option<u32>,
    /// Calls in any minute for each account and model
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u32>,
    /// Tokens in any minute for each account and model
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<u64>,
    /// What goes wrong, and how often from 0 to 1; may be given several times
    #[arg(long = "fault", value_name = "KIND=PROBABILITY", value_parser = fault)]
    faults: Vec<FaultRule>,
    /// Refuse calls without a key, as the real ones do
    #[arg(long)]
    require_key: bool,
    /// Write each call received to this file, synced to disk
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// All settings as JSON; what else is given here wins over it
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

const DEFAULT_PORT: u16 = 8090;

/// Serves until it is told to stop.
pub async fn run(args: SimArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    let config = args.simulator_config()?;
    let mut stop = StopSignals::listen()?;
    let simulator = sluice_simulator::start(config).await.map_err(|error| failed(&error))?;
    let base_url = simulator.base_url();
    match context.global.output {
        OutputFormat::Json => stdout::json(&json!({ "object": "simulator", "base_url": base_url }))?,
        OutputFormat::Table => {
            stdout::line(&format!("The simulator listens on {base_url} (Ctrl-C stops it)."))?;
        }
    }
    stop.next().await;
    let stats = simulator.stats();
    simulator.shutdown().await;
    show_stats(&stats, context)?;
    Ok(Exit::Done)
}

fn show_stats(stats: &SimulatorStats, context: &Context<'_>) -> Result<(), CliError> {
    let json = serde_json::to_value(stats).unwrap_or_default();
    match context.global.output {
        OutputFormat::Json => stdout::json(&json),
        OutputFormat::Table => stdout::line(&format!("It received {} calls.", json["calls"])),
    }
}

impl SimArgs {
    /// The file's settings, with what was given on top.
    fn simulator_config(self) -> Result<SimulatorConfig, CliError> {
        let mut config = match &self.settings {
            Some(path) => read_settings(path)?,
            None => SimulatorConfig {
                listen: SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT)),
                require_key: false,
                ..SimulatorConfig::default()
            },
        };
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        if let Some(seed) = self.seed {
            config.seed = seed;
        }
        if let Some(first_token) = self.latency {
            config.latency = Latency { first_token, ..Latency::default() };
        }
        config.limits.concurrency = self.concurrency_limit.or(config.limits.concurrency);
        config.limits.requests_per_minute = self.requests_per_minute.or(config.limits.requests_per_minute);
        config.limits.tokens_per_minute = self.tokens_per_minute.or(config.limits.tokens_per_minute);
        config.faults.extend(self.faults);
        config.require_key |= self.require_key;
        config.ledger = self.ledger.or(config.ledger);
        config.validate().map_err(|error| failed(&error))?;
        Ok(config)
    }
}

fn read_settings(path: &PathBuf) -> Result<SimulatorConfig, CliError> {
    let failed = |error: &dyn std::fmt::Display| {
        CliError::usage(format!("failed to read {}: {error}", path.display()))
    };
    let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
    serde_json::from_str(&text).map_err(|error| failed(&error))
}

fn failed(error: &SimulatorError) -> CliError {
    let text = format!("failed to {}", causes(error));
    match error {
        SimulatorError::Listen { .. } => {
            CliError::unreachable(format!("{text}; choose another address with --listen"))
        }
        SimulatorError::Ledger { .. } | SimulatorError::LedgerLine { .. } => CliError::unreachable(text),
        _ => CliError::usage(text),
    }
}

/// Reads `200ms`, `50ms..200ms` or `300ms/2s`.
fn latency(text: &str) -> Result<Distribution, String> {
    let ms = |text: &str| {
        humantime::parse_duration(text.trim())
            .map(|span| span.as_secs_f64() * 1_000.0)
            .map_err(|_| "must be a time such as 200ms, 50ms..200ms or 300ms/2s".to_owned())
    };
    if let Some((least, most)) = text.split_once("..") {
        return Ok(Distribution::Uniform { min_ms: ms(least)?, max_ms: ms(most)? });
    }
    if let Some((median, p99)) = text.split_once('/') {
        return Ok(Distribution::Lognormal { p50_ms: ms(median)?, p99_ms: ms(p99)? });
    }
    Ok(Distribution::fixed(ms(text)?))
}

/// Reads `http_500=0.05`.
fn fault(text: &str) -> Result<FaultRule, String> {
    let (kind, probability) =
        text.split_once('=').ok_or("must be KIND=PROBABILITY, such as http_500=0.05")?;
    let kind: FaultKind = kind.parse().map_err(|error: sluice_domain::UnknownWord| error.to_string())?;
    match probability.parse::<f64>() {
        Ok(probability) if (0.0..=1.0).contains(&probability) => Ok(FaultRule::new(kind, probability)),
        _ => Err("the probability must be a number from 0 to 1, such as 0.05".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_fixed_even_or_lognormal() {
        assert_eq!(latency("200ms"), Ok(Distribution::fixed(200.0)));
        assert_eq!(latency("50ms..1s"), Ok(Distribution::Uniform { min_ms: 50.0, max_ms: 1_000.0 }));
        assert_eq!(latency("300ms/2s"), Ok(Distribution::Lognormal { p50_ms: 300.0, p99_ms: 2_000.0 }));
        assert!(latency("fast").is_err());
    }

    #[test]
    fn a_fault_names_a_kind_and_a_probability() {
        assert_eq!(fault("http_500=0.05"), Ok(FaultRule::new(FaultKind::Http500, 0.05)));
        for bad in ["http_500", "http_500=2", "http_500=NaN", "nonsense=0.1"] {
            assert!(fault(bad).is_err(), "{bad}");
        }
    }
}
