//! `POST /chmod`.

use std::sync::Arc;

use hyper::{Request, Response, StatusCode};
use rustix::fs::{Mode, OFlags};
use serde_json::Value;
use warren_proto::Status;
use warren_sys::beneath;

use crate::daemon::Agent;
use crate::filesystem::context::{Context, failed, on_thread};
use crate::http::arriving::Arriving;
use crate::http::call;
use crate::http::reply::{self, Body, Refusal};

/// Bytes of a request.
const REQUEST_BYTES: usize = 64 << 10;

/// Whose mode to change, and to what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    path: String,
    mode: u32,
    user: Option<String>,
}

/// Sets the permission bits of what is at a path; a link is followed.
pub(super) async fn answer(
    agent: &Arc<Agent>,
    request: Request<Arriving>,
) -> Result<Response<Body>, Refusal> {
    let caller = call::user(request.headers())?;
    let body = reply::read_body(request.into_body(), REQUEST_BYTES).await?;
    let value = serde_json::from_slice(&body)
        .map_err(|it| Refusal::bad_request(format!("read the body: {it}")))?;
    let Order { path, mode, user } = order_of(&value)?;
    on_thread(agent, user.or(caller), move |context| change(context, &path, mode)).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

pub(super) fn order_of(value: &Value) -> Result<Order, Refusal> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let mode = text("mode").and_then(|it| u32::from_str_radix(&it, 8).ok());
    let mode = mode.filter(|it| *it <= 0o7777);
    Ok(Order {
        path: text("path").ok_or_else(|| Refusal::bad_request("path is missing"))?,
        mode: mode.ok_or_else(|| Refusal::bad_request("mode is missing, or not octal"))?,
        user: text("username").filter(|it| !it.is_empty()),
    })
}

fn change(context: &Context, path: &str, mode: u32) -> Result<(), Status> {
    let path = context.path(path)?;
    // By a descriptor that needs no right to read, and through no magic link but this one of ours.
    let opened = beneath::open(&path, OFlags::PATH, Mode::empty());
    let opened = opened.map_err(failed("change the mode of", &path))?;
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&opened));
    rustix::fs::chmod(link, Mode::from_raw_mode(mode))
        .map_err(|error| failed("change the mode of", &path)(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn orders_are_checked() {
        let expected = Order { path: "a".to_owned(), mode: 0o755, user: None };
        assert_eq!(order_of(&json!({"path": "a", "mode": "0755", "username": ""})), Ok(expected));
        for bad in [
            json!({}),
            json!({"path": "a"}),
            json!({"path": "a", "mode": "8"}),
            json!({"path": "a", "mode": "10000"}),
            json!({"path": "a", "mode": 493}),
            json!({"mode": "755"}),
        ] {
            assert_eq!(order_of(&bad).unwrap_err().status, StatusCode::BAD_REQUEST, "{bad}");
        }
    }
}
