//! Keeper messages as bytes, and back.

use std::ops::RangeInclusive;

use super::{
    Cause, CgroupView, Ending, Event, Guest, IdRange, InvalidMessage, MAX_HOSTNAME,
    MAX_MOUNT_POINT, MAX_MOUNTS, Message, Progress, Request, Role, Step,
};

impl Message for Request {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Self::Hello { version } => out.u8(1).u32(*version),
            Self::Fork { slot, ids, groups, oom_score, roles } => {
                out.u8(2).u32(*slot).u32(ids.base).u32(ids.count).bool(*groups);
                out.u16(*oom_score).count(roles.len());
                roles.iter().fold(&mut out, |out, role| out.u8(*role as u8))
            }
            Self::Deadline { slot, at_ns, freeze } => {
                out.u8(3).u32(*slot).u64(*at_ns).bool(*freeze)
            }
            Self::Kill { slot } => out.u8(4).u32(*slot),
            Self::Drain => out.u8(5),
        };
        out.0
    }

    fn decode(bytes: &[u8]) -> Result<Self, InvalidMessage> {
        let mut from = Reader(bytes);
        let message = match from.u8()? {
            1 => Self::Hello { version: from.u32()? },
            2 => Self::Fork {
                slot: from.u32()?,
                ids: IdRange { base: from.u32()?, count: from.u32()? },
                groups: from.bool()?,
                oom_score: from.u16()?,
                roles: from.list(16, |from| role(from.u8()?))?,
            },
            3 => Self::Deadline { slot: from.u32()?, at_ns: from.u64()?, freeze: from.bool()? },
            4 => Self::Kill { slot: from.u32()? },
            5 => Self::Drain,
            _ => return Err(InvalidMessage),
        };
        from.end(message)
    }
}

fn role(byte: u8) -> Result<Role, InvalidMessage> {
    Ok(match byte {
        1 => Role::Channel,
        2 => Role::Network,
        3 => Role::CgroupDirectory,
        4 => Role::CgroupProcesses,
        5 => Role::FreezerV1,
        6 => Role::OomCount,
        7 => Role::FreezerV2,
        _ => return Err(InvalidMessage),
    })
}

fn step(byte: u8) -> Result<Step, InvalidMessage> {
    Step::ALL.get(usize::from(byte)).copied().ok_or(InvalidMessage)
}

impl Message for Event {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Self::Hello { version, pid, forks } => out.u8(1).u32(*version).u32(*pid).u32(*forks),
            Self::Guest { slot, pid } => out.u8(2).u32(*slot).u32(*pid),
            Self::Known => out.u8(3),
            Self::Forked { slot, pid } => out.u8(4).u32(*slot).u32(*pid),
            Self::Failed { slot, step, errno } => out.u8(5).u32(*slot).u8(*step as u8).i32(*errno),
            Self::Exited { slot, pid, ending } => {
                out.u8(6).u32(*slot).u32(*pid).i32(ending.code).bool(ending.signaled);
                out.u8(ending.cause as u8).u64(ending.oom_kills)
            }
        };
        out.0
    }

    fn decode(bytes: &[u8]) -> Result<Self, InvalidMessage> {
        let mut from = Reader(bytes);
        let message = match from.u8()? {
            1 => Self::Hello { version: from.u32()?, pid: from.u32()?, forks: from.u32()? },
            2 => Self::Guest { slot: from.u32()?, pid: from.u32()? },
            3 => Self::Known,
            4 => Self::Forked { slot: from.u32()?, pid: from.u32()? },
            5 => Self::Failed { slot: from.u32()?, step: step(from.u8()?)?, errno: from.i32()? },
            6 => Self::Exited {
                slot: from.u32()?,
                pid: from.u32()?,
                ending: Ending {
                    code: from.i32()?,
                    signaled: from.bool()?,
                    cause: match from.u8()? {
                        0 => Cause::Own,
                        1 => Cause::Killed,
                        2 => Cause::Deadline,
                        _ => return Err(InvalidMessage),
                    },
                    oom_kills: from.u64()?,
                },
            },
            _ => return Err(InvalidMessage),
        };
        from.end(message)
    }
}

impl Message for Guest {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Self::Prepare { shm_bytes, run_bytes, cgroup_view } => {
                out.u8(1).u64(*shm_bytes).u64(*run_bytes).u8(*cgroup_view as u8)
            }
            Self::Bind {
                strict,
                single_id,
                open_files,
                data_bytes,
                processes,
                hostname,
                mounts,
                volumes,
            } => {
                out.u8(2).bool(*strict).bool(*single_id).u32(*open_files).u64(*data_bytes);
                out.u32(*processes).text(hostname).u8(*volumes).count(mounts.len());
                mounts.iter().fold(&mut out, |out, mount| out.text(mount))
            }
        };
        out.0
    }

    fn decode(bytes: &[u8]) -> Result<Self, InvalidMessage> {
        let mut from = Reader(bytes);
        let message = match from.u8()? {
            1 => Self::Prepare {
                shm_bytes: from.u64()?,
                run_bytes: from.u64()?,
                cgroup_view: match from.u8()? {
                    0 => CgroupView::None,
                    1 => CgroupView::V1,
                    2 => CgroupView::V2,
                    _ => return Err(InvalidMessage),
                },
            },
            2 => Self::Bind {
                strict: from.bool()?,
                single_id: from.bool()?,
                open_files: from.u32()?,
                data_bytes: from.u64()?,
                processes: from.u32()?,
                hostname: from.text(0..=MAX_HOSTNAME)?,
                volumes: from.u8()?,
                mounts: from.list(MAX_MOUNTS, |from| from.text(1..=MAX_MOUNT_POINT))?,
            },
            _ => return Err(InvalidMessage),
        };
        from.end(message)
    }
}

impl Message for Progress {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Self::Done => out.u8(1),
            Self::Failed { step, errno } => out.u8(2).u8(*step as u8).i32(*errno),
        };
        out.0
    }

    fn decode(bytes: &[u8]) -> Result<Self, InvalidMessage> {
        let mut from = Reader(bytes);
        let message = match from.u8()? {
            1 => Self::Done,
            2 => Self::Failed { step: step(from.u8()?)?, errno: from.i32()? },
            _ => return Err(InvalidMessage),
        };
        from.end(message)
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// A length; more than 255 is cut off, which the reader then refuses.
    fn count(&mut self, value: usize) -> &mut Self {
        self.u8(u8::try_from(value).unwrap_or(u8::MAX))
    }

    fn text(&mut self, value: &str) -> &mut Self {
        self.count(value.len()).bytes(value.as_bytes())
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], InvalidMessage> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(InvalidMessage)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], InvalidMessage> {
        let (head, rest) = self.0.split_first_chunk().ok_or(InvalidMessage)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, InvalidMessage> {
        self.array().map(|[byte]| byte)
    }

    fn bool(&mut self) -> Result<bool, InvalidMessage> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(InvalidMessage),
        }
    }

    fn u16(&mut self) -> Result<u16, InvalidMessage> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, InvalidMessage> {
        self.array().map(u32::from_le_bytes)
    }

    fn i32(&mut self) -> Result<i32, InvalidMessage> {
        self.array().map(i32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, InvalidMessage> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self, lengths: RangeInclusive<usize>) -> Result<String, InvalidMessage> {
        let length = usize::from(self.u8()?);
        if !lengths.contains(&length) {
            return Err(InvalidMessage);
        }
        let text = std::str::from_utf8(self.take(length)?).map_err(|_not_text| InvalidMessage)?;
        if text.contains('\0') { Err(InvalidMessage) } else { Ok(text.to_owned()) }
    }

    fn list<T>(
        &mut self,
        most: usize,
        item: impl Fn(&mut Self) -> Result<T, InvalidMessage>,
    ) -> Result<Vec<T>, InvalidMessage> {
        let count = usize::from(self.u8()?);
        if count > most {
            return Err(InvalidMessage);
        }
        (0..count).map(|_| item(self)).collect()
    }

    /// Refuses bytes after the message.
    fn end<T>(self, message: T) -> Result<T, InvalidMessage> {
        if self.0.is_empty() { Ok(message) } else { Err(InvalidMessage) }
    }
}
