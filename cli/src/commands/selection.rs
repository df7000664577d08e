//! What `cancel`, `replay` and `release` have in common: jobs by id, or by a filter, but never all by accident.

use sluice_domain::JobId;
use sluice_scheduler::ManyReport;
use sluice_store::Bodies;

use crate::{
    args::OutputFormat,
    commands::Context,
    exit::{CliError, Exit},
    home::Home,
    jobs, stdout,
};

/// Refuses a selection that says nothing, or two things.
pub fn check_selection(ids: &[JobId], is_filter_empty: bool, all: bool, verb: &str) -> Result<(), CliError> {
    match (ids.is_empty(), is_filter_empty, all) {
        (true, true, false) => {
            let text = format!("say which jobs to {verb}: ids, a filter such as --queue nightly, or --all");
            Err(CliError::usage(text))
        }
        (false, false, _) | (false, _, true) => Err(CliError::usage("give either ids or a filter, not both")),
        (true, false, true) => Err(CliError::usage("give either a filter or --all, not both")),
        _ => Ok(()),
    }
}

/// Does something to each of some jobs and shows each as it then stands. What is refused is told at once and the others
/// are done all the same.
pub async fn act_on_each(
    ids: &[JobId],
    home: &Home,
    context: &Context<'_>,
    done: &str,
    act: impl AsyncFn(JobId) -> Result<(), CliError>,
) -> Result<Exit, CliError> {
    let mut exit = Exit::Done;
    for id in ids {
        match act(*id).await {
            Ok(()) => show(*id, home, context, done).await?,
            Err(error) if ids.len() == 1 => return Err(error),
            Err(CliError::Usage(text)) => {
                eprintln!("error: {text}");
                exit = Exit::WrongUsage;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(exit)
}

async fn show(id: JobId, home: &Home, context: &Context<'_>, done: &str) -> Result<(), CliError> {
    match context.global.output {
        OutputFormat::Table => stdout::line(&format!("Job {id} is {done}.")),
        OutputFormat::Json => stdout::bytes(&jobs::json(&home.job(id, Bodies::LeftOut).await?)),
    }
}

/// Says how many jobs an action by filter meant and changed.
pub fn show_report(report: &ManyReport, context: &Context<'_>, done: &str) -> Result<(), CliError> {
    if context.global.output == OutputFormat::Json {
        // A report holds numbers and a truth value.
        return stdout::json(&serde_json::to_value(report).unwrap_or_default());
    }
    let jobs = |count: u64| if count == 1 { "1 job".to_owned() } else { format!("{count} jobs") };
    stdout::line(&if report.dry_run {
        format!("{} would be {done}.", jobs(report.matched))
    } else if report.changed == report.matched {
        format!("{} {done}.", jobs(report.changed))
    } else {
        format!("{} {done}; {} had moved on.", jobs(report.changed), jobs(report.matched - report.changed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_ids_or_a_filter_or_all() {
        let ids = [JobId::generate()];
        for (ids, is_filter_empty, all, is_good) in [
            (&ids[..], true, false, true),
            (&[], false, false, true),
            (&[], true, true, true),
            (&[], true, false, false),
            (&ids, false, false, false),
            (&ids, true, true, false),
            (&[], false, true, false),
        ] {
            assert_eq!(check_selection(ids, is_filter_empty, all, "cancel").is_ok(), is_good);
        }
    }
}
