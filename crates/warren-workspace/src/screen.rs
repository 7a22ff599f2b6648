//! What an agent does, as its screen shows it.
//!
//! ```text
//!   output            quiet, a question shows          quiet, none shows
//!   -> Working        -> Waiting                       -> Idle
//! ```
//!
//! A program that says what it does itself knows better; for the others this is a guess, made from
//! the texts that its profile names.

use std::time::Duration;

use crate::{Profile, text::Cleaner};

/// How long nothing is written until a program does not work any more. Programs that work turn a
/// wheel several times in a second.
const QUIET: Duration = Duration::from_millis(1500);

/// How many of the last lines are looked at, and of how many bytes: those that a screen shows.
const LINES: usize = 40;
const MOST_BYTES: usize = 16 << 10;

/// What a program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It writes, or has not begun.
    Working,
    /// It asks something.
    Waiting,
    /// It is done and takes another prompt.
    Idle,
    /// It has ended, with this status.
    Exited(i32),
}

/// The end of what a program wrote.
#[derive(Debug, Default)]
pub struct Screen {
    cleaner: Cleaner,
    tail: String,
    written_at: Option<Duration>,
}

impl Screen {
    /// Takes what the program wrote at `now`, on a clock that only goes forward.
    pub fn feed(&mut self, bytes: &[u8], now: Duration) {
        if bytes.is_empty() {
            return;
        }
        self.cleaner.feed(bytes, &mut self.tail);
        self.written_at = Some(now);
        if self.tail.len() > 2 * MOST_BYTES {
            let mut start = self.tail.len() - MOST_BYTES;
            while !self.tail.is_char_boundary(start) {
                start += 1;
            }
            self.tail = self.tail.split_off(start);
        }
    }

    /// What the terminal has been told, such as whether pastes are to be marked.
    pub fn cleaner(&self) -> &Cleaner {
        &self.cleaner
    }

    /// Whether a prompt can be typed: one of the profile's texts shows, or, where it names none, the
    /// program has written something and is quiet.
    pub fn is_ready(&self, profile: &Profile, now: Duration) -> bool {
        if profile.ready.is_empty() {
            return self.written_at.is_some() && self.is_quiet(now);
        }
        self.shows(&profile.ready)
    }

    /// What the program does, where it has not ended.
    pub fn activity(&self, profile: &Profile, now: Duration) -> Activity {
        if !self.is_quiet(now) {
            Activity::Working
        } else if self.shows(&profile.waiting) {
            Activity::Waiting
        } else if self.written_at.is_some() {
            Activity::Idle
        } else {
            Activity::Working
        }
    }

    /// The last `count` lines, oldest first.
    pub fn last_lines(&self, count: usize) -> Vec<&str> {
        let mut lines: Vec<_> = self.tail.lines().rev().take(count).collect();
        lines.reverse();
        lines
    }

    fn is_quiet(&self, now: Duration) -> bool {
        self.written_at.is_none_or(|at| now.saturating_sub(at) >= QUIET)
    }

    fn shows(&self, texts: &[String]) -> bool {
        let lines = self.last_lines(LINES);
        texts.iter().any(|text| lines.iter().any(|line| line.contains(text.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        let texts = |text: &str| vec![text.to_owned()];
        Profile {
            ready: texts("? for shortcuts"),
            waiting: texts("Proceed?"),
            ..Profile::default()
        }
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_program_works_asks_and_is_done() {
        let (profile, mut screen) = (profile(), Screen::default());
        assert_eq!(screen.activity(&profile, at(9000)), Activity::Working);
        assert!(!screen.is_ready(&profile, at(9000)));
        screen.feed(b"\x1b[2m? for \x1b[1mshortcuts\r\n", at(10_000));
        assert!(screen.is_ready(&profile, at(10_000)));
        assert_eq!(screen.activity(&profile, at(11_000)), Activity::Working);
        assert_eq!(screen.activity(&profile, at(12_000)), Activity::Idle);
        screen.feed(b"Proceed? [y/N] ", at(13_000));
        assert_eq!(screen.activity(&profile, at(13_500)), Activity::Working);
        assert_eq!(screen.activity(&profile, at(15_000)), Activity::Waiting);
        screen.feed("line\n".repeat(LINES + 1).as_bytes(), at(16_000));
        assert_eq!(screen.activity(&profile, at(20_000)), Activity::Idle);
    }

    #[test]
    fn a_program_without_texts_is_ready_when_it_is_quiet() {
        let (profile, mut screen) = (Profile::default(), Screen::default());
        assert!(!screen.is_ready(&profile, at(9000)));
        screen.feed(b"$ ", at(10_000));
        assert!(!screen.is_ready(&profile, at(10_500)));
        assert!(screen.is_ready(&profile, at(12_000)));
    }

    #[test]
    fn only_the_end_is_kept() {
        let mut screen = Screen::default();
        for _ in 0..100 {
            screen.feed("🦊 more\n".repeat(1000).as_bytes(), at(0));
        }
        assert!(screen.tail.len() <= 2 * MOST_BYTES);
        assert_eq!(screen.last_lines(2), ["🦊 more", "🦊 more"]);
    }
}
