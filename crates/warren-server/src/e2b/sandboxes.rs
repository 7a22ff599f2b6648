//! Sandboxes: made, shown, killed.

use std::time::Instant;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use ring::digest;
use warren_api::{Code, IDEMPOTENCY_KEY};
use warren_core::{Caller, sandbox::Made};

use super::{
    Refusal,
    extract::{Body, Came, Id, Team},
    life,
    shape::{self, Detail, Opened},
    wanted::{self, NewSandbox, Version},
};
use crate::{app::App, edge::CameBy};

/// Says that the server is there.
pub(super) async fn health() -> StatusCode {
    StatusCode::NO_CONTENT
}

pub(super) async fn create_v1(
    State(app): State<App>,
    Team(caller): Team,
    Came(came): Came,
    headers: HeaderMap,
    Body(request): Body<NewSandbox>,
) -> Result<(StatusCode, Json<Opened>), Refusal> {
    create(&app, (&caller, came), &headers, (request, Version::One)).await
}

pub(super) async fn create_v2(
    State(app): State<App>,
    Team(caller): Team,
    Came(came): Came,
    headers: HeaderMap,
    Body(request): Body<NewSandbox>,
) -> Result<(StatusCode, Json<Opened>), Refusal> {
    create(&app, (&caller, came), &headers, (request, Version::Two)).await
}

async fn create(
    app: &App,
    (caller, came): (&Caller, Option<CameBy>),
    headers: &HeaderMap,
    (request, version): (NewSandbox, Version),
) -> Result<(StatusCode, Json<Opened>), Refusal> {
    let began = Instant::now();
    let made = make(app, caller, headers, (request, version)).await;
    let outcome = made.as_ref().map(drop);
    let outcome = outcome.map_err(|refusal| Code::from_http_status(refusal.status().as_u16()));
    app.metrics().created(began.elapsed(), outcome);
    let sandbox = made?.sandbox;
    app.samples().follow(app, caller, Some(sandbox.id));
    Ok((StatusCode::CREATED, Json(shape::opened(app, caller, came, &sandbox))))
}

async fn make(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    (request, version): (NewSandbox, Version),
) -> Result<Made, Refusal> {
    let key = idempotency_key(headers)?;
    let wanted = wanted::wanted(app, caller, request, version)?;
    Ok(app.sandboxes.create(caller, wanted, key.as_deref()).await?)
}

/// The key of a request that may be repeated, in the form that core has: theirs are longer.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let bytes = key.as_bytes();
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    if !(1..=255).contains(&bytes.len()) || !bytes.iter().all(good) {
        let message = "Idempotency-Key: expected 1 to 255 letters, digits and hyphens";
        return Err(Refusal::bad(message));
    }
    let hash = digest::digest(&digest::SHA256, bytes);
    let digits = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
    Ok(Some(digits.fold("e2b-".to_owned(), |text, digits| text + &digits)))
}

pub(super) async fn detail(
    State(app): State<App>,
    Team(caller): Team,
    Came(came): Came,
    Id(id): Id,
) -> Result<Json<Detail>, Refusal> {
    let sandbox = life::find(&app, &caller, id)?;
    let state = shape::seen_as(&sandbox).ok_or_else(|| Refusal::no_sandbox(id))?;
    Ok(Json(shape::detail(&app, (&caller, came), &sandbox, state)))
}

/// Removes a sandbox, a paused one with all that was kept of it.
pub(super) async fn kill(
    State(app): State<App>,
    Team(caller): Team,
    Id(id): Id,
) -> Result<StatusCode, Refusal> {
    life::find(&app, &caller, id)?;
    app.sandboxes.delete(&caller, id.as_str()).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_of_theirs_is_one_of_cores() {
        let key = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            idempotency_key(&HeaderMap::from_iter([("idempotency-key".parse().unwrap(), value)]))
        };
        let long = key(&"a".repeat(255)).unwrap().unwrap();
        assert!(long.len() <= 128 && long.starts_with("e2b-"));
        assert_eq!(key("a-1").unwrap(), key("a-1").unwrap());
        assert_ne!(key("a-1").unwrap(), key("a-2").unwrap());
        for bad in ["", "a b", "a.b", &"a".repeat(256)] {
            assert!(key(bad).is_err(), "{bad}");
        }
        assert_eq!(idempotency_key(&HeaderMap::new()).unwrap(), None);
    }
}
