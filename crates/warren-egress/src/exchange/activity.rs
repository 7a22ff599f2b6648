//! Whether anything happens on a connection: one on which nothing does ends, and gives its place
//! to another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::{gate::Patience, relay};

/// What happens on a client's connection.
///
/// Bytes are counted on the side of the internet and not on the client's: a client of HTTP/2
/// answers pings for as long as it runs, whether or not somebody still uses the connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    moved: AtomicU64,
    open: AtomicUsize,
}

/// A request whose response is not over. It is when this is dropped.
#[derive(Debug)]
pub(super) struct Open(Arc<Activity>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Activity {
    /// A request begins.
    pub(super) fn request(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.moved(1);
        Open(Arc::clone(self))
    }

    /// Something has happened: so many bytes went in either direction.
    pub(super) fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns when nothing has happened for too long: less between two requests than while one is
    /// open, and least when the client has `closed` its side, for it may be gone altogether.
    pub(super) async fn quiet(&self, patience: &Patience, closed: impl Future<Output = ()>) {
        let mut closed = std::pin::pin!(closed);
        let mut is_closed = false;
        let (mut before, mut since) = (self.moved.load(Ordering::Relaxed), Instant::now());
        loop {
            tokio::select! {
                () = sleep(patience.shortest()) => {}
                () = closed.as_mut(), if !is_closed => {
                    (is_closed, since) = (true, Instant::now());
                }
            }
            let now = self.moved.load(Ordering::Relaxed);
            if now != before {
                (before, since) = (now, Instant::now());
            } else if since.elapsed() >= self.longest(patience, is_closed) {
                return;
            }
        }
    }

    /// Returns when nothing has happened for this long; twice that at most.
    pub(super) async fn idle(&self, idle: Duration) {
        relay::idle_for(&self.moved, idle).await;
    }

    fn longest(&self, patience: &Patience, is_closed: bool) -> Duration {
        if is_closed {
            patience.closed
        } else if self.open.load(Ordering::Relaxed) == 0 {
            patience.between
        } else {
            patience.idle
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const PATIENCE: Patience = Patience {
        idle: Duration::from_secs(1000),
        between: Duration::from_secs(100),
        closed: Duration::from_secs(10),
    };

    async fn seconds(activity: &Activity, closed: impl Future<Output = ()>) -> u64 {
        let began = Instant::now();
        activity.quiet(&PATIENCE, closed).await;
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn how_long_nothing_may_happen_follows_from_what_is_waited_for() {
        let activity = Arc::new(Activity::default());
        assert_eq!(seconds(&activity, pending()).await, 100);
        let open = activity.request();
        assert_eq!(seconds(&activity, pending()).await, 1000);
        assert_eq!(seconds(&activity, ready(())).await, 10);
        drop(open);
        assert_eq!(seconds(&activity, pending()).await, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_begins_the_time_anew() {
        let activity = Arc::new(Activity::default());
        let works = async {
            for _ in 0..20 {
                sleep(Duration::from_secs(9)).await;
                activity.moved(1);
            }
        };
        let (waited, ()) = tokio::join!(seconds(&activity, ready(())), works);
        assert!((180..=200).contains(&waited), "{waited}");
    }
}
