//! Signals, as people write them.

/// A signal: a number from 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(u8);

impl Signal {
    /// Ends a process; it cannot object.
    pub const KILL: Self = Self(9);

    /// Reads a signal's name, with or without `SIG`, or its number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        const NAMES: [(&str, u8); 31] = [
            ("HUP", 1),
            ("INT", 2),
            ("QUIT", 3),
            ("ILL", 4),
            ("TRAP", 5),
            ("ABRT", 6),
            ("BUS", 7),
            ("FPE", 8),
            ("KILL", 9),
            ("USR1", 10),
            ("SEGV", 11),
            ("USR2", 12),
            ("PIPE", 13),
            ("ALRM", 14),
            ("TERM", 15),
            ("STKFLT", 16),
            ("CHLD", 17),
            ("CONT", 18),
            ("STOP", 19),
            ("TSTP", 20),
            ("TTIN", 21),
            ("TTOU", 22),
            ("URG", 23),
            ("XCPU", 24),
            ("XFSZ", 25),
            ("VTALRM", 26),
            ("PROF", 27),
            ("WINCH", 28),
            ("IO", 29),
            ("PWR", 30),
            ("SYS", 31),
        ];
        if let Ok(number) = text.parse() {
            return (1..=64).contains(&number).then_some(Self(number));
        }
        let name = text.to_ascii_uppercase();
        let name = name.strip_prefix("SIG").unwrap_or(&name);
        NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, number)| Self(number))
    }

    /// Its number on Linux.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_by_name_and_number() {
        assert_eq!(Signal::parse("KILL"), Some(Signal::KILL));
        assert_eq!(Signal::parse("sigterm").map(Signal::number), Some(15));
        assert_eq!(Signal::parse("64").map(Signal::number), Some(64));
        for bad in ["", "0", "65", "SIG", "NOPE", "-1"] {
            assert_eq!(Signal::parse(bad), None, "{bad}");
        }
    }
}
