//! Damage to the values of an answer, while it is still JSON: what comes out is well formed.

use serde_json::{Value, json};

use crate::{
    fault::FaultKind,
    shape::{Event, Good},
};

/// Changes the answer as `kind` says; kinds that are no damage to values change nothing.
pub(super) fn damage(good: &mut Good, kind: FaultKind) {
    match kind {
        FaultKind::UsageMissing => each(good, &mut |json| {
            json.as_object_mut().map(|object| object.shift_remove("usage"));
        }),
        FaultKind::UsageNegative => set_usage(good, &json!(-7)),
        FaultKind::UsageHuge => set_usage(good, &json!(1e20)),
        FaultKind::WrongType => each(good, &mut wrong_type),
        FaultKind::Nul => first_text(good, |text| format!("\0{text}\0")),
        FaultKind::InsufficientSystemResource => end_early(good, "insufficient_system_resource"),
        FaultKind::ContentFilter => end_early(good, "content_filter"),
        FaultKind::EmptyStop => say_only(good, ""),
        FaultKind::BlankJson => say_only(good, " \n\n\t \n"),
        _ => {}
    }
}

fn each(good: &mut Good, change: &mut dyn FnMut(&mut Value)) {
    match good {
        Good::Plain(json) => change(json),
        Good::Stream(events) => events.iter_mut().for_each(|event| change(&mut event.json)),
    }
}

fn set_usage(good: &mut Good, number: &Value) {
    each(good, &mut |json| {
        let Some(usage) = json.get_mut("usage").and_then(Value::as_object_mut) else { return };
        for value in usage.values_mut().filter(|value| value.is_number()) {
            *value = number.clone();
        }
    });
}

fn wrong_type(json: &mut Value) {
    let field = if json.get("choices").is_some() { "choices" } else { "data" };
    json[field] = json!("not an array");
    if json.get("usage").is_some() {
        json["usage"] = json!(["many"]);
    }
}

/// The texts of a choice, wherever its shape keeps them.
fn texts_of(choice: &mut Value) -> Vec<&mut Value> {
    let mut texts = Vec::new();
    let Some(choice) = choice.as_object_mut() else { return texts };
    for (name, value) in choice {
        match (name.as_str(), value) {
            ("text", text) => texts.push(text),
            ("message" | "delta", Value::Object(message)) => {
                texts.extend(message.iter_mut().filter(|(name, _)| *name == "content").map(|(_, text)| text));
            }
            _ => {}
        }
    }
    texts
}

fn choices_of(json: &mut Value) -> impl Iterator<Item = &mut Value> {
    json.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten()
}

/// Changes the first text that isn't empty.
fn first_text(good: &mut Good, change: impl Fn(&str) -> String) {
    let mut is_done = false;
    each(good, &mut |json| {
        for choice in choices_of(json) {
            for text in texts_of(choice) {
                if let Some(old) = text.as_str().filter(|old| !old.is_empty() && !is_done) {
                    *text = change(old).into();
                    is_done = true;
                }
            }
        }
    });
}

fn set_finish(json: &mut Value, reason: &str) {
    for choice in choices_of(json) {
        if let Some(finish) = choice.get_mut("finish_reason").filter(|finish| finish.is_string()) {
            *finish = reason.into();
        }
    }
}

/// Half of the text, and this reason.
fn end_early(good: &mut Good, reason: &str) {
    match good {
        Good::Plain(json) => {
            for choice in choices_of(json) {
                for text in texts_of(choice) {
                    let kept =
                        text.as_str().map(|text| text.chars().take(text.len() / 2).collect::<String>());
                    *text = kept.unwrap_or_default().into();
                }
            }
        }
        Good::Stream(events) => {
            let carrying = events.iter().filter(|event| event.tokens > 0).count();
            let mut seen = 0;
            events.retain(|event| {
                seen += usize::from(event.tokens > 0);
                event.tokens == 0 || seen <= carrying / 2
            });
        }
    }
    each(good, &mut |json| set_finish(json, reason));
}

/// Nothing but `text`, and a `stop`.
fn say_only(good: &mut Good, text: &str) {
    if let Good::Stream(events) = good {
        keep_frame_of_stream(events);
    }
    each(good, &mut |json| {
        set_finish(json, "stop");
        for choice in choices_of(json) {
            for old in texts_of(choice) {
                *old = text.into();
            }
            if let Some(message) = choice.get_mut("message").and_then(Value::as_object_mut) {
                message.shift_remove("reasoning_content");
            }
        }
    });
}

/// Drops the chunks that carry text and no finish reason.
fn keep_frame_of_stream(events: &mut Vec<Event>) {
    events.retain(|event| {
        let finish = event.json.pointer("/choices/0/finish_reason");
        event.tokens == 0 || finish.is_some_and(Value::is_string)
    });
}
