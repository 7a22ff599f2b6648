//! What happens, as it happens.

use super::{Call, Client, ClientError, Query, lines::Lines};
use crate::event::Event;

impl Client {
    /// The events behind sequence number `after` and all that follow, of one sandbox or of all.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn events(
        &self,
        after: Option<u64>,
        sandbox: Option<&str>,
    ) -> Result<EventStream, ClientError> {
        let query = Query::default()
            .with("after", after.map(|after| after.to_string()))
            .with("sandbox", sandbox);
        let call = Call::get(format!("/v1/events{}", query.0)).accepting("text/event-stream");
        Ok(EventStream { lines: Lines::new(self.send(&call).await?), position: after })
    }
}

/// Events on their way.
#[derive(Debug)]
pub struct EventStream {
    lines: Lines,
    position: Option<u64>,
}

impl EventStream {
    /// What to give as `after` to go on where this stream has come to; `None` while the server
    /// has not said where it begins.
    #[must_use]
    pub fn position(&self) -> Option<u64> {
        self.position
    }

    /// The next event; `None` when the server has ended the stream.
    ///
    /// # Errors
    ///
    /// [`ClientError::Transport`] when the connection breaks, [`ClientError::Decode`] when the
    /// server says something else.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        let mut data = Vec::new();
        while let Some(line) = self.lines.next().await? {
            if let Some(id) = line.strip_prefix(b"id:") {
                let id = std::str::from_utf8(id).ok().and_then(|id| id.trim().parse().ok());
                self.position = id.or(self.position);
            }
            if let Some(part) = line.strip_prefix(b"data:") {
                if !data.is_empty() {
                    data.push(b'\n');
                }
                data.extend_from_slice(part.strip_prefix(b" ").unwrap_or(part));
            } else if line.is_empty() && !data.is_empty() {
                return serde_json::from_slice(&data)
                    .map(Some)
                    .map_err(|source| ClientError::Decode { source });
            }
        }
        Ok(None)
    }
}
