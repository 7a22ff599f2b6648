//! `POST /files/compose`: several files become one.

use std::fs::File;
use std::io;
use std::sync::Arc;

use hyper::{Request, Response, StatusCode};
use rustix::fs::{FileType as Kind, Mode, OFlags};
use rustix::process::{Gid, Uid};
use serde_json::{Value, json};
use warren_proto::{Code, Status};
use warren_sys::beneath;

use super::{refuse, refuse_own};
use crate::daemon::Agent;
use crate::filesystem::context::{Context, failed, on_thread};
use crate::filesystem::{make, path};
use crate::http::arriving::Arriving;
use crate::http::call;
use crate::http::reply::{self, Body, Refusal};

/// Bytes of a request.
const REQUEST_BYTES: usize = 1 << 20;
/// Files put together at once.
const MOST_SOURCES: usize = 10_000;

/// What to put together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    sources: Vec<String>,
    destination: String,
    user: Option<String>,
}

pub(super) async fn answer(
    agent: &Arc<Agent>,
    request: Request<Arriving>,
) -> Result<Response<Body>, Refusal> {
    let caller = call::user(request.headers())?;
    let body = reply::read_body(request.into_body(), REQUEST_BYTES).await?;
    let value = serde_json::from_slice(&body)
        .map_err(|it| Refusal::bad_request(format!("read the body: {it}")))?;
    let Order { sources, destination, user } = order_of(&value)?;
    let work = move |context: &Context| compose(context, &sources, &destination);
    let written = on_thread(agent, user.or(caller), work).await.map_err(refuse)?;
    let entry = json!({"path": written, "name": path::name(&written), "type": "file"});
    Ok(reply::json(StatusCode::OK, &entry))
}

pub(super) fn order_of(value: &Value) -> Result<Order, Refusal> {
    let bad = |what: &str| Refusal::bad_request(what.to_owned());
    let sources = value.get("source_paths").and_then(Value::as_array);
    let sources = sources.ok_or_else(|| bad("source_paths is missing"))?;
    if sources.is_empty() || sources.len() > MOST_SOURCES {
        return Err(bad("source_paths has none or too many"));
    }
    let sources: Option<_> = sources.iter().map(|it| it.as_str().map(str::to_owned)).collect();
    let destination = value.get("destination").and_then(Value::as_str).filter(|it| !it.is_empty());
    Ok(Order {
        sources: sources.ok_or_else(|| bad("a source path is no text"))?,
        destination: destination.ok_or_else(|| bad("destination is missing"))?.to_owned(),
        user: value.get("username").and_then(Value::as_str).map(str::to_owned),
    })
}

/// Writes beside the destination and moves it there when it is whole: the destination may be one
/// of the sources.
fn compose(context: &Context, sources: &[String], destination: &str) -> Result<String, Status> {
    let destination = context.path(destination)?;
    make::make_parents(&destination)?;
    let temporary = format!("{destination}.compose-{}", std::process::id());
    let fail = |error| failed("write", &destination)(error);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
    let mut file =
        File::from(beneath::open(&temporary, flags, Mode::from_raw_mode(0o666)).map_err(fail)?);
    let result = append_all(context, sources, &mut file).and_then(|()| {
        let (user, group) = context.owner();
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        let _not_ours = rustix::fs::fchown(&file, Some(user), Some(group));
        let target = beneath::place(&destination).map_err(fail)?;
        beneath::place(&temporary).and_then(|it| it.rename(&target)).map_err(fail)
    });
    if result.is_err() {
        // The cause is what the caller learns; a left-over is seen in the directory.
        drop(beneath::place(&temporary).and_then(|it| it.remove(false)));
    }
    result.map(|()| destination)
}

fn append_all(context: &Context, sources: &[String], file: &mut File) -> Result<(), Status> {
    for source in sources {
        let path = context.path(source)?;
        let opened = beneath::open(&path, OFlags::RDONLY, Mode::empty());
        let mut opened = File::from(opened.map_err(failed("read", &path))?);
        refuse_own(&opened, false, &path)?;
        let stat = rustix::fs::fstat(&opened).map_err(|it| failed("read", &path)(it.into()))?;
        if Kind::from_raw_mode(stat.st_mode) != Kind::RegularFile {
            return Err(Status::new(Code::InvalidArgument, format!("path '{path}' is not a file")));
        }
        io::copy(&mut opened, file).map_err(failed("copy", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::state::Sandbox;
    use std::fs;

    #[test]
    fn files_are_put_together_also_into_one_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("a"), "1").unwrap();
        fs::write(at("b"), "2").unwrap();
        let context = Context::new(Some("root"), Sandbox::default().into(), false).unwrap();
        compose(&context, &[at("b"), at("a"), at("b")], &at("x/c")).unwrap();
        assert_eq!(fs::read_to_string(at("x/c")).unwrap(), "212");
        compose(&context, &[at("a"), at("a")], &at("a")).unwrap();
        assert_eq!(fs::read_to_string(at("a")).unwrap(), "11");
        let missing = compose(&context, &[at("a"), at("none")], &at("a")).unwrap_err();
        assert_eq!(missing.code, Code::NotFound);
        assert_eq!(fs::read_to_string(at("a")).unwrap(), "11");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left over");
    }

    #[test]
    fn orders_are_checked() {
        let good = json!({"source_paths": ["a"], "destination": "b", "username": "u"});
        let expected = Order {
            sources: vec!["a".to_owned()],
            destination: "b".to_owned(),
            user: Some("u".to_owned()),
        };
        assert_eq!(order_of(&good), Ok(expected));
        for bad in [
            json!({}),
            json!({"source_paths": [], "destination": "b"}),
            json!({"source_paths": [1], "destination": "b"}),
            json!({"source_paths": ["a"]}),
        ] {
            assert_eq!(order_of(&bad).unwrap_err().status, StatusCode::BAD_REQUEST, "{bad}");
        }
    }
}
