//! Messages between a server, its keeper and the guests that are being set up.
//!
//! Every message is one datagram of fixed shape: a tag of one byte and then fields, integers in
//! little-endian order. They hold no text from callers but a host name, no environment and no
//! secret: what the keeper knows, every guest forked from it has in its memory.
//!
//! Descriptors travel beside a message (`SCM_RIGHTS`); each message says in which order.
//!
//! # Source
//!
//! `docs/adr/0001-keeper.md`.

mod codec;

/// The version of these messages. A server talks to a keeper of its own version alone; an older
/// one keeps its guests until they end.
pub const VERSION: u32 = 1;

/// The largest message in bytes.
pub const MAX_MESSAGE: usize = 4096;

/// The most mounts that one guest is given.
pub const MAX_MOUNTS: usize = 16;

/// Longest host name in bytes, as in `sethostname(2)`.
pub const MAX_HOSTNAME: usize = 64;

/// Longest mount point in bytes.
pub const MAX_MOUNT_POINT: usize = 256;

/// What a descriptor that comes with [`Request::Fork`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// The guest's end of its own channel, on which [`Guest`] messages come.
    Channel = 1,
    /// The network namespace to be born in.
    Network = 2,
    /// The cgroup v2 directory to be born in.
    CgroupDirectory = 3,
    /// A cgroup v1 `cgroup.procs` file, or a v2 one where being born there is not possible.
    CgroupProcesses = 4,
    /// The v1 file `freezer.state`, kept by the keeper.
    FreezerV1 = 5,
    /// The file that counts out-of-memory kills (`memory.oom_control` or `memory.events`), kept.
    OomCount = 6,
    /// The v2 file `cgroup.freeze`, kept by the keeper.
    FreezerV2 = 7,
}

/// The ids that a guest's user namespace is given: `0..count` inside are `base..base+count`
/// outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first id outside.
    pub base: u32,
    /// How many.
    pub count: u32,
}

/// What a server asks of its keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The first message of a connection; answered by [`Event::Hello`] and one [`Event::Guest`] for
    /// each living guest, then [`Event::Known`].
    Hello {
        /// [`VERSION`] of the sender.
        version: u32,
    },
    /// Forks a guest that waits for [`Guest::Prepare`]. Descriptors: one for each of `roles`.
    Fork {
        /// The guest's number on this host.
        slot: u32,
        /// Its ids.
        ids: IdRange,
        /// Whether the guest may set supplementary groups (false for single-id maps).
        groups: bool,
        /// Its `oom_score_adj`, 0 to 1000.
        oom_score: u16,
        /// What the descriptors are, in order.
        roles: Vec<Role>,
    },
    /// Sets or clears (`at_ns` 0) when a guest must end.
    Deadline {
        /// Which guest.
        slot: u32,
        /// `CLOCK_BOOTTIME`, in nanoseconds.
        at_ns: u64,
        /// Whether to freeze instead of to kill.
        freeze: bool,
    },
    /// Kills a guest, also a frozen one.
    Kill {
        /// Which guest.
        slot: u32,
    },
    /// The keeper ends as soon as it has no guest; it accepts no more forks.
    Drain,
}

/// How a guest's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The exit status, or the signal's number where `signaled`.
    pub code: i32,
    /// Whether a signal ended it.
    pub signaled: bool,
    /// What the keeper itself did to it before, if anything.
    pub cause: Cause,
    /// Processes killed for want of memory during its life.
    pub oom_kills: u64,
}

/// What the keeper did to a guest before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// Nothing: it ended by itself or by the kernel.
    Own = 0,
    /// [`Request::Kill`].
    Killed = 1,
    /// [`Request::Deadline`].
    Deadline = 2,
}

/// What a keeper tells its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Answers [`Request::Hello`].
    Hello {
        /// [`VERSION`] of the keeper.
        version: u32,
        /// Its pid.
        pid: u32,
        /// How many guests it has forked so far.
        forks: u32,
    },
    /// One living guest.
    Guest {
        /// Its number.
        slot: u32,
        /// Its pid on the host.
        pid: u32,
    },
    /// Every living guest has been named.
    Known,
    /// A guest was forked. Descriptors: its pidfd, its user and its mount namespace.
    Forked {
        /// Its number.
        slot: u32,
        /// Its pid on the host.
        pid: u32,
    },
    /// A guest could not be forked, and nothing of it is left.
    Failed {
        /// Its number.
        slot: u32,
        /// The step that failed.
        step: Step,
        /// The system's error number.
        errno: i32,
    },
    /// A guest has ended and was reaped.
    Exited {
        /// Its number.
        slot: u32,
        /// Its pid on the host, as the slot may have a new guest already.
        pid: u32,
        /// How.
        ending: Ending,
    },
}

/// What a server tells a guest that is not yet running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guest {
    /// Makes everything that does not depend on the image. Descriptors: the envd listener and the
    /// control listener. Answered by [`Progress`].
    Prepare {
        /// Size of `/dev/shm` in bytes.
        shm_bytes: u64,
        /// Size of `/run` in bytes.
        run_bytes: u64,
        /// Which cgroup view to mount below `/sys/fs/cgroup`.
        cgroup_view: CgroupView,
    },
    /// Takes its root and becomes the agent. Descriptors: one mount for each of `mounts`.
    /// Answered by [`Progress`].
    Bind {
        /// No capability, no new privileges, never root.
        strict: bool,
        /// Only one id is mapped: everything runs as it.
        single_id: bool,
        /// Most open files of one process.
        open_files: u32,
        /// Most bytes of data of one process; 0 for no limit. Used where no cgroup limits memory.
        data_bytes: u64,
        /// Most processes; 0 for no limit. Used where no cgroup limits them.
        processes: u32,
        /// The guest's host name, at most [`MAX_HOSTNAME`] bytes.
        hostname: String,
        /// Where each mount goes; the first is the root, named `/`.
        mounts: Vec<String>,
        /// How many of them, from the end, are directories of the host: their places are looked up
        /// inside the new root, and made where they are missing.
        volumes: u8,
    },
}

/// Which cgroup files a guest sees of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CgroupView {
    /// None.
    None = 0,
    /// The v1 hierarchies memory, cpu and pids.
    V1 = 1,
    /// The unified hierarchy.
    V2 = 2,
}

/// What a guest answers while it is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The step asked for is done.
    Done,
    /// It is not, and the guest has ended.
    Failed {
        /// The step that failed.
        step: Step,
        /// The system's error number.
        errno: i32,
    },
}

/// One step of making a guest, for error messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// The message itself could not be used.
    Message = 0,
    /// Entering the network namespace.
    Network = 1,
    /// `clone3`.
    Fork = 2,
    /// Writing the id maps.
    IdMap = 3,
    /// Joining the cgroup.
    Cgroup = 4,
    /// Taking root's ids inside.
    Identity = 5,
    /// The cgroup namespace and its view.
    CgroupView = 6,
    /// Mounting `/proc`.
    Proc = 7,
    /// Making the terminals' filesystem.
    Terminals = 8,
    /// Making memory filesystems.
    Memory = 9,
    /// Leaving the host's tree.
    Leave = 10,
    /// Attaching the root and the other mounts.
    Mounts = 11,
    /// `pivot_root`.
    Pivot = 12,
    /// Setting the host name.
    Hostname = 13,
    /// Setting resource limits.
    Limits = 14,
    /// Dropping capabilities.
    Capabilities = 15,
    /// Loading the system call filter.
    Filter = 16,
    /// Starting the agent's services.
    Agent = 17,
    /// Attaching directories of the host.
    Volumes = 18,
}

impl Step {
    const ALL: [Self; 19] = [
        Self::Message,
        Self::Network,
        Self::Fork,
        Self::IdMap,
        Self::Cgroup,
        Self::Identity,
        Self::CgroupView,
        Self::Proc,
        Self::Terminals,
        Self::Memory,
        Self::Leave,
        Self::Mounts,
        Self::Pivot,
        Self::Hostname,
        Self::Limits,
        Self::Capabilities,
        Self::Filter,
        Self::Agent,
        Self::Volumes,
    ];

    /// What was being done, to go after "could not".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "understand the request",
            Self::Network => "enter the network namespace",
            Self::Fork => "fork the guest into its namespaces",
            Self::IdMap => "map the guest's ids",
            Self::Cgroup => "join the cgroup",
            Self::Identity => "take root's ids inside the guest",
            Self::CgroupView => "mount the guest's cgroup view",
            Self::Proc => "mount the guest's /proc",
            Self::Terminals => "mount the guest's /dev/pts",
            Self::Memory => "mount the guest's /run and /dev/shm",
            Self::Leave => "leave the host's mounts",
            Self::Mounts => "attach the guest's mounts",
            Self::Pivot => "change to the guest's root",
            Self::Hostname => "set the guest's host name",
            Self::Limits => "set the guest's resource limits",
            Self::Capabilities => "drop the guest's capabilities",
            Self::Filter => "load the guest's system call filter",
            Self::Agent => "start the guest agent",
            Self::Volumes => "attach directories of the host in the guest",
        }
    }
}

/// The bytes are no message of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a keeper message")]
pub struct InvalidMessage;

/// Messages that travel as datagrams.
pub trait Message: Sized {
    /// The message as bytes, at most [`MAX_MESSAGE`].
    fn encode(&self) -> Vec<u8>;

    /// Reads a message back.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`] for anything that [`Message::encode`] does not make.
    fn decode(bytes: &[u8]) -> Result<Self, InvalidMessage>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<M: Message + PartialEq + std::fmt::Debug>(message: &M) {
        let bytes = message.encode();
        assert!(bytes.len() <= MAX_MESSAGE);
        assert_eq!(M::decode(&bytes).as_ref(), Ok(message));
        for end in 0..bytes.len() {
            assert_eq!(M::decode(&bytes[..end]), Err(InvalidMessage), "cut at {end}");
        }
        assert_eq!(M::decode(&[bytes, vec![0]].concat()), Err(InvalidMessage));
    }

    #[test]
    fn requests_read_back() {
        check(&Request::Hello { version: VERSION });
        check(&Request::Fork {
            slot: 7,
            ids: IdRange { base: 1 << 30, count: 65_536 },
            groups: true,
            oom_score: 100,
            roles: vec![Role::Channel, Role::Network, Role::OomCount],
        });
        check(&Request::Deadline { slot: 7, at_ns: u64::MAX, freeze: true });
        check(&Request::Kill { slot: 0 });
        check(&Request::Drain);
    }

    #[test]
    fn events_read_back() {
        check(&Event::Hello { version: 1, pid: 2, forks: 3 });
        check(&Event::Guest { slot: 1, pid: 2 });
        check(&Event::Known);
        check(&Event::Forked { slot: 1, pid: 2 });
        check(&Event::Failed { slot: 1, step: Step::Filter, errno: 13 });
        let ending = Ending { code: 9, signaled: true, cause: Cause::Deadline, oom_kills: 3 };
        check(&Event::Exited { slot: 1, pid: 2, ending });
    }

    #[test]
    fn guest_messages_read_back() {
        check(&Guest::Prepare { shm_bytes: 1, run_bytes: 2, cgroup_view: CgroupView::V1 });
        check(&Guest::Bind {
            strict: true,
            single_id: false,
            open_files: 1024,
            data_bytes: 0,
            processes: 0,
            hostname: "sb-abcdefgh01234567".into(),
            mounts: vec!["/".into(), "/usr".into()],
            volumes: 1,
        });
        check(&Progress::Done);
        check(&Progress::Failed { step: Step::Agent, errno: -1 });
    }

    #[test]
    fn every_step_is_found_by_its_number() {
        for (number, expected) in Step::ALL.iter().enumerate() {
            assert_eq!(*expected as usize, number);
        }
    }
}
