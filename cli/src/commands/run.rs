//! `sluice run`: its options, and the first look at its input.

use std::path::PathBuf;

use clap::ValueEnum;
use sluice_domain::{MAX_MAX_ATTEMPTS, NanoUsd, OnUnknown};

use crate::{
    commands::Context,
    exit::{CliError, Exit},
    input::{self, Checked, FillInArgs, Source},
    run::{self, Existing, Limits, OnFailure, RunPlan},
};

const EXAMPLES: &str = "\
Input lines, mixed freely:
  {\"prompt\": \"Why is the sky blue?\"}                                  short; deepseek-flash unless it says
  {\"id\": \"q7\", \"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"temperature\": 0}
  {\"custom_id\": \"q8\", \"method\": \"POST\", \"url\": \"/v1/chat/completions\", \"body\": {…}}   OpenAI batch line
  {\"question\": \"…\", \"answer\": \"…\"}                                  data, with --template '{question}'

Output lines are OpenAI batch output lines in order of completion; custom_id is the line's id or its number.

Upstreams: --config or ./sluice.yaml; else DeepSeek where DEEPSEEK_API_KEY is set; else, on a private database, the
simulator. A given database's own configuration comes before all of these.

Examples:
  sluice run questions.jsonl -o answers.jsonl
  sluice run gsm8k.jsonl -o out.jsonl --template '{question}' --model deepseek-flash --max-cost 2.50
  zcat big.jsonl.gz | sluice run - -o out.jsonl --skip-invalid --concurrency 1000

Interrupted (Ctrl-C, a crash, SIGKILL), the same command goes on where it stopped and pays for nothing twice.
Exit codes: 0 all lines succeeded, 1 some failed or are left, 2 wrong usage or input, 3 cannot reach something,
130 interrupted.";

/// Work a file of requests and write the results
///
/// Starts what it needs in this process: a private Postgres (unless --database-url), a worker, and the simulator where
/// no upstream is configured. It works only its own jobs. Every line is checked before anything is sent.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// The requests, one JSON object a line; `-` is standard input
    #[arg(value_name = "IN.jsonl")]
    input: PathBuf,
    /// Where results go; a file that this same run wrote is gone on with, any other is refused
    ///
    /// Example: -o answers.jsonl
    #[arg(short = 'o', long = "out", value_name = "OUT.jsonl")]
    out: PathBuf,
    #[command(flatten)]
    fill_in: FillInArgs,
    /// Calls under way at once, at most
    ///
    /// Example: --concurrency 2000
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    concurrency: u32,
    /// Start no further call once this run has spent so much, in US dollars
    ///
    /// Earlier invocations of the same run count. Calls under way are finished, so it may be passed by what they cost.
    /// Example: --max-cost 2.50
    #[arg(long, value_name = "USD", value_parser = usd)]
    max_cost: Option<NanoUsd>,
    /// Start no further call once a job has failed
    ///
    /// Example: --fail-fast
    #[arg(long)]
    fail_fast: bool,
    /// Tries of each job, where the configuration's 3 are not right
    ///
    /// Example: --max-attempts 10
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_MAX_ATTEMPTS)))]
    max_attempts: Option<u16>,
    /// What happens to a job whose call was sent and whose answer is not known: call again, or wait for a person
    ///
    /// Example: --on-unknown hold (then nothing is ever paid twice)
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    on_unknown: OnUnknownArg,
    /// Go on without lines that can't be used, after telling of them
    ///
    /// Example: --skip-invalid
    #[arg(long)]
    skip_invalid: bool,
    /// Start the output anew, whatever it holds
    ///
    /// Results that the database has are written again, not paid again. Example: --force
    #[arg(long)]
    force: bool,
}

/// `--on-unknown`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum OnUnknownArg {
    /// Call again; the first call may be paid as well, and the ledger says so.
    #[default]
    Retry,
    /// Hold the job until a person decides.
    Hold,
}

/// Works the file to its end.
pub async fn run(args: RunArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    let fill_in = args.fill_in.checked().map_err(CliError::usage)?;
    let source = Source::open(&args.input)?;
    let checked = input::check(&source, &fill_in)?;
    let invalid = if args.skip_invalid { InvalidLines::Skip } else { InvalidLines::Refuse };
    see_to_problems(&checked, &source.name, invalid)?;
    let plan = RunPlan {
        source,
        checked,
        fill_in,
        output: args.out,
        existing: if args.force { Existing::Overwrite } else { Existing::Continue },
        concurrency: args.concurrency as usize,
        limits: Limits {
            max_cost: args.max_cost,
            on_failure: if args.fail_fast { OnFailure::Stop } else { OnFailure::GoOn },
        },
        max_attempts: args.max_attempts,
        on_unknown: match args.on_unknown {
            OnUnknownArg::Retry => OnUnknown::Retry,
            OnUnknownArg::Hold => OnUnknown::Hold,
        },
    };
    run::work(plan, context).await
}

/// What bad lines mean for the others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InvalidLines {
    Refuse,
    Skip,
}

fn see_to_problems(checked: &Checked, name: &str, invalid: InvalidLines) -> Result<(), CliError> {
    if let Some(report) = checked.report(name) {
        eprint!("{report}");
        if invalid == InvalidLines::Refuse {
            let count = checked.bad_lines.len();
            let lines = if count == 1 { "1 line".to_owned() } else { format!("{count} lines") };
            return Err(CliError::usage(format!(
                "{lines} of {name} can't be used, and nothing was sent; mend them, or leave them out with --skip-invalid"
            )));
        }
    }
    if checked.requests == 0 {
        return Err(CliError::usage(format!(
            "{name} holds no requests; see `sluice run --help` for their form"
        )));
    }
    Ok(())
}

fn usd(text: &str) -> Result<NanoUsd, String> {
    let amount: f64 =
        text.trim_start_matches('$').parse().map_err(|_| "it is no amount such as 2.50".to_owned())?;
    NanoUsd::from_usd(amount).ok_or_else(|| "it must be 0 or more".to_owned())
}
