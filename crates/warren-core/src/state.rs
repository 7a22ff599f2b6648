//! The states of a sandbox and the one function that changes them.
//!
//! ```text
//!              ParkReady            Claim
//!   Creating ------------> Parked ---------> Creating
//!      |                                        |
//!      |  AgentReady                            |  AgentReady
//!      +------------------> Running <-----------+
//!                            |   ^
//!                      Pause |   | PauseFailed, Resumed
//!                            v   |
//!                         Pausing   Resuming
//!                            |       ^    |
//!                     Frozen |       |    | ResumeFailed
//!                            v       |    |
//!                          Paused ---+ <--+
//!                                Resume
//!
//!   every living state --Stop--> Stopping --Exited--> Stopped
//!   every living state --Exited--> Stopped
//!   every living state --Fault--> Failed
//!
//!              Start              AgentReady
//!   Stopped ------------> Starting ------------> Running
//!      ^                     |
//!      +---------------------+  StartFailed
//! ```
//!
//! *Living* is everything but `Stopped` and `Failed`. Nothing leaves `Failed`, and only a start
//! leaves `Stopped`. What is deliberately
//! not here: who may cause an event, and what is done on the host because of one.

use std::fmt;

/// What a sandbox is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The guest is being made, or a parked one is being handed out.
    Creating,
    /// Fully started and nobody's: it waits in the warm pool.
    Parked,
    /// Its processes run and its agent answers.
    Running,
    /// The runtime was asked to freeze it; new calls are refused from here on.
    Pausing,
    /// Its processes are frozen; memory is kept.
    Paused,
    /// The runtime was asked to let it go on.
    Resuming,
    /// The runtime was asked to remove it.
    Stopping,
    /// It ended, by itself or on request. Where its files were kept it can be started again.
    Stopped,
    /// A guest is being made on its files.
    Starting,
    /// It was lost to a fault of the host or of Warren.
    Failed,
}

/// What can happen to a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The agent answered its initialisation for an owner: the guest is usable.
    AgentReady,
    /// The agent answered its initialisation for the warm pool.
    ParkReady,
    /// A parked sandbox got an owner.
    Claim,
    /// Somebody, or the deadline, wants it frozen.
    Pause,
    /// The runtime froze it.
    Frozen,
    /// The runtime could not freeze it.
    PauseFailed,
    /// Somebody wants it to go on.
    Resume,
    /// The runtime let it go on.
    Resumed,
    /// The runtime could not let it go on.
    ResumeFailed,
    /// Somebody, or the deadline, wants it gone.
    Stop,
    /// Somebody wants a stopped one to run again.
    Start,
    /// The runtime or the agent could not start it again.
    StartFailed,
    /// Somebody gives it another lifetime.
    Extend,
    /// Somebody wants a snapshot of it, or a fork.
    Capture,
    /// Somebody wants it to go back to a snapshot.
    RollBack,
    /// The guest has no process any more.
    Exited,
    /// The host failed it.
    Fault,
}

impl State {
    /// The one place where a sandbox's state may change.
    ///
    /// # Errors
    ///
    /// [`Refused`] when the event is not allowed in this state; nothing has changed then.
    pub fn on(self, event: Event) -> Result<State, Refused> {
        use {Event as E, State as S};
        Ok(match (self, event) {
            (S::Creating | S::Starting, E::AgentReady)
            | (S::Pausing, E::PauseFailed)
            | (S::Resuming, E::Resumed) => S::Running,
            (S::Creating, E::ParkReady) => S::Parked,
            (S::Parked, E::Claim) => S::Creating,
            (S::Running, E::Pause) => S::Pausing,
            (S::Pausing, E::Frozen) | (S::Resuming, E::ResumeFailed) => S::Paused,
            (S::Paused, E::Resume) => S::Resuming,
            (S::Stopped, E::Start) => S::Starting,
            (S::Starting, E::StartFailed) => S::Stopped,
            (
                from @ (S::Running | S::Paused | S::Stopped),
                E::Extend | E::Capture | E::RollBack,
            ) => from,
            (from, E::Stop) if from.is_living() && from != S::Stopping => S::Stopping,
            (from, E::Exited) if from.is_living() => S::Stopped,
            (from, E::Fault) if from.is_living() => S::Failed,
            (from, event) => return Err(Refused { from, event }),
        })
    }

    /// Whether a guest may exist in this state.
    #[must_use]
    pub fn is_living(self) -> bool {
        !matches!(self, State::Stopped | State::Failed)
    }

    /// Whether there is a guest to speak with, now or once it is thawed.
    #[must_use]
    pub fn has_guest(self) -> bool {
        matches!(self, State::Running | State::Pausing | State::Paused | State::Resuming)
    }

    /// The name used in the database, in logs and in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Creating => "creating",
            State::Parked => "parked",
            State::Running => "running",
            State::Pausing => "pausing",
            State::Paused => "paused",
            State::Resuming => "resuming",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
            State::Starting => "starting",
            State::Failed => "failed",
        }
    }

    /// The state with this [`State::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<State> {
        ALL.into_iter().find(|state| state.name() == name)
    }
}

/// Every state, for look-ups by name.
const ALL: [State; 10] = [
    State::Creating,
    State::Parked,
    State::Running,
    State::Pausing,
    State::Paused,
    State::Resuming,
    State::Stopping,
    State::Stopped,
    State::Starting,
    State::Failed,
];

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Event::AgentReady | Event::ParkReady => "made ready",
            Event::Claim => "handed out",
            Event::Pause | Event::Frozen | Event::PauseFailed => "paused",
            Event::Resume | Event::Resumed | Event::ResumeFailed => "resumed",
            Event::Start | Event::StartFailed => "started",
            Event::Extend => "extended",
            Event::Capture => "captured",
            Event::RollBack => "taken back to a snapshot",
            Event::Stop | Event::Exited => "stopped",
            Event::Fault => "failed",
        })
    }
}

/// The event is not allowed in this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sandbox that is {from} cannot be {event}")]
pub struct Refused {
    /// The state, which has not changed.
    pub from: State,
    /// What was asked.
    pub event: Event,
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::*;

    const EVENTS: [Event; 15] = [
        Event::AgentReady,
        Event::ParkReady,
        Event::Claim,
        Event::Pause,
        Event::Frozen,
        Event::PauseFailed,
        Event::Resume,
        Event::Resumed,
        Event::ResumeFailed,
        Event::Start,
        Event::StartFailed,
        Event::Extend,
        Event::Stop,
        Event::Exited,
        Event::Fault,
    ];

    fn walk(events: &[Event]) -> Vec<(State, Event, State)> {
        let mut at = State::Creating;
        let mut steps = Vec::new();
        for &event in events {
            let next = at.on(event).unwrap_or(at);
            steps.push((at, event, next));
            at = next;
        }
        steps
    }

    proptest! {
        #[test]
        fn only_a_start_leaves_an_end(
            events in prop::collection::vec(select(&EVENTS[..]), 0..64),
        ) {
            for (from, event, to) in walk(&events) {
                let started = (from, event) == (State::Stopped, Event::Start);
                prop_assert!(from.is_living() || from == to || started);
            }
        }

        #[test]
        fn a_guest_that_is_gone_always_ends_it(
            events in prop::collection::vec(select(&EVENTS[..]), 0..64),
        ) {
            let last = walk(&events).last().map_or(State::Creating, |step| step.2);
            if last.is_living() {
                prop_assert_eq!(last.on(Event::Exited), Ok(State::Stopped));
                prop_assert_eq!(last.on(Event::Fault), Ok(State::Failed));
            }
        }

        #[test]
        fn running_comes_only_from_an_answer_or_a_way_back(
            events in prop::collection::vec(select(&EVENTS[..]), 0..64),
        ) {
            for (from, event, to) in walk(&events) {
                if to == State::Running && from != to {
                    prop_assert!(matches!(
                        (from, event),
                        (State::Creating | State::Starting, Event::AgentReady)
                            | (State::Pausing, Event::PauseFailed)
                            | (State::Resuming, Event::Resumed)
                    ));
                }
                if to == State::Parked && from != to {
                    prop_assert_eq!((from, event), (State::Creating, Event::ParkReady));
                }
            }
        }

        #[test]
        fn a_stop_is_never_taken_back(
            events in prop::collection::vec(select(&EVENTS[..]), 0..64),
        ) {
            for (from, _, to) in walk(&events) {
                if from == State::Stopping {
                    prop_assert!(matches!(to, State::Stopping | State::Stopped | State::Failed));
                }
            }
        }
    }

    #[test]
    fn pausing_a_stopped_sandbox_is_refused() {
        let refused = State::Stopped.on(Event::Pause).unwrap_err();
        assert_eq!(refused.to_string(), "a sandbox that is stopped cannot be paused");
    }

    #[test]
    fn every_name_reads_back() {
        for state in ALL {
            assert_eq!(State::from_name(state.name()), Some(state));
        }
    }
}
