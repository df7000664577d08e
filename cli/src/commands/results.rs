//! `sluice results`: the results of many jobs, in the form of `run`'s output.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::json;
use sluice_domain::{JobState, TenantName};
use sluice_store::Bodies;
use tempfile::NamedTempFile;

use crate::{
    args::OutputFormat,
    commands::Context,
    exit::{CliError, Exit},
    filter::FilterArgs,
    home::Home,
    output_line,
    pages::{self, Pages},
    stdout,
};

/// Jobs that are read with their bodies at once: few, since an answer may be large.
const PAGE: u32 = 50;

/// Write the results of many jobs, in the form of `sluice run`'s output
///
/// A line for each job that has ended and matches, newest first: an OpenAI batch output line with a `sluice` object.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sluice results -o OUT.jsonl
  sluice results --queue nightly --since 1d --state succeeded -o OUT.jsonl
  sluice results --tag project=alpha -o - | jq -r .custom_id")]
pub struct ResultsArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// The file to write, replaced when all is there; `-` is standard output
    #[arg(short = 'o', long = "out", value_name = "OUT.jsonl")]
    out: PathBuf,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

/// Writes them.
pub async fn run(args: ResultsArgs, context: &Context<'_>) -> Result<Exit, CliError> {
    if args.filter.state.is_some_and(|state| !state.is_terminal()) {
        return Err(CliError::usage(
            "only ended jobs have results; use --state succeeded, failed or cancelled",
        ));
    }
    let mut sink = Sink::open(&args.out)?;
    context
        .with_home("sluice-results", async |home| {
            let written = write_all(&args, home, &mut sink).await?;
            let is_stdout = matches!(sink, Sink::Stdout);
            sink.finish(&args.out)?;
            match context.global.output {
                _ if is_stdout => {}
                OutputFormat::Json => stdout::json(&json!({ "object": "results", "written": written }))?,
                OutputFormat::Table => {
                    stdout::line(&format!("Wrote {written} results to {}.", args.out.display()))?;
                }
            }
            Ok(Exit::Done)
        })
        .await
}

async fn write_all(args: &ResultsArgs, home: &Home, sink: &mut Sink) -> Result<u64, CliError> {
    let tenant = TenantName::default_tenant();
    let store = home.store("reading many results", "GET /v1/jobs/{id}/result")?;
    let filter = args.filter.resolve(home).await?;
    let limit = args.limit.unwrap_or(u64::MAX);
    let progress = pages::counter("results");
    let mut pages = Pages::new(store, &tenant, &filter, u64::MAX).of(PAGE);
    let mut written = 0;
    while let Some(ids) = pages.next().await? {
        let jobs = store.jobs_by_id(&ids, Bodies::Included).await?;
        let mut lines = Vec::new();
        for job in jobs.iter().filter(|job| JobState::is_terminal(job.state)) {
            if written == limit {
                break;
            }
            output_line::push_line(&mut lines, job);
            written += 1;
        }
        let is_heard = sink.write(&lines, &args.out)?;
        progress.set_position(written);
        if !is_heard || written == limit {
            break;
        }
    }
    progress.finish_and_clear();
    Ok(written)
}

/// Where the lines go.
enum Sink {
    Stdout,
    /// Something that can't be replaced: a pipe, a device.
    Stream(File),
    /// A file that takes the place of the named one at the end, so that it is never half there.
    Fresh(NamedTempFile),
}

impl Sink {
    fn open(path: &Path) -> Result<Self, CliError> {
        if path.as_os_str() == "-" {
            return Ok(Self::Stdout);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_stream = path.metadata().is_ok_and(|about| !about.is_file());
        let opened = if is_stream {
            File::options().write(true).open(path).map(Self::Stream)
        } else {
            NamedTempFile::new_in(folder).map(Self::Fresh)
        };
        opened.map_err(|error| failed(path, &error))
    }

    /// Says whether anybody reads on.
    fn write(&mut self, lines: &[u8], path: &Path) -> Result<bool, CliError> {
        let written = match self {
            Self::Stdout => io::stdout().lock().write_all(lines),
            Self::Stream(file) => file.write_all(lines),
            Self::Fresh(file) => file.write_all(lines),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(failed(path, &error)),
            Ok(()) => Ok(true),
        }
    }

    fn finish(&mut self, path: &Path) -> Result<(), CliError> {
        if let Self::Fresh(file) = std::mem::replace(self, Self::Stdout) {
            file.as_file().sync_all().map_err(|error| failed(path, &error))?;
            file.persist(path).map_err(|error| failed(path, &error.error))?;
        }
        Ok(())
    }
}

fn failed(path: &Path, error: &io::Error) -> CliError {
    CliError::unreachable(format!("failed to write {}: {error}; choose another file with -o", path.display()))
}
