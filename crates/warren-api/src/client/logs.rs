//! What detached commands wrote.

use super::{Call, Client, ClientError, Query, lines::Lines, sandboxes::path};
use crate::{
    NDJSON,
    logs::{LogEntry, LogLine, LogPage, ReadLogs},
};

impl Client {
    /// One page of a sandbox's log, in order.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn logs(&self, sandbox: &str, wanted: &ReadLogs) -> Result<LogPage, ClientError> {
        let query = query(wanted).with("limit", wanted.limit.map(|limit| limit.to_string()));
        self.json(Call::get(format!("{}/logs{}", path(sandbox), query.0))).await
    }

    /// A sandbox's log, and what is added to it until the sandbox ends.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn follow_logs(
        &self,
        sandbox: &str,
        wanted: &ReadLogs,
    ) -> Result<LogStream, ClientError> {
        let query = query(wanted).with("follow", Some("true"));
        let call = Call::get(format!("{}/logs{}", path(sandbox), query.0)).accepting(NDJSON);
        Ok(LogStream(Lines::new(self.send(&call).await?)))
    }
}

fn query(wanted: &ReadLogs) -> Query {
    Query::default()
        .with("after", wanted.after.map(|after| after.to_string()))
        .with("exec", wanted.exec_id.as_ref())
}

/// A log that is being followed.
#[derive(Debug)]
pub struct LogStream(Lines);

impl LogStream {
    /// The next entry; `None` when the sandbox has ended and all was read.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] when the server cannot read on, else what broke; also when the
    /// server ended the stream before its end.
    pub async fn next(&mut self) -> Result<Option<LogEntry>, ClientError> {
        loop {
            let line = self.0.next().await?.ok_or_else(ClientError::ended_early)?;
            let line = serde_json::from_slice(line);
            match line.map_err(|source| ClientError::Decode { source })? {
                LogLine::Entry(entry) => return Ok(Some(entry)),
                LogLine::Keepalive => {}
                LogLine::End => return Ok(None),
                LogLine::Error(error) => return Err(ClientError::Refused(error)),
            }
        }
    }
}
