//! `docs/openapi.json`, as the server's routes say it.

#[test]
fn api_document_is_what_the_routes_say() {
    let document = warren_server::openapi::document();
    let mut text = serde_json::to_string_pretty(&document).unwrap();
    text.push('\n');
    crate::golden::check(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json"), &text);
}
