//! Blobs and manifests, sent to a registry.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use reqwest::{Body, Response, StatusCode, Url, header};
use warren_core::images::{Digest, Progress, Step};

use super::{Client, Place, RegistryError, refusal};
use crate::image::document::Blob;

impl Client {
    /// Has a blob in the repository; what is there already is not sent, and not read.
    pub(in crate::image) async fn upload(
        &self,
        place: &Place,
        blob: &Blob,
        content: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        progress: &Progress,
    ) -> Result<(), RegistryError> {
        let url = place.url(&format!("blobs/{}", blob.digest));
        let there = self.send(place, || self.http.head(&url)).await?;
        if there.status().is_success() {
            progress.tell(Step::Present(blob.digest));
            return Ok(());
        }
        let begin = place.url("blobs/uploads/");
        let begun =
            self.ask(place, || self.http.post(&begin).header(header::CONTENT_LENGTH, 0)).await?;
        let mut target = location(&begun)?;
        target.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let (layer, of, progress_of) = (blob.digest, blob.size, progress.clone());
        let mut bytes = 0;
        let pieces = content.inspect(move |piece| {
            bytes += piece.as_ref().map_or(0, |piece| piece.len() as u64);
            progress_of.tell(Step::Transferred { layer, bytes, of });
        });
        let request = self
            .http
            .put(target)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, blob.size)
            .body(Body::wrap_stream(pieces));
        // The token of the request before: a body that has been sent cannot be sent again.
        let request = match self.token(place) {
            Some(token) => request.header(header::AUTHORIZATION, token),
            None => request,
        };
        let response = request.send().await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        progress.tell(Step::Done(blob.digest));
        Ok(())
    }

    /// Puts a manifest under a tag or its digest.
    pub(in crate::image) async fn put_manifest(
        &self,
        place: &Place,
        version: &str,
        kind: &str,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        let url = place.url(&format!("manifests/{version}"));
        let make = || {
            let request = self.http.put(&url).header(header::CONTENT_TYPE, kind);
            request.body(bytes.to_vec())
        };
        let response = self.send(place, make).await?;
        match response.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => Ok(Digest::of(bytes)),
            _ => Err(refusal(response).await),
        }
    }
}

/// Where an upload goes on, which may be said relative to where it began.
fn location(response: &Response) -> Result<Url, RegistryError> {
    let header = response.headers().get(header::LOCATION).and_then(|it| it.to_str().ok());
    let target = header.and_then(|text| response.url().join(text).ok());
    let odd = || RegistryError::Odd("no place to send a blob to".to_owned());
    let target = target.ok_or_else(odd)?;
    // The token goes along.
    if target.host() != response.url().host() || target.scheme() != response.url().scheme() {
        return Err(RegistryError::Odd("another host to send a blob to".to_owned()));
    }
    Ok(target)
}
