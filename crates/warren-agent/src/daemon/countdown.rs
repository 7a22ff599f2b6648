//! Waiting that stands still while the sandbox is paused.
//!
//! A frozen process does not run, but the monotonic clock does: after a pause of a minute every
//! timer of a minute would fire at once and kill the commands it belongs to. So a wait is made of
//! steps, and a step counts for its own length however long it really took.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

/// What a pause can take from a wait, at most.
const STEP: Duration = Duration::from_secs(1);

/// Ends after a time of running.
#[derive(Debug)]
pub(crate) struct Countdown {
    left: Duration,
    step: Pin<Box<Sleep>>,
}

impl Countdown {
    pub(crate) fn new(time: Duration) -> Self {
        let step = time.min(STEP);
        Self { left: time - step, step: Box::pin(tokio::time::sleep(step)) }
    }
}

impl Future for Countdown {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.step.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let step = self.left.min(STEP);
            if step.is_zero() {
                return Poll::Ready(());
            }
            self.left -= step;
            self.step = Box::pin(tokio::time::sleep(step));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_wait_takes_its_time() {
        for milliseconds in [0, 1, 999, 1000, 1001, 5500] {
            let (start, time) = (Instant::now(), Duration::from_millis(milliseconds));
            Countdown::new(time).await;
            assert_eq!(start.elapsed(), time);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_takes_no_more_than_a_step() {
        let mut countdown = Countdown::new(Duration::from_secs(10));
        let start = Instant::now();
        // What a thaw after five minutes looks like: the clock has gone on.
        tokio::time::advance(Duration::from_secs(300)).await;
        let pending =
            std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut countdown).poll(cx).is_pending()));
        assert!(pending.await);
        countdown.await;
        assert_eq!(start.elapsed(), Duration::from_secs(309));
    }
}
