//! Lines out of a body that arrives in pieces.

use super::{ClientError, link::Reply};

/// Longer lines are refused: a server of ours never sends them.
const LONGEST_LINE: usize = 16 << 20;

/// Reads a body line by line.
#[derive(Debug)]
pub(super) struct Lines {
    reply: Reply,
    buffer: Vec<u8>,
    /// How much of the front of the buffer was handed out.
    taken: usize,
}

impl Lines {
    pub(super) fn new(reply: Reply) -> Self {
        Self { reply, buffer: Vec::new(), taken: 0 }
    }

    /// The next line without its end; `None` at the end of the body.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>, ClientError> {
        let mut searched = self.taken;
        let end = loop {
            let new = self.buffer.get(searched..).unwrap_or_default();
            if let Some(at) = new.iter().position(|byte| *byte == b'\n') {
                break searched + at;
            }
            searched = self.buffer.len() - self.taken;
            self.buffer.drain(..std::mem::take(&mut self.taken));
            if self.buffer.len() > LONGEST_LINE {
                let cause = "a line is longer than 16 MiB";
                return Err(ClientError::transport("read the server's answer")(cause));
            }
            match self.reply.chunk().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        };
        let start = std::mem::replace(&mut self.taken, end + 1);
        let line = self.buffer.get(start..end).unwrap_or_default();
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }
}
