//! What happens, as server-sent events.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body as ResponseBody,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tokio_util::sync::CancellationToken;
use warren_api::{ErrorBody, event};
use warren_core::events::{Event, EventStream};

use crate::{app::App, auth::Known, convert, error::ApiError, extract::Parameters};

/// After so much silence a stream says that it is alive.
const SILENCE: Duration = Duration::from_secs(15);

/// Follow what happens
///
/// Behind `Last-Event-ID` or `after`: first what is stored, then what happens. Without either:
/// what happens from now on.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(
        ("Last-Event-ID" = Option<u64>, Header, description = "The last event that was received"),
        ("after" = Option<u64>, Query, description = "The same, for whom cannot send headers"),
        ("sandbox" = Option<String>, Query, description = "Only those of this sandbox, by id or name"),
    ),
    responses(
        (status = 200, description = "Server-sent events: `id` is the sequence number, `data` an `Event` as JSON",
            body = event::Event, content_type = "text/event-stream"),
        (status = 404, description = "`not_found`", body = ErrorBody),
    ),
)]
pub(crate) async fn follow_events(
    State(app): State<App>,
    Known(caller): Known,
    headers: HeaderMap,
    mut parameters: Parameters,
) -> Result<Response, ApiError> {
    let after = match headers.get("last-event-id") {
        Some(id) => {
            let id = id.to_str().ok().and_then(|id| id.parse().ok());
            let wrong = || ApiError::invalid("Last-Event-ID", "expected a number");
            Some(id.ok_or_else(wrong)?)
        }
        None => parameters.number("after")?,
    };
    let sandbox = match parameters.one("sandbox")? {
        Some(id) => Some(match id.parse() {
            Ok(id) => id,
            Err(_a_name) => app.sandboxes.get(&caller, &id)?.id,
        }),
        None => None,
    };
    // The header is stronger, as a browser sends it when it comes back to the same address.
    parameters.all("after");
    parameters.finish()?;
    let slot = app.open_event_stream(&caller)?;
    let events = app.sandboxes.events(&caller, sandbox, after);
    let messages = event_stream(events, app.ending(&caller)).inspect(move |_| {
        // The slot is the stream's: it goes when the stream does.
        let _held = &slot;
    });
    let body = ResponseBody::from_stream(messages);
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    let cache = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(([content_type, cache], body).into_response())
}

fn event_stream(
    events: EventStream,
    stopping: CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    // The first lines prove to the client, and to what is between, that the stream is open, and
    // say where it begins: who comes back before the first event goes on there.
    let opened = Some(Bytes::from(format!(":\nid: {}\n\n", events.position())));
    stream::unfold((opened, events, stopping), |(opened, mut events, stopping)| async move {
        if let Some(opened) = opened {
            return Some((Ok(opened), (None, events, stopping)));
        }
        let text = tokio::select! {
            biased;
            () = stopping.cancelled() => return None,
            event = events.next() => match event {
                Ok(event) => message(&*event?),
                Err(error) => {
                    let cause = &error as &dyn std::error::Error;
                    tracing::error!(error = cause, "events end early: {error}");
                    return None;
                }
            },
            () = tokio::time::sleep(SILENCE) => Bytes::from_static(b":\n\n"),
        };
        Some((Ok(text), (None, events, stopping)))
    })
}

fn message(event: &Event) -> Bytes {
    let json = serde_json::to_string(&convert::event(event)).unwrap_or_default();
    format!("id: {}\ndata: {json}\n\n", event.seq).into()
}
