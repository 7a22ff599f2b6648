//! Streams of messages: calls of the envd protocol that answer more than once.

use std::{
    future::poll_fn,
    marker::PhantomData,
    task::{Context, Poll},
};

use hyper::{Request, StatusCode};
use warren_proto::{
    Codec, Status, WireMessage,
    envelope::{self, Decoder, Envelope},
};

use super::{CALL, Guest, GuestError, connection, connection::Answer, rpc, within};

/// The largest message: output comes in pieces of 32 KiB.
const MESSAGE_BYTES: usize = 1 << 20;

/// The messages of one call, as they arrive.
#[derive(Debug)]
pub(crate) struct Messages<M> {
    answer: Answer,
    decoder: Decoder,
    message: PhantomData<fn() -> M>,
}

impl Guest {
    /// Opens a stream of messages.
    pub(super) async fn messages<Q: WireMessage, M: WireMessage>(
        &self,
        path: &'static str,
        user: Option<&str>,
        question: &Q,
    ) -> Result<Messages<M>, GuestError> {
        let opened = async {
            let body =
                envelope::encode_message(Codec::Proto, question).map_err(GuestError::Codec)?;
            let request: Request<_> = rpc(path, user, Codec::Proto.stream_content_type())
                .body(connection::full(body))
                .map_err(GuestError::Request)?;
            let mut answer = self.send(request).await?;
            if answer.status() == StatusCode::OK {
                let decoder = Decoder::with_limit(MESSAGE_BYTES);
                return Ok(Messages { answer, decoder, message: PhantomData });
            }
            let status = answer.status().as_u16();
            let body = answer.collect(MESSAGE_BYTES).await?;
            self.keep(answer);
            Err(GuestError::Refused(Status::from_unary_body(status, &body)))
        };
        within(CALL, opened).await
    }
}

impl<M: WireMessage> Messages<M> {
    /// The next message; none at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`GuestError::Refused`] when the agent ended the stream with an error; it then is at its
    /// end. Any other error breaks it.
    pub(super) async fn next(&mut self) -> Result<Option<M>, GuestError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<M>, GuestError>> {
        loop {
            match self.decoder.next().map_err(GuestError::Envelope)? {
                Some(Envelope::Message(bytes)) => {
                    let message = Codec::Proto.decode(&bytes).map_err(GuestError::Codec)?;
                    return Poll::Ready(Ok(Some(message)));
                }
                Some(Envelope::End(bytes)) => {
                    return Poll::Ready(
                        Status::from_end_of_stream(&bytes)
                            .map(|()| None)
                            .map_err(GuestError::Refused),
                    );
                }
                None => match std::task::ready!(self.answer.poll_piece(cx)) {
                    Some(piece) => self.decoder.push(&piece?),
                    None => return Poll::Ready(Err(GuestError::Missing("end"))),
                },
            }
        }
    }

    /// The answer, for another request on its connection.
    pub(super) fn into_answer(self) -> Answer {
        self.answer
    }
}
