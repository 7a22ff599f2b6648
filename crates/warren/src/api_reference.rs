//! `docs/openapi.json` and `docs/api.md`, as the server's routes say them.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

const HEAD: &str = "\
# API

<!-- Generated from the OpenAPI document, which is made from crates/warren-server/src/routes.rs.
     To write it anew: UPDATE=1 cargo test -p warren api_ -->

";

const CURL: &str = "\
The same, for programs, is [openapi.json](openapi.json), and every server serves its own at `/v1/openapi.json`.

In the examples `$WARREN_SERVER` is an address such as `https://warren.example:7423`. On the server's own machine its
unix socket needs no key: `curl --unix-socket SOCKET http://localhost/v1/...`; `warren version --json`
shows its path as `socket`.
";

/// The page for people.
fn page(document: &Value) -> String {
    let mut page = format!("{HEAD}{}\n\n{CURL}", text(&document["info"]["description"]));
    for tag in list(&document["tags"]) {
        let description = text(&tag["description"]);
        write!(page, "\n## {}\n\n{description}.\n", text(&tag["name"])).unwrap();
        for (path, item) in object(&document["paths"]) {
            for (method, operation) in object(item) {
                if operation["tags"][0] == tag["name"] {
                    page.push_str(&describe(document, method, path, operation));
                }
            }
        }
    }
    page.push_str(
        "\n## Types\n\nA field that is not required may be left out, or be `null` in a request.\n",
    );
    for (name, schema) in object(&document["components"]["schemas"]) {
        page.push_str(&type_of(name, schema));
    }
    page
}

fn describe(document: &Value, method: &str, path: &str, operation: &Value) -> String {
    let mut part =
        format!("\n### {} `{path}`\n\n{}.\n", method.to_uppercase(), text(&operation["summary"]));
    if let Some(more) = operation["description"].as_str() {
        write!(part, "\n{more}\n").unwrap();
    }
    let parameters = list(&operation["parameters"]);
    if !parameters.is_empty() {
        part.push_str("\n| parameter | in | type | |\n|---|---|---|---|\n");
    }
    for parameter in parameters {
        let required = if parameter["required"] == true { "Required. " } else { "" };
        let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
        let (kind, words) = (kind(&parameter["schema"]), cell(&parameter["description"]));
        writeln!(part, "| `{name}` | {place} | {kind} | {required}{words} |").unwrap();
    }
    for (media, content) in object(&operation["requestBody"]["content"]) {
        write!(part, "\nBody: {}, as `{media}`.\n", kind(&content["schema"])).unwrap();
    }
    part.push_str(&answers(operation));
    if operation["security"] == json!([{}]) {
        part.push_str("\nNeeds no key.\n");
    }
    if operation["responses"]["101"].is_object() {
        part.push_str("\nAsked for by a client that upgrades its connection.\n");
    } else {
        write!(part, "\n```sh\n{}\n```\n", curl(document, method, path, operation)).unwrap();
    }
    part
}

/// Successes one by one, failures in a line.
fn answers(operation: &Value) -> String {
    let mut part = "\n| answer | body | |\n|---|---|---|\n".to_owned();
    let mut failures = Vec::new();
    for (status, response) in object(&operation["responses"]) {
        if status.as_str() >= "400" {
            failures.push(status.as_str());
            continue;
        }
        let bodies: Vec<String> = object(&response["content"])
            .iter()
            .map(|(media, content)| format!("{}, `{media}`", kind(&content["schema"])))
            .collect();
        let words = cell(&response["description"]);
        writeln!(part, "| {status} | {} | {words} |", bodies.join("; ")).unwrap();
    }
    write!(part, "\nFailures: {}, with [`ErrorBody`](#errorbody).\n", failures.join(", ")).unwrap();
    part
}

/// A line for a shell that asks for it.
fn curl(document: &Value, method: &str, path: &str, operation: &Value) -> String {
    let mut target = path.replace("{id}", "$ID").replace("{exec_id}", "$EXEC_ID");
    while let Some((before, (name, after))) =
        target.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    {
        target = format!("{before}${}{after}", name.to_uppercase());
    }
    let needed: Vec<String> = list(&operation["parameters"])
        .iter()
        .filter(|parameter| parameter["in"] == "query" && parameter["required"] == true)
        .map(|parameter| {
            let name = text(&parameter["name"]);
            format!("{name}={}", parameter["example"].as_str().unwrap_or("/tmp/notes"))
        })
        .collect();
    if !needed.is_empty() {
        target = format!("{target}?{}", needed.join("&"));
    }
    let mut line = "curl -sS".to_owned();
    if method != "get" {
        write!(line, " -X {}", method.to_uppercase()).unwrap();
    }
    if object(&operation["responses"])
        .iter()
        .any(|(_, it)| !it["content"]["text/event-stream"].is_null())
    {
        line.push_str(" -N");
    }
    write!(line, " \"$WARREN_SERVER{target}\"").unwrap();
    if operation["security"] != json!([{}]) {
        line.push_str(" \\\n  -H \"Authorization: Bearer $WARREN_API_KEY\"");
    }
    let body = &operation["requestBody"]["content"];
    if let Some(content) = body.get("application/json") {
        write!(line, " \\\n  --json '{}'", example(document, &content["schema"], 0)).unwrap();
    } else if body.is_object() {
        line.push_str(" \\\n  --data-binary @FILE");
    }
    line
}

/// A small value of a type: its example, or what it requires.
fn example(document: &Value, schema: &Value, depth: usize) -> Value {
    assert!(depth < 8, "a type within itself needs an example: {schema}");
    if let Some(example) = schema.get("example") {
        return example.clone();
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let named = document.pointer(reference.trim_start_matches('#'));
        return example(document, named.expect("the reference leads somewhere"), depth + 1);
    }
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("string") => json!("TEXT"),
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        Some("array") => json!([example(document, &schema["items"], depth + 1)]),
        _ => {
            let mut value = Map::new();
            for name in list(&schema["required"]) {
                let of = &schema["properties"][text(name)];
                value.insert(text(name).to_owned(), example(document, of, depth + 1));
            }
            Value::Object(value)
        }
    }
}

/// A type's heading, words and fields.
fn type_of(name: &str, schema: &Value) -> String {
    let mut part = format!("\n### {name}\n\n");
    if let Some(words) = schema["description"].as_str() {
        write!(part, "{words}\n\n").unwrap();
    }
    let variants = list(&schema["oneOf"]);
    let plain = variants.is_empty() && schema["allOf"].is_null();
    if plain && !schema["properties"].is_object() {
        writeln!(part, "{}.", kind(schema)).unwrap();
        return part;
    }
    for variant in variants {
        let words = variant["description"].as_str().unwrap_or_default();
        writeln!(part, "- {}: {words}", kind(variant)).unwrap();
    }
    let parts = if schema["allOf"].is_array() {
        list(&schema["allOf"])
    } else {
        std::slice::from_ref(schema)
    };
    for schema in parts {
        if let Some(reference) = schema["$ref"].as_str() {
            write!(part, "All of {}, and:\n\n", link(reference)).unwrap();
        }
        part.push_str(&fields(schema));
    }
    part
}

fn fields(schema: &Value) -> String {
    let Some(properties) = schema["properties"].as_object() else { return String::new() };
    let mut part = "| field | type | |\n|---|---|---|\n".to_owned();
    for (name, field) in properties {
        let required = list(&schema["required"]).iter().any(|it| it == name.as_str());
        let required = if required { "Required. " } else { "" };
        // One that may be null has its words at the other half.
        let halves = std::iter::once(field).chain(list(&field["oneOf"]));
        let words = halves.map(|half| cell(&half["description"])).find(|it| !it.is_empty());
        let words = words.unwrap_or_default();
        writeln!(part, "| `{name}` | {} | {required}{words} |", kind(field)).unwrap();
    }
    part
}

/// A type in a few words.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        return link(reference);
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(|it| format!("`{}`", text(it))).collect();
        return values.join(", ");
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        if let Some(parts) = schema[key].as_array() {
            let known = parts.iter().filter(|part| part["type"] != "null");
            let joint = if key == "allOf" { " with " } else { " or " };
            return known.map(kind).collect::<Vec<_>>().join(joint);
        }
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().map(text).find(|it| *it != "null").unwrap_or("any"),
        Value::String(one) => one,
        _ => "any",
    };
    match types {
        "array" if schema["items"]["minimum"] == 0 && schema["items"]["format"] == "int32" => {
            "bytes".to_owned()
        }
        "array" => format!("array of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {}", kind(&schema["additionalProperties"]))
        }
        "object" if schema["properties"].is_object() => {
            let of = |(name, it): (&String, &Value)| format!("`{name}`: {}", kind(it));
            object(&schema["properties"]).into_iter().map(of).collect::<Vec<_>>().join(", ")
        }
        other => match schema["format"].as_str() {
            Some(format) if other == "string" => format!("string ({format})"),
            _ => other.to_owned(),
        },
    }
}

fn link(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or_default();
    format!("[`{name}`](#{})", name.to_lowercase())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Text for a cell of a table.
fn cell(value: &Value) -> String {
    text(value).replace('\n', " ").replace('|', "\\|")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn object(value: &Value) -> Vec<(&String, &Value)> {
    value.as_object().map(|it| it.iter().collect()).unwrap_or_default()
}

#[test]
fn api_description_page_is_what_the_routes_say() {
    let document = warren_server::openapi::document();
    let mut text = serde_json::to_string_pretty(&document).unwrap();
    text.push('\n');
    crate::golden::check(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json"), &text);
}

#[test]
fn api_page_is_what_the_document_says() {
    let page = page(&warren_server::openapi::document());
    crate::golden::check(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api.md"), &page);
}
