//! Examples in the OpenAPI document. What has one of its own, beside its handler or its field, keeps it; all else gets one from
//! its schema, and errors from the very constructors that the endpoints refuse with. So none is forgotten, and none shows a
//! field that is not there.

use http::StatusCode;
use serde_json::{Map, Value, json};
use sluice_domain::Scope;

use super::ApiError;
use crate::{
    InvalidInput,
    access::{missing_key, missing_scope},
};

/// One job and one time stand in all examples.
const JOB_ID: &str = "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
const TIME: &str = "2026-10-01T12:00:00.000000Z";
/// Schemas that contain themselves end here.
const MOST_DEPTH: usize = 12;

/// Completes a document.
pub(super) fn add_examples(document: &mut Value) {
    let schemas = Schemas(document["components"]["schemas"].clone());
    let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) else { return };
    for (path, operations) in paths {
        for operation in operations.as_object_mut().into_iter().flat_map(Map::values_mut) {
            schemas.complete_operation(path, operation);
        }
    }
}

struct Schemas(Value);

impl Schemas {
    fn complete_operation(&self, path: &str, operation: &mut Value) {
        // Not by indexing, which would add what is missing.
        if let Some(content) = operation.pointer_mut("/requestBody/content").and_then(Value::as_object_mut) {
            self.complete_content(content, |_| None);
        }
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten() {
            self.complete_parameter(path, parameter);
        }
        let Some(answers) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
        for (status, answer) in answers {
            let Some(content) = answer.get_mut("content").and_then(Value::as_object_mut) else { continue };
            self.complete_content(content, |schema| {
                let is_error = schema["$ref"] == "#/components/schemas/Error";
                is_error.then(|| error_example(path, status.parse().unwrap_or_default()))
            });
        }
    }

    fn complete_content(&self, content: &mut Map<String, Value>, known: impl Fn(&Value) -> Option<Value>) {
        for (kind, body) in content {
            let Some(body) = body.as_object_mut() else { continue };
            if body.contains_key("example") || body.contains_key("examples") {
                continue;
            }
            let schema = body.get("schema").cloned().unwrap_or_default();
            let example = known(&schema).unwrap_or_else(|| match kind.as_str() {
                "text/event-stream" => json!("data: {}\n\n"),
                "application/octet-stream" => json!("{\"custom_id\":\"1\"}\n"),
                "text/html" => json!("<!doctype html><title>Sluice</title>"),
                _ => self.example_of("ok", &schema, 0),
            });
            body.insert("example".to_owned(), example);
        }
    }

    fn complete_parameter(&self, path: &str, parameter: &mut Value) {
        let name = parameter["name"].as_str().unwrap_or_default().to_owned();
        let Some(fields) = parameter.as_object_mut() else { return };
        if fields.contains_key("example") || fields.contains_key("examples") {
            return;
        }
        let schema = fields.get("schema").cloned().unwrap_or_default();
        fields.insert("example".to_owned(), self.parameter_example(path, &name, &schema));
    }

    fn parameter_example(&self, path: &str, name: &str, schema: &Value) -> Value {
        let of_files = "file-0199a1b2c3d47e5f8a9b0c1d2e3f4a5b";
        let of_batches = "batch_0199a1b2c3d47e5f8a9b0c1d2e3f4a5b";
        match name {
            "id" | "after" if path.starts_with("/v1/files") => of_files.into(),
            "id" | "after" if path.starts_with("/v1/batches") => of_batches.into(),
            "id" | "after" | "job" => JOB_ID.into(),
            "queue" | "x-sluice-queue" => "default".into(),
            "state" if path == "/v1/webhooks" => "failed".into(),
            "state" => "succeeded".into(),
            "model" => "deepseek-flash".into(),
            "upstream" => "deepseek-us".into(),
            "account" => "main".into(),
            "error_class" => "rate_limited".into(),
            "wait" => "30s".into(),
            "order" => "desc".into(),
            "purpose" => "batch".into(),
            "limit" => 20.into(),
            "created_after" | "created_before" => TIME.into(),
            "tag.{key}" | "x-sluice-tag-NAME" => "search".into(),
            "Idempotency-Key" => "order-17".into(),
            "x-sluice-priority" => 4.into(),
            "x-sluice-deadline" => "10m".into(),
            "x-sluice-max-attempts" => 3.into(),
            "x-sluice-on-unknown" => "hold".into(),
            "Last-Event-ID" => format!("{JOB_ID}/1/0").into(),
            _ => self.example_of(name, schema, 0),
        }
    }

    /// A value that a schema allows: what its fields say, and else the plainest. `name`: of the field.
    fn example_of(&self, name: &str, schema: &Value, depth: usize) -> Value {
        let own = ["example", "default", "const"].iter().find_map(|key| schema.get(*key));
        let own = own.or_else(|| schema["examples"].get(0)).or_else(|| schema["enum"].get(0));
        if let Some(own) = own {
            return own.clone();
        }
        if depth > MOST_DEPTH {
            return Value::Null;
        }
        if let Some(reference) = schema["$ref"].as_str() {
            let target = reference.rsplit('/').next().unwrap_or_default();
            return self.example_of(name, &self.0[target], depth + 1);
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let mut all = Map::new();
            for part in parts {
                if let Value::Object(fields) = self.example_of(name, part, depth + 1) {
                    all.extend(fields);
                }
            }
            return Value::Object(all);
        }
        if let Some(either) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
            // What may be absent is, so that no example shows a job that both failed and succeeded.
            let absent = either.iter().find(|one| one["type"] == "null");
            return absent
                .or(either.first())
                .map_or(Value::Null, |one| self.example_of(name, one, depth + 1));
        }
        match &schema["type"] {
            Value::Array(_) => Value::Null,
            Value::String(kind) => self.example_of_kind(kind, name, schema, depth),
            _ => json!({}),
        }
    }

    fn example_of_kind(&self, kind: &str, name: &str, schema: &Value, depth: usize) -> Value {
        match kind {
            "null" => Value::Null,
            "boolean" => false.into(),
            "integer" => schema.get("minimum").cloned().unwrap_or_else(|| 1.into()),
            "number" => 1.5.into(),
            "array" => json!([self.example_of(name, &schema["items"], depth + 1)]),
            "object" => {
                let fields = schema["properties"].as_object().into_iter().flatten();
                let fields =
                    fields.map(|(name, field)| (name.clone(), self.example_of(name, field, depth + 1)));
                Value::Object(fields.collect())
            }
            _ => match schema["format"].as_str() {
                Some("uuid") => JOB_ID.into(),
                Some("date-time") => TIME.into(),
                _ => said_always(schema).unwrap_or(name).into(),
            },
        }
    }
}

/// What a field says of itself: "Always `list`."
fn said_always(schema: &Value) -> Option<&str> {
    let rest = schema["description"].as_str()?.strip_prefix("Always `")?;
    rest.split('`').next()
}

/// A refusal as endpoints of this path make it.
fn error_example(path: &str, status: u16) -> Value {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let unknown = |code, message| ApiError::new(StatusCode::NOT_FOUND, code, message);
    let error: ApiError = match status {
        StatusCode::BAD_REQUEST => {
            InvalidInput::malformed("not_an_object", "the text must be one JSON object").into()
        }
        StatusCode::UNAUTHORIZED => missing_key(),
        StatusCode::FORBIDDEN => missing_scope(Scope::Read),
        StatusCode::NOT_FOUND => match path.split('/').nth(2) {
            Some("files") => unknown("file_not_found", "there is no such file"),
            Some("batches") => unknown("batch_not_found", "there is no such batch"),
            Some("webhooks") => unknown("webhook_not_found", "there is no such webhook"),
            Some("jobs") => ApiError::job_not_found(),
            Some("upstreams") => unknown("upstream_not_found", "there is no such upstream"),
            Some("accounts") => unknown("account_not_found", "there is no such account"),
            _ => unknown("model_not_found", "no route has this model"),
        },
        StatusCode::CONFLICT => ApiError::not_possible("the job has not ended; only ended jobs are replayed"),
        StatusCode::UNPROCESSABLE_ENTITY => {
            InvalidInput::value("/priority", "priority must be a whole number from 1 to 5").into()
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(status, "request_too_large", "the request is too large")
        }
        StatusCode::TOO_MANY_REQUESTS => {
            ApiError::new(status, "rate_limit_exceeded", "the key's rate is used up; try again after 1 s")
        }
        StatusCode::REQUEST_TIMEOUT => {
            ApiError::new(status, "request_timeout", "the request's body did not come in time")
        }
        StatusCode::SERVICE_UNAVAILABLE => ApiError::database_unavailable(),
        StatusCode::BAD_GATEWAY => {
            ApiError::new(status, "server_error", "the provider's answers could not be used")
        }
        StatusCode::GATEWAY_TIMEOUT => ApiError::new(status, "call_timeout", "no answer came in time"),
        _ => ApiError::internal(),
    };
    // It is made of strings.
    serde_json::to_value(error.body()).expect("an error is serialisable")
}
