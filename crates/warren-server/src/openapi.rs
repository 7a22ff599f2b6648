//! The OpenAPI document: what [`crate::routes`] lists, with what no handler has to say itself.
//!
//! Handlers describe what they take and what they answer when all is well. The failures, which
//! have one body everywhere, and the keys are added here to all of them.

use std::{collections::BTreeMap, sync::OnceLock};

use bytes::Bytes;
use serde_json::Value;
use utoipa::{
    IntoParams, OpenApi as _, PartialSchema,
    openapi::{
        Content, HeaderBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder,
        path::{HttpMethod, Operation, Parameter, ParameterBuilder, ParameterIn, PathItem},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use warren_api::{Code, ErrorBody, event, exec};

use crate::{
    extract::{ExecPath, SandboxPath},
    routes::Operations,
};

/// What every client must know before its first request.
const DESCRIPTION: &str = "\
Version 1 only grows: fields and routes may be added, none changes its meaning or goes away. An \
unknown field of a request, or an unknown parameter of a query, is an error; answers may have \
fields that a client does not know.

The server's own unix socket needs no key: the kernel says who calls. Over TCP every request needs \
one, but for those that say otherwise.

Every answer carries `x-request-id`, under which the server's log has what it says about the \
request. Every failure has the same body, `ErrorBody`: `code` is one of sixteen, `message` a sentence for \
people. Repeating a `POST` with the same `Idempotency-Key` is safe where the header is listed. \
Streams are JSON lines (`application/x-ndjson`), server-sent events (`text/event-stream`), or a \
WebSocket; each says so, and which schema one of its messages has.";

/// Parts that no operation names by itself.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Warren",
        version = "1",
        description = DESCRIPTION,
        license(name = "MIT", identifier = "MIT"),
    ),
    servers((url = "http://localhost:7423", description = "A server on this machine")),
    components(schemas(ErrorBody, event::Event, exec::ExecEvent, exec::ExecInput, exec::ExecRequest)),
    security(("bearer" = []), ("api_key" = [])),
    tags(
        (name = "sandboxes", description = "Machines: make, find, freeze, remove"),
        (name = "git", description = "Sandboxes whose work is a branch of a repository"),
        (name = "snapshots", description = "What sandboxes were, as a tree; forks, and going back"),
        (name = "exec", description = "Commands inside a sandbox"),
        (name = "ports", description = "What listens inside a sandbox, and streams to it"),
        (name = "network", description = "What a sandbox may reach, and why"),
        (name = "files", description = "Files inside a sandbox"),
        (name = "images", description = "What sandboxes are made from"),
        (name = "templates", description = "Named images with what belongs to them, and the builds that make them"),
        (name = "domains", description = "Names of one's own that lead to ports of sandboxes"),
        (name = "volumes", description = "Directories that outlive sandboxes, and their files"),
        (name = "secrets", description = "Values that sandboxes use and never see"),
        (name = "events", description = "What happens to sandboxes"),
        (name = "access", description = "Projects and API keys; for the user who runs the server, on its unix socket"),
        (name = "server", description = "The server itself"),
    ),
)]
struct Base;

/// The document of all routes, as JSON.
#[must_use]
pub fn document() -> Value {
    let mut document = serde_json::to_value(assemble()).unwrap_or_default();
    plain(&mut document);
    document
}

/// The document as it is served: made once.
pub(crate) fn served() -> Bytes {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    DOCUMENT.get_or_init(|| document().to_string().into()).clone()
}

/// Leaves out what only readers of the source can use: links of doc comments, and their sections.
fn plain(value: &mut Value) {
    match value {
        Value::String(text) => {
            let told = text.split_once("\n\n# ").map_or(text.as_str(), |(told, _)| told);
            *text = told.replace("[`", "`").replace("`]", "`");
        }
        Value::Array(parts) => parts.iter_mut().for_each(plain),
        Value::Object(parts) => parts.values_mut().for_each(plain),
        _ => {}
    }
}

fn assemble() -> OpenApi {
    let mut document = Base::openapi();
    document.merge(Operations::openapi());
    let components = document.components.get_or_insert_default();
    components.security_schemes.extend(security_schemes());
    for status in statuses().into_keys() {
        components.responses.insert(component(status), refusal(status).into());
    }
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            add_failures(path, &method, operation);
        }
    }
    document
}

fn security_schemes() -> [(String, SecurityScheme); 2] {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("wrn_ and 40 hexadecimal digits")
        .description(Some("An API key, as `warren key create` shows it"));
    let header = ApiKeyValue::with_description("X-API-Key", "The same key in a header of its own");
    [
        ("bearer".to_owned(), SecurityScheme::Http(bearer.build())),
        ("api_key".to_owned(), SecurityScheme::ApiKey(ApiKey::Header(header))),
    ]
}

/// The statuses that failures have, each with its codes.
fn statuses() -> BTreeMap<u16, Vec<Code>> {
    let mut statuses = BTreeMap::<u16, Vec<Code>>::new();
    // 499 is what a log shows of a caller who left: nobody receives it.
    for code in Code::ALL.into_iter().filter(|code| *code != Code::Canceled) {
        statuses.entry(code.http_status()).or_default().push(code);
    }
    statuses
}

fn component(status: u16) -> String {
    format!("Error{status}")
}

fn refusal(status: u16) -> Response {
    let codes = statuses().remove(&status).unwrap_or_default();
    let codes: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let response = ResponseBuilder::new()
        .description(codes.join(", "))
        .content("application/json", Content::new(Some(Ref::from_schema_name("ErrorBody"))));
    if status != 429 {
        return response.build();
    }
    let wait = HeaderBuilder::new()
        .schema(u64::schema())
        .description(Some("After how many seconds to ask again, where that is known"));
    response.header("Retry-After", wait.build()).build()
}

/// Adds the failures that an operation can have, where it does not describe them itself.
fn add_failures(path: &str, method: &HttpMethod, operation: &mut Operation) {
    // `security(())`: the list with one empty requirement.
    let open = operation.security.is_some();
    let changes = *method != HttpMethod::Get;
    let named = path.contains('{');
    for status in statuses().into_keys() {
        let possible = match status {
            401 | 403 => !open,
            404 => named,
            409 => named || changes,
            400 | 429 => !open || named,
            501 | 504 => named || changes,
            _ => true,
        };
        if possible {
            let reference = Ref::from_response_name(component(status));
            let responses = &mut operation.responses.responses;
            responses.entry(status.to_string()).or_insert(RefOr::Ref(reference));
        }
    }
}

/// The operations of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    use HttpMethod as M;
    [
        (M::Get, item.get.as_mut()),
        (M::Put, item.put.as_mut()),
        (M::Post, item.post.as_mut()),
        (M::Delete, item.delete.as_mut()),
        (M::Patch, item.patch.as_mut()),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation?)))
}

/// A parameter that is text.
pub(crate) fn text(name: &str, place: ParameterIn, description: &str) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(String::schema()))
}

impl IntoParams for SandboxPath {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![text("id", ParameterIn::Path, "The sandbox's id, or its name").build()]
    }
}

impl IntoParams for ExecPath {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = SandboxPath::into_params(place);
        parameters.push(text("exec_id", ParameterIn::Path, "The command's id").build());
        parameters
    }
}

/// `Idempotency-Key`, for operations that repeat safely with it.
pub(crate) struct IdempotencyKey;

impl IntoParams for IdempotencyKey {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let description = "1 to 128 visible ASCII characters, never used for another request: \
            the same key answers with the first result";
        let key = text("Idempotency-Key", ParameterIn::Header, description);
        vec![key.required(Required::False).build()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_from_the_codes() {
        let refusal = refusal(400);
        assert_eq!(
            refusal.description,
            "`invalid_argument`, `failed_precondition`, `out_of_range`"
        );
        assert!(!statuses().contains_key(&499));
    }

    #[test]
    fn what_is_served_has_no_links_of_doc_comments() {
        let text = String::from_utf8(served().to_vec()).unwrap();
        assert!(text.starts_with('{') && text.contains("\"openapi\":\"3.1.0\""));
        assert!(!text.contains("[`"));
    }
}
