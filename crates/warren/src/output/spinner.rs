//! A sign on a terminal that something takes its time.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::Output;

/// What is quicker is not worth a sign.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long each picture stays.
const STEP: Duration = Duration::from_millis(100);

const PICTURES: [char; 4] = ['|', '/', '-', '\\'];

/// To the beginning of the line, and nothing right of it.
const CLEAR: &str = "\r\x1b[2K";

/// Whether there is a sign on the terminal's last line. There is one terminal.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// Waits for `work`; where a terminal is at standard error it says `text` when that takes longer
/// than half a second, and leaves nothing of it.
pub(crate) async fn waiting<T>(output: Output, text: &str, work: impl Future<Output = T>) -> T {
    telling(output, || text.to_owned(), work).await
}

/// As [`waiting`], with a text that changes.
pub(crate) async fn telling<T>(
    output: Output,
    text: impl Fn() -> String,
    work: impl Future<Output = T>,
) -> T {
    if output.quiet || output.json || !output.lively || !io::stderr().is_terminal() {
        return work.await;
    }
    let mut work = std::pin::pin!(work);
    let mut pause = PATIENCE;
    let mut sign = None;
    for picture in PICTURES.iter().cycle() {
        tokio::select! {
            biased;
            result = &mut work => return result,
            () = tokio::time::sleep(pause) => {}
        }
        sign.get_or_insert_with(Sign::default).show(*picture, &text());
        pause = STEP;
    }
    unreachable!("the pictures repeat for ever")
}

/// Takes the sign away, so that something else can be said.
pub(super) fn clear() {
    if SHOWN.swap(false, Ordering::Relaxed) {
        write(CLEAR);
    }
}

/// The sign; dropping it takes it away.
#[derive(Debug, Default)]
struct Sign;

impl Sign {
    fn show(&mut self, picture: char, text: &str) {
        SHOWN.store(true, Ordering::Relaxed);
        write(&format!("{CLEAR}{picture} {text}"));
    }
}

impl Drop for Sign {
    fn drop(&mut self) {
        clear();
    }
}

fn write(text: &str) {
    let mut stream = io::stderr().lock();
    // A terminal that is gone needs no sign.
    drop(stream.write_all(text.as_bytes()).and_then(|()| stream.flush()));
}
