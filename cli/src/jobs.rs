//! Jobs as commands show them: JSON as over REST, a table of many, the details of one.

use sluice_domain::JobId;
use sluice_scheduler::{BodyForm, SchedulerError, ShownJob};

use crate::{
    exit::{CliError, causes},
    table::{Table, one_line, printable},
    times,
};

/// The error for an id that leads nowhere.
pub fn no_such_job(id: JobId) -> CliError {
    CliError::usage(format!("there is no job {id}; `sluice list` shows what there is"))
}

impl From<SchedulerError> for CliError {
    fn from(error: SchedulerError) -> Self {
        match error {
            SchedulerError::Store(error) => error.into(),
            error => Self::unreachable(format!("failed to {}", causes(&error))),
        }
    }
}

/// A job's JSON without the body of its result.
pub fn json(job: &ShownJob) -> Vec<u8> {
    job.json(BodyForm::LeftOut)
}

/// A job's JSON with the body of its result, on one line.
pub fn json_with_body(job: &ShownJob) -> Vec<u8> {
    job.json(BodyForm::OneLine)
}

/// Many jobs, a row each.
pub fn table(jobs: &[ShownJob]) -> Table {
    let mut table = Table::new(&["ID", "STATE", "QUEUE", "MODEL", "PRIORITY", "TRIES", "CREATED", "ERROR"]);
    for ShownJob { job, .. } in jobs {
        table.row(vec![
            job.id.to_string(),
            job.state.to_string(),
            job.queue.to_string(),
            job.model.to_string(),
            job.priority.get().to_string(),
            job.tries.to_string(),
            times::shown(job.created_at),
            job.error.as_ref().map(|error| error.class.to_string()).unwrap_or_default(),
        ]);
    }
    table
}

/// One job with all that a person may want to know, its answer last.
pub fn details(shown: &ShownJob) -> String {
    let ShownJob { job, max_attempts, deferred_by } = shown;
    let mut lines = Vec::new();
    let mut add = |name: &str, value: String| lines.push(format!("{name:<12}{}", one_line(&value)));
    add("id", job.id.to_string());
    let reason = job.hold_reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    add("state", format!("{}{reason}", job.state));
    if let Some(deferred) = deferred_by {
        let until = deferred.until.map(|until| format!(" until {}", times::shown(until))).unwrap_or_default();
        add("waits for", format!("{}{until}", deferred.gate));
    }
    add("queue", format!("{}, priority {}", job.queue, job.priority.get()));
    add("call", format!("{} of {}", job.path, job.model));
    add("tries", format!("{} of {max_attempts}, generation {}", job.tries, job.generation));
    add("created", times::shown(job.created_at));
    for (name, time) in
        [("started", job.started_at), ("finished", job.finished_at), ("deadline", job.deadline)]
    {
        if let Some(time) = time {
            add(name, times::shown(time));
        }
    }
    if let Some(key) = &job.idempotency_key {
        add("key", key.to_string());
    }
    for (key, value) in job.tags.pairs() {
        add("tag", format!("{key}={value}"));
    }
    if let Some(error) = &job.error {
        add("error", format!("{}: {}", error.class, error.message));
    }
    if let Some(result) = &job.result {
        add("result", result_line(result));
        lines.push(String::new());
        lines.push(answer_text(&result.body));
    }
    lines.join("\n")
}

fn result_line(result: &sluice_domain::JobResult) -> String {
    let mut parts = vec![format!("status {}", result.status_code)];
    if let Some(usage) = &result.usage {
        parts.push(format!("{} tokens in, {} out", usage.input_tokens, usage.output_tokens));
    }
    parts.push(result.cost.to_string());
    parts.extend(result.duration_ms.map(|ms| format!("{ms} ms")));
    for (is_so, word) in [
        (result.is_cached, "cached"),
        (result.is_late, "late"),
        (result.is_assembled, "assembled from a stream"),
        (result.is_truncated, "cut: larger than is kept"),
    ] {
        parts.extend(is_so.then(|| word.to_owned()));
    }
    parts.join(", ")
}

/// The text of a chat or text completion, or else the body as it is.
fn answer_text(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let choice = json.as_ref().and_then(|json| json.pointer("/choices/0"));
    let text = choice.and_then(|choice| choice.pointer("/message/content").or_else(|| choice.get("text")));
    match text.and_then(serde_json::Value::as_str) {
        Some(text) => printable(text),
        None => printable(&String::from_utf8_lossy(body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_shown_as_text_and_anything_else_as_it_is() {
        assert_eq!(answer_text(br#"{"choices":[{"message":{"content":"Hi\u001b[2J"}}]}"#), "Hi\u{fffd}[2J");
        assert_eq!(answer_text(br#"{"choices":[{"text":"Hi"}]}"#), "Hi");
        assert_eq!(answer_text(br#"{"data":[1]}"#), r#"{"data":[1]}"#);
        assert_eq!(answer_text(b"\xff"), "\u{fffd}");
    }
}
