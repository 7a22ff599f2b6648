//! Following the output of detached commands, and writing it down.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{
    LogSource,
    store::{Followed, Portion},
};
use crate::{
    config::LogConfig,
    exec::{Exec, ExecEnd, ExecEvent, OutputStream},
    shared::Shared,
};

/// How long output waits for more, so that what comes in drops is written down in pails.
const GATHER: Duration = Duration::from_millis(50);

/// How much is written down at once.
const PORTION_BYTES: usize = 256 << 10;

/// How long a command of an earlier server may take to be found again.
const REOPEN: Duration = Duration::from_secs(30);

/// Writes down what a new command does, until it or the server ends.
pub(crate) async fn follow(shared: Arc<Shared>, exec: Exec) {
    let mut follower = Follower::new(shared, exec, 0);
    follower.say("started".to_owned());
    follower.run().await;
}

/// Goes on with a command that an earlier server followed.
pub(crate) async fn resume(shared: Arc<Shared>, followed: Followed) {
    let Some(handle) = shared.any(followed.sandbox) else { return };
    let mut published = handle.watch();
    // Paused or stopped: nothing is written until it goes on, and then it may not be there.
    let running = published.wait_for(|it| it.state == crate::state::State::Running).await.is_ok();
    if !running {
        return;
    }
    let opened = Exec::reconnect(handle, followed.exec, followed.next);
    match tokio::time::timeout(REOPEN, opened).await {
        Ok(Ok(exec)) => Follower::new(shared, exec, followed.next).run().await,
        // The agent has forgotten it, or is another one by now.
        Ok(Err(_)) | Err(_) => close(&shared, followed).await,
    }
}

/// Says that a command cannot be followed any more.
async fn close(shared: &Shared, followed: Followed) {
    let lost = Bytes::from_static(b"ended; what it wrote last is not known");
    let portion = Portion {
        sandbox: followed.sandbox,
        exec: followed.exec,
        time: shared.clock.now(),
        pieces: vec![(LogSource::System, lost)],
        next: None,
        most_bytes: shared.config.logs.most_bytes,
    };
    if let Err(error) = shared.store.logs().append(portion).await {
        tracing::warn!(sandbox.id = %followed.sandbox, %error, "the log is incomplete");
    }
}

/// One command being followed.
struct Follower {
    shared: Arc<Shared>,
    exec: Exec,
    /// Where the next byte is expected in the command's output.
    next: u64,
    pieces: Vec<(LogSource, BytesMut)>,
    gathered: usize,
    bucket: Bucket,
}

/// Why gathering came to an end.
enum Pause {
    /// There is enough to be written down, or it waited long enough.
    Full,
    /// The command ended.
    Ended,
    /// Its stream did.
    Broken,
}

impl Follower {
    fn new(shared: Arc<Shared>, exec: Exec, next: u64) -> Self {
        let bucket = Bucket::new(&shared.config.logs);
        Self { shared, exec, next, pieces: Vec::new(), gathered: 0, bucket }
    }

    async fn run(&mut self) {
        loop {
            let pause = self.gather().await;
            let next = (!matches!(pause, Pause::Ended)).then_some(self.next);
            self.bucket.take(self.gathered).await;
            if let Err(error) = self.write(next).await {
                tracing::warn!(sandbox.id = %self.exec.sandbox(), %error, "a log ends early");
                return;
            }
            match pause {
                Pause::Full => {}
                Pause::Ended | Pause::Broken => return,
            }
        }
    }

    /// Reads until there is enough, or no more for a while.
    async fn gather(&mut self) -> Pause {
        let mut until = None;
        while self.gathered < PORTION_BYTES {
            let next = self.exec.next();
            let event = match until {
                // Nothing waits to be written: no hurry.
                None if self.pieces.is_empty() => next.await,
                _ => {
                    let until = *until.get_or_insert_with(|| Instant::now() + GATHER);
                    match tokio::time::timeout_at(until, next).await {
                        Ok(event) => event,
                        Err(_elapsed) => return Pause::Full,
                    }
                }
            };
            match event {
                Ok(Some(ExecEvent::Output { stream, bytes, offset })) => {
                    self.take(stream, &bytes, offset);
                }
                Ok(Some(ExecEvent::Keepalive)) => {}
                Ok(Some(ExecEvent::End(end))) => {
                    self.say(sentence(&end));
                    return Pause::Ended;
                }
                Ok(None) => return Pause::Broken,
                Err(error) => {
                    // Its sandbox was stopped or removed, or its agent is at fault.
                    tracing::debug!(sandbox.id = %self.exec.sandbox(), %error, "a log ends");
                    return Pause::Broken;
                }
            }
        }
        Pause::Full
    }

    fn take(&mut self, stream: OutputStream, bytes: &[u8], offset: u64) {
        if offset > self.next {
            self.say(format!("{} bytes of its output are lost", offset - self.next));
        }
        self.next = offset + bytes.len() as u64;
        self.gathered += bytes.len();
        let source = match stream {
            OutputStream::Stdout => LogSource::Stdout,
            OutputStream::Stderr => LogSource::Stderr,
            OutputStream::Terminal => LogSource::Terminal,
        };
        match self.pieces.last_mut() {
            Some((last, text)) if *last == source => text.extend_from_slice(bytes),
            _ => self.pieces.push((source, bytes.into())),
        }
    }

    fn say(&mut self, sentence: String) {
        self.pieces.push((LogSource::System, sentence.as_bytes().into()));
    }

    async fn write(&mut self, next: Option<u64>) -> Result<(), crate::store::StoreError> {
        self.gathered = 0;
        let pieces = std::mem::take(&mut self.pieces);
        if pieces.is_empty() && next.is_some() {
            return Ok(());
        }
        let sandbox = self.exec.sandbox();
        if self.shared.any(sandbox).is_none() {
            // It was removed, and its log with it.
            return Ok(());
        }
        let portion = Portion {
            sandbox,
            exec: self.exec.id(),
            time: self.shared.clock.now(),
            pieces: pieces.into_iter().map(|(source, text)| (source, text.freeze())).collect(),
            next,
            most_bytes: self.shared.config.logs.most_bytes,
        };
        self.shared.store.logs().append(portion).await
    }
}

/// How a command ended, in words.
fn sentence(end: &ExecEnd) -> String {
    match (end.timed_out, end.out_of_memory, end.signal) {
        (true, ..) => "killed: its time was over".to_owned(),
        (_, Some(limit), _) => format!("killed: the sandbox went over its {limit} bytes of memory"),
        (_, _, Some(signal)) => format!("ended by signal {signal}"),
        _ => format!("ended with status {}", end.exit_code),
    }
}

/// How fast a command's output may be taken: at once as much as the bucket holds, then as much as
/// flows into it.
struct Bucket {
    bytes_per_second: f64,
    holds: f64,
    level: f64,
    seen: Instant,
}

impl Bucket {
    fn new(config: &LogConfig) -> Self {
        let holds = config.burst_bytes as f64;
        let bytes_per_second = config.bytes_per_second as f64;
        Self { bytes_per_second, holds, level: holds, seen: Instant::now() }
    }

    /// Waits until so many bytes may be taken.
    async fn take(&mut self, bytes: usize) {
        let wait = self.debt(bytes, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// How long to wait for so many bytes.
    fn debt(&mut self, bytes: usize, now: Instant) -> Duration {
        let flowed = now.duration_since(self.seen).as_secs_f64() * self.bytes_per_second;
        self.seen = now;
        self.level = (self.level + flowed).min(self.holds) - bytes as f64;
        match self.level < 0.0 && self.bytes_per_second > 0.0 {
            true => Duration::from_secs_f64(-self.level / self.bytes_per_second),
            false => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_what_it_holds_and_then_what_flows_in() {
        let config = LogConfig { bytes_per_second: 100, burst_bytes: 50, ..LogConfig::default() };
        let mut bucket = Bucket::new(&config);
        let start = bucket.seen;
        assert_eq!(bucket.debt(50, start), Duration::ZERO);
        assert_eq!(bucket.debt(100, start), Duration::from_secs(1));
        assert_eq!(bucket.debt(0, start + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(bucket.debt(50, start + Duration::from_secs(9)), Duration::ZERO);
    }

    #[test]
    fn an_end_is_said_in_words() {
        let check = |end: ExecEnd, words| assert_eq!(sentence(&end), words);
        let end = ExecEnd::default;
        check(ExecEnd { exit_code: 3, ..end() }, "ended with status 3");
        check(ExecEnd { signal: Some(9), exit_code: 137, ..end() }, "ended by signal 9");
        check(ExecEnd { timed_out: true, signal: Some(9), ..end() }, "killed: its time was over");
    }
}
