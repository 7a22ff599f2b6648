//! Lists of sandboxes, with filters and pages.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, header::ACCESS_CONTROL_EXPOSE_HEADERS},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use warren_api::Timestamp;
use warren_core::{Caller, clock, id::SandboxId, sandbox::Sandbox, sandboxes::Filter};

use super::{
    Refusal,
    extract::{Parameters, Team},
    names, shape,
    shape::Listed,
};
use crate::app::App;

/// Where the next page begins.
pub(super) const NEXT: HeaderName = HeaderName::from_static("x-next-token");
/// How many run, of those that the filter lets pass.
const RUNNING: HeaderName = HeaderName::from_static("x-total-running");
/// The most that a page has.
const PAGE: usize = 100;

type Found = (Arc<Sandbox>, &'static str);

/// The running sandboxes, as clients of old ask for them.
pub(super) async fn running(
    State(app): State<App>,
    Team(caller): Team,
    parameters: Parameters,
) -> Result<Json<Vec<Listed>>, Refusal> {
    let mut found = visible(&app, &caller, parameters.get("metadata"));
    found.retain(|(_, state)| *state == "running");
    sort(&mut found, Order::Descending);
    Ok(Json(shown(&app, &caller, &found)))
}

/// A page of sandboxes.
pub(super) async fn all(
    State(app): State<App>,
    Team(caller): Team,
    parameters: Parameters,
) -> Result<(HeaderMap, Json<Vec<Listed>>), Refusal> {
    let states = states(&parameters)?;
    let limit = parameters.limit(PAGE)?;
    let cursor = parameters.get("nextToken").map(Cursor::read).transpose()?;
    let order = match (parameters.get("order"), &cursor) {
        (Some("asc"), _) => Order::Ascending,
        (Some("desc"), _) => Order::Descending,
        (None, cursor) => cursor.as_ref().map_or(Order::Descending, |cursor| cursor.order),
        (Some(_), _) => return Err(Refusal::bad("order: expected asc or desc")),
    };
    let since = match parameters.get("startedAfter") {
        None => None,
        Some(text) => {
            let time = text.parse::<Timestamp>();
            let time = time.map_err(|error| Refusal::bad(format!("startedAfter: {error}")))?;
            Some(clock::Timestamp::from_millis(time.unix_ms()))
        }
    };
    let mut found = visible(&app, &caller, parameters.get("metadata"));
    if let Some(template) = parameters.get("template") {
        let wanted = template_ids(&app, &caller, template);
        found.retain(|(sandbox, _)| {
            let (id, alias) = shape::template(&app, &caller, sandbox);
            wanted.contains(&id) || alias.is_some_and(|alias| wanted.contains(&alias))
        });
    }
    found.retain(|(sandbox, _)| since.is_none_or(|since| sandbox.created_at >= since));
    let running = found.iter().filter(|(_, state)| *state == "running").count();
    found.retain(|(_, state)| states.is_empty() || states.contains(state));
    sort(&mut found, order);
    if let Some(cursor) = cursor {
        found.retain(|(sandbox, _)| order.is_behind(place(sandbox), (cursor.at, cursor.id)));
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found
        .last()
        .filter(|_| more)
        .map(|(sandbox, _)| Cursor { at: sandbox.created_at, id: sandbox.id, order }.text());
    let mut headers = page_headers(next);
    headers.insert(RUNNING, HeaderValue::from(running));
    Ok((headers, Json(shown(&app, &caller, &found))))
}

/// The headers of a page that goes on where `next` says.
pub(super) fn page_headers(next: Option<String>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let exposed = HeaderValue::from_static("X-Next-Token, X-Total-Running");
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    if let Some(next) = next.and_then(|next| HeaderValue::try_from(next).ok()) {
        headers.insert(NEXT, next);
    }
    headers
}

/// The states that are wanted; all where none is named.
fn states(parameters: &Parameters) -> Result<Vec<&'static str>, Refusal> {
    let state = |text: &str| match text {
        "running" => Ok("running"),
        "paused" => Ok("paused"),
        _ => Err(Refusal::bad("state: expected running, paused, or both with a comma between")),
    };
    parameters.every("state").into_iter().map(state).collect()
}

/// What a template of this name would be shown as. One that is not there has no sandboxes.
fn template_ids(app: &App, caller: &Caller, name: &str) -> Vec<String> {
    let (plain, _tag) = names::parts(name);
    let template = app.sandboxes.templates().get(caller, plain);
    let snapshot = names::snapshot(app, caller, name);
    let base = (name == shape::BASE).then(|| shape::BASE.to_owned());
    let known = template.ok().map(|template| template.id.to_string());
    known.into_iter().chain(snapshot.map(|id| id.to_string())).chain(base).collect()
}

/// The caller's sandboxes that these clients see, with all of this metadata.
fn visible(app: &App, caller: &Caller, metadata: Option<&str>) -> Vec<Found> {
    let labels = metadata.map(labels).unwrap_or_default();
    let filter = Filter { limit: usize::MAX, ..Filter::default() };
    let all = app.sandboxes.list(caller, &filter).sandboxes.into_iter();
    all.filter(|sandbox| labels.iter().all(|(key, value)| sandbox.labels.get(key) == Some(value)))
        .filter_map(|sandbox| shape::seen_as(&sandbox).map(|state| (sandbox, state)))
        .collect()
}

/// The pairs of a filter. Clients encode keys and values, then the whole, and then once more for
/// the address; the last of these is off already.
fn labels(text: &str) -> Vec<(String, String)> {
    let whole = unescaped(text);
    let pairs = whole.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (unescaped(key), unescaped(value))
        })
        .collect()
}

/// A text without its escapes; what is none stays as it is.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        let digits = digits.filter(|it| it.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let escaped = digits.and_then(|it| u8::from_str_radix(it, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = behind;
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn shown(app: &App, caller: &Caller, found: &[Found]) -> Vec<Listed> {
    found.iter().map(|(sandbox, state)| shape::listed(app, caller, sandbox, state)).collect()
}

fn place(sandbox: &Sandbox) -> (clock::Timestamp, SandboxId) {
    (sandbox.created_at, sandbox.id)
}

fn sort(found: &mut [Found], order: Order) {
    found.sort_unstable_by_key(|(sandbox, _)| place(sandbox));
    if order == Order::Descending {
        found.reverse();
    }
}

/// Which comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
}

impl Order {
    fn is_behind<T: Ord>(self, this: T, that: T) -> bool {
        match self {
            Self::Ascending => this > that,
            Self::Descending => this < that,
        }
    }
}

/// A place in the list: the last sandbox of the page before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    at: clock::Timestamp,
    id: SandboxId,
    order: Order,
}

/// What is behind the place of a list that goes upwards.
const UPWARDS: &str = "__asc";

impl Cursor {
    fn text(self) -> String {
        let order = if self.order == Order::Ascending { UPWARDS } else { "" };
        BASE64.encode(format!("{}__{}{order}", self.at.as_millis(), self.id))
    }

    fn read(text: &str) -> Result<Self, Refusal> {
        let read = || {
            let text = String::from_utf8(BASE64.decode(text).ok()?).ok()?;
            let (text, order) = match text.strip_suffix(UPWARDS) {
                Some(text) => (text.to_owned(), Order::Ascending),
                None => (text, Order::Descending),
            };
            let (at, id) = text.split_once("__")?;
            let at = clock::Timestamp::from_millis(at.parse().ok()?);
            Some(Self { at, id: id.parse().ok()?, order })
        };
        read().ok_or_else(|| Refusal::bad("nextToken: not one of this server's"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_decoded_as_often_as_clients_encode_it() {
        // `{'a b': 'c&d'}` as it is in the address, without the encoding of the address itself.
        let check = |text: &str, expected: &[(&str, &str)]| {
            let found = labels(text);
            let found: Vec<_> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("a%2520b=c%2526d", &[("a b", "c&d")]);
        check("a%2520b%3Dc%252526d", &[("a b", "c%26d")]);
        check("a=b&c=d", &[("a", "b"), ("c", "d")]);
        check("user=ä", &[("user", "ä")]);
        check("", &[]);
        check("a", &[("a", "")]);
        check("a=100%", &[("a", "100%")]);
    }

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() {
        let id = SandboxId::mint();
        let at = clock::Timestamp::from_millis(1_800_000_000_123);
        for order in [Order::Ascending, Order::Descending] {
            let cursor = Cursor { at, id, order };
            assert_eq!(Cursor::read(&cursor.text()).unwrap(), cursor);
        }
        for bad in ["x", "%%%", &BASE64.encode("1__x"), &BASE64.encode(format!("x__{id}"))] {
            assert!(Cursor::read(bad).is_err(), "{bad}");
        }
    }
}
