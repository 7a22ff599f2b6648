//! Whole trees, patterns and modes: what our agent serves beside E2B's protocol.

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use http_body_util::{BodyExt, StreamBody};
use hyper::{Request, StatusCode, body::Frame, header, http::request::Builder};
use serde::Deserialize;

use super::{
    ANSWER_BYTES, CALL, Guest, GuestError,
    connection::{self, Answer, BodyError},
    files::{Download, refusal},
    text, within,
};

/// Paths that match a pattern. All of it is the guest's word.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Matches {
    /// Absolute paths, in order.
    pub paths: Vec<String>,
    /// Whether there are more.
    pub truncated: bool,
}

/// What came of an archive. All of it is the guest's word.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Unpacked {
    /// The absolute path of the directory.
    pub path: String,
    /// Files, directories and links that were made.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Devices, pipes and what else was left out.
    pub skipped: u64,
}

impl Guest {
    /// Opens an archive of what is at a path.
    pub(crate) async fn read_archive(
        &self,
        user: Option<&str>,
        path: &str,
    ) -> Result<Download, GuestError> {
        self.read_archive_as(user, path, None).await
    }

    /// The same; a file is called `name` in it, where given.
    pub(crate) async fn read_archive_as(
        &self,
        user: Option<&str>,
        path: &str,
        name: Option<&str>,
    ) -> Result<Download, GuestError> {
        let name = name.map(|name| ("name", name));
        let request = Request::get(target("/archive", user, path, name));
        let answer = within(CALL, self.extension(request, connection::full(""))).await?;
        Ok(Download::whole(answer))
    }

    /// Unpacks an archive below a directory.
    pub(crate) async fn write_archive(
        &self,
        user: Option<&str>,
        path: &str,
        contents: BoxStream<'static, Result<Bytes, BodyError>>,
    ) -> Result<Unpacked, GuestError> {
        self.unpack(target("/archive", user, path, None), contents).await
    }

    /// The same as root, with the owners and all bits of the modes that are in the archive.
    pub(crate) async fn write_archive_with_owners(
        &self,
        path: &str,
        contents: BoxStream<'static, Result<Bytes, BodyError>>,
    ) -> Result<Unpacked, GuestError> {
        let target = target("/archive", Some("root"), path, Some(("owners", "keep")));
        self.unpack(target, contents).await
    }

    async fn unpack(
        &self,
        target: String,
        contents: BoxStream<'static, Result<Bytes, BodyError>>,
    ) -> Result<Unpacked, GuestError> {
        let request = Request::put(target).header(header::CONTENT_TYPE, "application/x-tar");
        let body = StreamBody::new(contents.map(|piece| piece.map(Frame::data))).boxed_unsync();
        let mut answer = self.extension(request, body).await?;
        let body = answer.collect(ANSWER_BYTES).await?;
        self.keep(answer);
        serde_json::from_slice(&body).map_err(|_text| GuestError::Missing("summary"))
    }

    /// Paths below a directory that match a pattern.
    pub(crate) async fn glob(
        &self,
        user: Option<&str>,
        path: &str,
        pattern: &str,
    ) -> Result<Matches, GuestError> {
        let request = Request::get(target("/glob", user, path, Some(("pattern", pattern))));
        let found = async {
            let mut answer = self.extension(request, connection::full("")).await?;
            let body = answer.collect(ANSWER_BYTES).await?;
            self.keep(answer);
            serde_json::from_slice(&body).map_err(|_text| GuestError::Missing("paths"))
        };
        within(CALL, found).await
    }

    /// Sets permission bits.
    pub(crate) async fn chmod(
        &self,
        user: Option<&str>,
        path: &str,
        mode: u32,
    ) -> Result<(), GuestError> {
        let body = serde_json::json!({
            "path": path,
            "mode": format!("{mode:o}"),
            "username": user.unwrap_or_default(),
        });
        let request = Request::post("/chmod").header(header::CONTENT_TYPE, "application/json");
        let body = connection::full(body.to_string());
        let answer = within(CALL, self.extension(request, body)).await?;
        self.keep(answer);
        Ok(())
    }

    /// A request that E2B's protocol does not have, and agents of earlier versions neither.
    async fn extension(
        &self,
        request: Builder,
        body: connection::Body,
    ) -> Result<Answer, GuestError> {
        let request = request.header(header::HOST, "envd").body(body);
        let mut answer = self.send(request.map_err(GuestError::Request)?).await?;
        match answer.status() {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(answer),
            _ => Err(refusal(&mut answer).await?),
        }
    }
}

fn target(at: &str, user: Option<&str>, path: &str, more: Option<(&str, &str)>) -> String {
    let mut target = format!("{at}?path={}", text::escaped(path));
    for (name, value) in user.map(|user| ("username", user)).into_iter().chain(more) {
        target.push_str(&format!("&{name}={}", text::escaped(value)));
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_carries_any_pattern() {
        assert_eq!(
            target("/glob", None, "/a", Some(("pattern", "*&?"))),
            "/glob?path=/a&pattern=%2A%26%3F"
        );
        assert_eq!(
            target("/archive", Some("root"), "x y", None),
            "/archive?path=x%20y&username=root"
        );
    }
}
