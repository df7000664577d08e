//! Each endpoint of the OpenAPI document, as somebody finds it who has no key, has one with the wrong scope, or asks for
//! what belongs to another tenant. A new endpoint is tested here without anybody's doing.

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sluice_domain::{KeyRights, Scope};
use sluice_scheduler::openapi_json;

use crate::{
    files,
    fixture::{Fixture, answer, chat},
    keys::{Made, make_key, scopes},
    webhooks,
};

/// What is open to all: it holds nobody's data.
const OPEN: [&str; 4] = ["GET /", "GET /healthz", "GET /openapi.json", "GET /readyz"];

struct Endpoint {
    method: Method,
    path: String,
    /// The scopes that the document names.
    scopes: Vec<String>,
    statuses: Vec<String>,
}

impl Endpoint {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// A request with `id` in the place of an id, and a body that could be taken.
    fn request(&self, fixture: &Fixture, id: &str) -> RequestBuilder {
        let mut path = self.path.replace("{id}", id);
        for (name, value) in
            [("{queue}", "q"), ("{upstream}", "up"), ("{account}", "acc"), ("{model}", "deepseek-flash")]
        {
            path = path.replace(name, value);
        }
        assert!(!path.contains('{'), "{path}: say here what stands in its place");
        let request = fixture.client.request(self.method.clone(), format!("{}{path}", fixture.base));
        match self.path.as_str() {
            "/v1/jobs" | "/v1/jobs/bulk" if self.method == Method::POST => request.body(chat().to_string()),
            _ if self.method == Method::POST => request.body(json!({"filter": {}}).to_string()),
            _ => request,
        }
    }
}

fn endpoints() -> Vec<Endpoint> {
    let document: Value = serde_json::from_str(&openapi_json()).unwrap();
    assert!(document["components"]["securitySchemes"]["api_key"].is_object());
    let mut endpoints = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let scopes = operation["security"][0]["api_key"].as_array();
            endpoints.push(Endpoint {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                scopes: scopes.into_iter().flatten().map(|word| word.as_str().unwrap().to_owned()).collect(),
                statuses: operation["responses"].as_object().unwrap().keys().cloned().collect(),
            });
        }
    }
    endpoints
}

async fn refused(request: RequestBuilder, what: &str) -> (StatusCode, String) {
    let (status, body) = answer(request).await;
    let error = &body["error"];
    assert!(error["message"].is_string() && error["type"].is_string(), "{what}: {body}");
    (status, error["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn each_endpoint_is_open_by_name_or_names_a_scope_and_says_how_it_refuses() {
    for endpoint in endpoints() {
        let name = endpoint.name();
        if OPEN.contains(&name.as_str()) {
            assert!(endpoint.scopes.is_empty(), "{name}");
            continue;
        }
        assert_eq!(endpoint.scopes.len(), 1, "{name}");
        assert!(endpoint.scopes[0].parse::<Scope>().is_ok(), "{name}");
        for status in ["401", "403", "503"] {
            assert!(endpoint.statuses.iter().any(|known| known == status), "{name} lacks {status}");
        }
    }
}

/// The fields that a schema has, through references; `None` where it allows any.
fn fields_of<'a>(document: &'a Value, schema: &'a Value) -> Option<Vec<&'a str>> {
    if let Some(reference) = schema["$ref"].as_str() {
        return fields_of(document, &document["components"]["schemas"][reference.rsplit('/').next()?]);
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let parts: Option<Vec<_>> = parts.iter().map(|part| fields_of(document, part)).collect();
        return parts.map(|parts| parts.concat());
    }
    Some(schema["properties"].as_object()?.keys().map(String::as_str).collect())
}

#[test]
fn each_request_answer_and_parameter_has_an_example_of_fields_that_there_are() {
    let document: Value = serde_json::from_str(&openapi_json()).unwrap();
    let mut problems = Vec::new();
    let mut bodies = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let mut contents = vec![("request".to_owned(), &operation["requestBody"]["content"])];
            for (status, answer) in operation["responses"].as_object().unwrap() {
                contents.push((status.clone(), &answer["content"]));
            }
            for (what, content) in contents {
                for (kind, body) in content.as_object().into_iter().flatten() {
                    bodies += 1;
                    let example = &body["example"];
                    if example.is_null() {
                        problems.push(format!("{method} {path} {what} {kind} has no example"));
                    }
                    let Some(shown) = example.as_object() else { continue };
                    let Some(fields) = fields_of(&document, &body["schema"]) else { continue };
                    for name in shown.keys().filter(|name| !fields.contains(&name.as_str())) {
                        problems.push(format!("{method} {path} {what}: the example's {name} is no field"));
                    }
                }
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if parameter["example"].is_null() {
                    problems.push(format!("{method} {path}: {} has no example", parameter["name"]));
                }
            }
        }
    }
    assert!(bodies > 100, "{bodies}");
    assert!(problems.is_empty(), "{problems:#?}");
}

#[tokio::test]
async fn each_endpoint_asks_for_a_key_and_for_its_scope() {
    let fixture = Fixture::new().await;
    let id = fixture.submit(&chat()).await;
    let mut keys: Vec<(Scope, Made)> = Vec::new();
    for scope in Scope::ALL {
        keys.push((scope, make_key(&fixture.store, "default", scopes(&[scope])).await));
    }
    // The first answer without a key may have been remembered for some seconds.
    sluice_testkit::wait_until("keys to be asked for", std::time::Duration::from_secs(20), async || {
        answer(fixture.get("/v1/jobs")).await.0 == StatusCode::UNAUTHORIZED
    })
    .await;
    for endpoint in endpoints() {
        let name = endpoint.name();
        if OPEN.contains(&name.as_str()) {
            let status = endpoint.request(&fixture, &id).send().await.unwrap().status();
            assert_eq!(status, StatusCode::OK, "{name}");
            continue;
        }
        let without = refused(endpoint.request(&fixture, &id), &name).await;
        assert_eq!(without, (StatusCode::UNAUTHORIZED, "missing_api_key".to_owned()), "{name}");
        for (scope, made) in &keys {
            if *scope == Scope::Admin || endpoint.scopes[0] == scope.as_str() {
                continue;
            }
            let wrong = refused(made.of(endpoint.request(&fixture, &id)), &name).await;
            assert_eq!(wrong, (StatusCode::FORBIDDEN, "insufficient_scope".to_owned()), "{name} {scope}");
        }
    }
}

#[tokio::test]
async fn each_endpoint_with_an_id_knows_nothing_of_another_tenant() {
    let fixture = Fixture::new().await;
    let job = fixture.submit(&chat()).await;
    let file = files::send(&fixture, b"{}\n").await;
    let batch =
        json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    let (_, batch) = fixture.post_json("/v1/batches", &batch).await;
    let batch = batch["id"].as_str().unwrap().to_owned();
    let webhook = webhooks::ended_with_webhook(&fixture).await;
    let other = make_key(&fixture.store, "other", KeyRights::all()).await;
    let with_id: Vec<Endpoint> = endpoints().into_iter().filter(|one| one.path.contains("{id}")).collect();
    assert!(with_id.len() >= 8);
    for endpoint in with_id {
        let name = endpoint.name();
        let (object, id) = match endpoint.path.split('/').nth(2) {
            Some("files") => ("file", &file),
            Some("batches") => ("batch", &batch),
            Some("webhooks") => ("webhook", &webhook),
            _ => ("job", &job),
        };
        let unknown = refused(other.of(endpoint.request(&fixture, id)), &name).await;
        assert_eq!(unknown, (StatusCode::NOT_FOUND, format!("{object}_not_found")), "{name}");
        // As for what is no id at all, so that nobody learns which ids there are.
        let nonsense = refused(other.of(endpoint.request(&fixture, "nonsense")), &name).await;
        assert_eq!(nonsense, unknown, "{name}");
    }
}
