//! How files differ.

use super::{Call, Client, ClientError, Query, lines::Lines};
use crate::{
    NDJSON,
    diff::{CompareFiles, DiffEntry, DiffLine},
};

impl Client {
    /// Compares the files of sandboxes and snapshots.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn diff(&self, wanted: &CompareFiles) -> Result<DiffStream, ClientError> {
        let query = Query::default()
            .with("from", wanted.from.as_ref())
            .with("to", Some(&wanted.to))
            .with("patch", wanted.patch.then_some("true"))
            .with("identity", wanted.identity.then_some("true"));
        let call = Call::get(format!("/v1/diff{}", query.0)).accepting(NDJSON);
        Ok(DiffStream(Lines::new(self.send(&call).await?)))
    }
}

/// Differences, as they are found.
#[derive(Debug)]
pub struct DiffStream(Lines);

impl DiffStream {
    /// The next one; `None` when all was compared.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] when the server cannot go on, else what broke; also when the
    /// server ended the stream before its end.
    pub async fn next(&mut self) -> Result<Option<DiffEntry>, ClientError> {
        loop {
            let line = self.0.next().await?.ok_or_else(ClientError::ended_early)?;
            let line = serde_json::from_slice(line);
            match line.map_err(|source| ClientError::Decode { source })? {
                DiffLine::Change(entry) => return Ok(Some(entry)),
                DiffLine::Keepalive => {}
                DiffLine::End => return Ok(None),
                DiffLine::Error(error) => return Err(ClientError::Refused(error)),
            }
        }
    }
}
