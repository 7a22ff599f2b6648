//! The OpenAPI document against the routes, and against its own rules.

use std::collections::BTreeSet;

use serde_json::Value;
use warren_server::routes::ROUTES;

use crate::app::TestApp;

async fn document() -> Value {
    TestApp::start().await.as_stranger().get("/v1/openapi.json").await.expect(200)
}

/// Every operation: method, path, what is said of it.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
        })
        .collect()
}

#[tokio::test]
async fn every_route_is_in_the_document_and_nothing_else() {
    let document = document().await;
    let described = operations(&document);
    let missing: Vec<_> = ROUTES
        .iter()
        .filter(|(method, path, name)| {
            let found = described.iter().find(|(known, at, _)| known == method && at == path);
            found.is_none_or(|(.., operation)| operation["operationId"] != *name)
        })
        .collect();
    assert!(missing.is_empty(), "the #[utoipa::path] of these says something else: {missing:?}");
    assert_eq!(described.len(), ROUTES.len(), "an operation is described at no route");
}

#[tokio::test]
async fn every_operation_says_what_it_answers() {
    let document = document().await;
    for (method, path, operation) in operations(&document) {
        let responses = operation["responses"].as_object().unwrap();
        let has = |first: char| responses.keys().any(|status| status.starts_with(first));
        assert!(has('2') || responses.contains_key("101"), "{method} {path}: no success");
        assert!(responses.contains_key("500"), "{method} {path}: no failures");
        let open = operation["security"] == serde_json::json!([{}]);
        assert_ne!(responses.contains_key("401"), open, "{method} {path}: 401");
        assert!(responses.contains_key("404") || !path.contains('{'), "{method} {path}: 404");
        let tags = operation["tags"].as_array().unwrap();
        assert_eq!(tags.len(), 1, "{method} {path}: one tag");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.ends_with('.')));
    }
}

#[tokio::test]
async fn every_place_in_a_path_is_a_parameter() {
    let document = document().await;
    for (method, path, operation) in operations(&document) {
        let places: BTreeSet<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let empty = Vec::new();
        let parameters = operation["parameters"].as_array().unwrap_or(&empty);
        let named: BTreeSet<&str> = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(named, places, "{method} {path}");
        let all: BTreeSet<_> = parameters
            .iter()
            .map(|it| (it["in"].as_str(), &it["name"]))
            .map(|(place, name)| format!("{place:?} {name}"))
            .collect();
        assert_eq!(all.len(), parameters.len(), "{method} {path}: a parameter twice");
        for parameter in parameters {
            assert!(parameter["description"].is_string(), "{method} {path}: {parameter}");
        }
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere_and_every_name_is_there_once() {
    let document = document().await;
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 100);
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let ids: BTreeSet<_> =
        operations(&document).iter().map(|(.., it)| it["operationId"].to_string()).collect();
    assert_eq!(ids.len(), ROUTES.len());
    let known: BTreeSet<_> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].to_string()).collect();
    let used: BTreeSet<_> =
        operations(&document).iter().map(|(.., it)| it["tags"][0].to_string()).collect();
    assert_eq!(used, known, "tags are listed in crates/warren-server/src/openapi.rs");
}

/// Every text that refers to a part of the document.
fn collect<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) if text.starts_with("#/") => found.push(text),
        Value::Array(parts) => parts.iter().for_each(|part| collect(part, found)),
        Value::Object(parts) => parts.values().for_each(|part| collect(part, found)),
        _ => {}
    }
}

#[tokio::test]
async fn a_described_query_is_the_one_that_is_read() {
    let app = TestApp::start().await;
    let document = document().await;
    for (method, path, operation) in operations(&document) {
        let empty = Vec::new();
        let parameters = operation["parameters"].as_array().unwrap_or(&empty).iter();
        let names: Vec<&str> = parameters
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        if names.is_empty() {
            continue;
        }
        // Nobody's sandbox: what is asked reaches the parameters and no further.
        let method = method.to_uppercase();
        let target = path.replace("{id}", "nobodys").replace("{exec_id}", "ex-aaaaaaaaaaaaaaaa");
        for name in &names {
            let needed = ["path", "to"].iter().filter(|it| names.contains(*it) && *it != name);
            let rest: String = needed.map(|it| format!("&{it}=a")).collect();
            let answer = app.ask(&method, &format!("{target}?{name}=%00{rest}"), "").await;
            let text = String::from_utf8_lossy(&answer.body);
            assert!(
                !text.contains("not a parameter"),
                "{method} {path} does not read {name}: {text}"
            );
        }
        let needed = ["path", "to"].iter().filter(|it| names.contains(*it));
        let required: String = needed.map(|it| format!("{it}=a&")).collect();
        let answer = app.ask(&method, &format!("{target}?{required}no-such=1"), "").await;
        let message = answer.refused(400, "invalid_argument");
        assert!(message.contains("no-such"), "{method} {path}: {message}");
    }
}
