//! The OpenAPI 3.1 document: what is said about the whole API, and what all endpoints behind the keys have in common. What
//! is said of one endpoint stands beside its handler.

use utoipa::{
    OpenApi,
    openapi::{
        Components, OpenApi as Openapi, Ref, Response, ResponseBuilder,
        content::Content,
        path::{Operation, PathItem},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

/// What is said about the whole API.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sluice",
        description = "A durable queue for LLM API calls. Errors have OpenAI's shape, with a stable `code`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "openai", description = "OpenAI's API: the official clients work unchanged"),
        (name = "jobs", description = "Submit jobs, read them, act on them"),
        (name = "many jobs", description = "Act on all jobs that a filter means"),
        (name = "webhooks", description = "Who is told when jobs end"),
        (name = "lines", description = "Queues, upstreams, accounts, limits, budgets, workers"),
        (name = "server", description = "The server itself")
    )
)]
pub(super) struct Document;

/// Says of each endpoint that asks for a scope what it answers to those who don't have it.
pub(super) fn complete(document: &mut Openapi) {
    let description = "An API key (`sluice keys create`), or a token of an issuer that is configured. While no key was ever \
                       made, none is needed on a loopback address. The names beside it are scopes.";
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build();
    document
        .components
        .get_or_insert_with(Components::default)
        .add_security_scheme("api_key", SecurityScheme::Http(scheme));
    for (name, path) in &mut document.paths.paths {
        for operation in operations_of(path) {
            complete_operation(name, operation);
        }
    }
}

fn operations_of(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut path.get, &mut path.post, &mut path.put, &mut path.patch, &mut path.delete].into_iter().flatten()
}

fn complete_operation(path: &str, operation: &mut Operation) {
    let (is_open, has_body) = (operation.security.is_none(), operation.request_body.is_some());
    let mut add = |status: &str, description: &str| {
        let answers = &mut operation.responses.responses;
        answers.entry(status.to_owned()).or_insert_with(|| error(description).into());
    };
    if is_open {
        add("403", "The request comes from a foreign web page");
        return;
    }
    if path.contains('{') {
        add("400", "The path is not UTF-8 when it is decoded");
    }
    if has_body {
        add("400", "The body broke off");
        add("408", "The body did not come in time");
        add("413", "Too large");
    }
    add("401", "No key, or none that is valid");
    add("403", "The key may not do this, or the request comes from a foreign web page");
    add("503", "The database is away");
}

fn error(description: &str) -> Response {
    let body = Content::new(Some(Ref::from_schema_name("Error")));
    ResponseBuilder::new().description(description).content("application/json", body).build()
}
