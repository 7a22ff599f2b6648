//! Commands inside a sandbox.

use bytes::Bytes;
use futures::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use http::{HeaderValue, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes, handshake::client::generate_key, handshake::derive_accept_key,
        protocol::Role,
    },
};

use super::{Call, Client, ClientError, Query, encoded, lines::Lines, link::Link, sandboxes::path};
use crate::{
    NDJSON,
    exec::{
        ExecEvent, ExecInput, ExecList, ExecOutcome, ExecRequest, ExecStarted, OutputStream,
        SignalRequest,
    },
};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

impl Client {
    /// Runs a command and waits for its end; its output is kept up to the server's limit.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`]. A command that fails is not an error.
    pub async fn exec(
        &self,
        sandbox: &str,
        request: &ExecRequest,
    ) -> Result<ExecOutcome, ClientError> {
        let request = ExecRequest { detach: false, ..request.clone() };
        self.json(Call::post(execs(sandbox)).with_json(&request)?).await
    }

    /// Starts a command that outlives this client.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn exec_detached(
        &self,
        sandbox: &str,
        request: &ExecRequest,
    ) -> Result<ExecStarted, ClientError> {
        let request = ExecRequest { detach: true, ..request.clone() };
        self.json(Call::post(execs(sandbox)).with_json(&request)?).await
    }

    /// Runs a command and gives its output as it comes, as JSON lines.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn exec_stream(
        &self,
        sandbox: &str,
        request: &ExecRequest,
    ) -> Result<ExecStream, ClientError> {
        let call = Call::post(execs(sandbox)).with_json(request)?.accepting(NDJSON);
        Ok(ExecStream(Lines::new(self.send(&call).await?)))
    }

    /// Runs a command and converses with it over a WebSocket.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn exec_socket(
        &self,
        sandbox: &str,
        request: &ExecRequest,
    ) -> Result<(ExecSender, ExecReceiver), ClientError> {
        let (mut socket, link) = self.open_socket(format!("{}/ws", execs(sandbox))).await?;
        let first =
            serde_json::to_string(request).map_err(|source| ClientError::Encode { source })?;
        socket
            .send(Message::Text(first.into()))
            .await
            .map_err(ClientError::transport("send the command"))?;
        let (sink, stream) = socket.split();
        Ok((ExecSender(sink), ExecReceiver { stream, _link: link }))
    }

    /// The commands that run in a sandbox, and those that ended and are still kept.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn list_execs(&self, sandbox: &str) -> Result<ExecList, ClientError> {
        self.json(Call::get(execs(sandbox))).await
    }

    /// The output of a command from byte `offset` on, first what is kept and then what comes.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn exec_output(
        &self,
        sandbox: &str,
        exec_id: &str,
        offset: u64,
    ) -> Result<ExecStream, ClientError> {
        let query = Query::default().with("offset", Some(offset.to_string()));
        let target = format!("{}/{}/output{}", execs(sandbox), encoded(exec_id), query.0);
        Ok(ExecStream(Lines::new(self.send(&Call::get(target).accepting(NDJSON)).await?)))
    }

    /// Sends a signal to a command; `KILL` reaches its whole process tree.
    ///
    /// # Errors
    ///
    /// As [`Client::create_sandbox`].
    pub async fn signal_exec(
        &self,
        sandbox: &str,
        exec_id: &str,
        signal: &str,
    ) -> Result<(), ClientError> {
        let target = format!("{}/{}/signal", execs(sandbox), encoded(exec_id));
        self.empty(Call::post(target).with_json(&SignalRequest { signal: signal.to_owned() })?)
            .await
    }

    /// Opens a WebSocket. Nothing is done yet when it is open, so opening may be repeated.
    async fn open_socket(&self, target: String) -> Result<(Socket, Link), ClientError> {
        let key = generate_key();
        let mut call = Call::get(target);
        for (name, value) in [
            (header::CONNECTION, "Upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
        ] {
            call.headers.push((name, HeaderValue::from_static(value)));
        }
        let key_value =
            HeaderValue::from_str(&key).map_err(ClientError::transport("make a key"))?;
        call.headers.push((header::SEC_WEBSOCKET_KEY, key_value));
        let reply = self.send(&call).await?;
        let accept = reply.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if accept.is_none_or(|accept| accept != derive_accept_key(key.as_bytes()).as_str()) {
            let cause = "the server does not speak WebSocket here";
            return Err(ClientError::transport("open a WebSocket")(cause));
        }
        let (upgraded, link) = reply.upgrade().await?;
        let socket = Socket::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await;
        Ok((socket, link))
    }
}

fn execs(sandbox: &str) -> String {
    format!("{}/exec", path(sandbox))
}

/// The events of a command.
#[derive(Debug)]
pub struct ExecStream(Lines);

impl ExecStream {
    /// The next event; `None` after the last.
    ///
    /// # Errors
    ///
    /// [`ClientError::Transport`] when the connection breaks, [`ClientError::Decode`] when the
    /// server says something else.
    pub async fn next(&mut self) -> Result<Option<ExecEvent>, ClientError> {
        while let Some(line) = self.0.next().await? {
            if !line.is_empty() {
                return serde_json::from_slice(line)
                    .map(Some)
                    .map_err(|source| ClientError::Decode { source });
            }
        }
        Ok(None)
    }
}

/// The half of a conversation that sends.
#[derive(Debug)]
pub struct ExecSender(SplitSink<Socket, Message>);

impl ExecSender {
    /// Gives the command bytes to read.
    ///
    /// # Errors
    ///
    /// [`ClientError::Transport`] when the connection breaks.
    pub async fn stdin(&mut self, bytes: Bytes) -> Result<(), ClientError> {
        self.send(Message::Binary(bytes)).await
    }

    /// Sends a control message.
    ///
    /// # Errors
    ///
    /// [`ClientError::Transport`] when the connection breaks.
    pub async fn control(&mut self, input: &ExecInput) -> Result<(), ClientError> {
        let text = serde_json::to_string(input).map_err(|source| ClientError::Encode { source })?;
        self.send(Message::Text(text.into())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), ClientError> {
        self.0.send(message).await.map_err(ClientError::transport("send to the command"))
    }
}

/// The half of a conversation that receives.
#[derive(Debug)]
pub struct ExecReceiver {
    stream: SplitStream<Socket>,
    _link: Link,
}

/// What a conversation brings.
#[derive(Clone, Debug, PartialEq)]
pub enum ExecMessage {
    /// Output, byte for byte.
    Output(OutputStream, Bytes),
    /// Anything else.
    Event(ExecEvent),
}

impl ExecReceiver {
    /// The next message; `None` when the server has closed the conversation.
    ///
    /// # Errors
    ///
    /// [`ClientError::Transport`] when the connection breaks, [`ClientError::Decode`] when the
    /// server says something else.
    pub async fn next(&mut self) -> Result<Option<ExecMessage>, ClientError> {
        while let Some(message) = self.stream.next().await {
            let message = message.map_err(ClientError::transport("read the command's output"))?;
            match message {
                Message::Binary(bytes) => {
                    if let Some(output) = output(&bytes) {
                        return Ok(Some(output));
                    }
                }
                Message::Text(text) => return event(&text).map(Some),
                Message::Close(_) => return Ok(None),
                // Pings are answered by the socket itself.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        Ok(None)
    }
}

/// Takes a binary message apart; a stream that this version does not know is passed over.
fn output(message: &Bytes) -> Option<ExecMessage> {
    let stream = OutputStream::from_byte(*message.first()?)?;
    Some(ExecMessage::Output(stream, message.slice(1..)))
}

fn event(text: &Utf8Bytes) -> Result<ExecMessage, ClientError> {
    serde_json::from_str(text)
        .map(ExecMessage::Event)
        .map_err(|source| ClientError::Decode { source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_of_output_names_its_stream() {
        let message = Bytes::from_static(b"\x02err");
        let expected = ExecMessage::Output(OutputStream::Stderr, Bytes::from_static(b"err"));
        assert_eq!(output(&message), Some(expected));
        assert_eq!(output(&Bytes::from_static(b"\x09new")), None);
        assert_eq!(output(&Bytes::new()), None);
    }
}
