//! Waiting for a server that went away, for a while.

use std::time::Duration;

use warren_api::{
    Code,
    client::{ClientError, RemoteError},
};

/// How often in a row something may fail: with the pauses below, for half a minute.
const ATTEMPTS: u32 = 12;

/// The first pause; each further one is twice as long, up to a limit.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Something worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Waits before the next attempt, or gives the error back when there is to be none.
    pub(crate) async fn after(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.failures += 1;
        if self.failures == ATTEMPTS || !may_come_back(&error) {
            return Err(error);
        }
        let pause = FIRST_PAUSE * 2_u32.pow(self.failures - 1);
        tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
        Ok(())
    }
}

/// Whether the same may work later. This machine's own server is started by the attempt itself,
/// so that one which could not be reached will not be there later either.
fn may_come_back(error: &ClientError) -> bool {
    match error {
        ClientError::Transport { .. } => true,
        ClientError::Refused(body) => body.code == Code::Unavailable,
        ClientError::Connect { source } => {
            let cause = source.get_ref().and_then(|cause| cause.downcast_ref());
            matches!(
                cause,
                Some(
                    RemoteError::NobodyListens { .. }
                        | RemoteError::Unreachable { .. }
                        | RemoteError::TooSlow { .. }
                )
            )
        }
        ClientError::Encode { .. } | ClientError::Decode { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[tokio::test]
    async fn what_can_not_mend_itself_is_not_waited_for() {
        let connect = |source| ClientError::Connect { source };
        let own = connect(io::Error::other("the server ended"));
        assert!(Backoff::default().after(own).await.is_err());
        let server = "http://127.0.0.1:1".to_owned();
        let source = io::ErrorKind::ConnectionRefused.into();
        let far = connect(RemoteError::NobodyListens { server, source }.into());
        assert!(Backoff::default().after(far).await.is_ok());
    }

    #[tokio::test]
    async fn there_is_an_end_to_patience() {
        let mut backoff = Backoff { failures: ATTEMPTS - 1 };
        assert!(backoff.after(ClientError::ended_early()).await.is_err());
        backoff.reset();
        assert!(backoff.after(ClientError::ended_early()).await.is_ok());
    }
}
