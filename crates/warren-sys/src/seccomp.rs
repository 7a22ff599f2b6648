//! System call filters, shaped as a search tree.
//!
//! The kernel runs a new filter once for every system call number when it is loaded, so a linear
//! list of 330 rules costs 580 us where a tree costs 35 us (`docs/adr/0004-seccomp-tree.md`). A
//! [`Filter`] is compiled once and loaded many times.

use std::io;

/// What a filter does with a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It runs.
    Allow,
    /// It fails with this error number.
    Fail(u16),
    /// It runs if all set bits of the mask are clear in the 32 low bits of the argument, else it
    /// fails with `EPERM`.
    AllowWithout {
        /// Which argument, 0 to 5.
        argument: u8,
        /// The bits.
        mask: u32,
    },
    /// It runs if the 32 low bits of the argument are one of these, else it fails with `EPERM`.
    AllowOnly {
        /// Which argument, 0 to 5.
        argument: u8,
        /// The admitted values.
        values: &'static [u32],
    },
    /// It runs unless the 32 low bits of the argument are one of these: then it fails with `EPERM`.
    AllowBut {
        /// Which argument, 0 to 5.
        argument: u8,
        /// The refused values.
        values: &'static [u32],
    },
}

/// A compiled filter, at most 4,096 instructions.
#[derive(Clone, Debug)]
pub struct Filter {
    program: Vec<libc::sock_filter>,
}

/// System calls `first..=last` and what happens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    action: Action,
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP_BITS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

// Offsets into struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const OUR_ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OUR_ARCHITECTURE: u32 = 0xc000_00b7;

/// Numbers from here on belong to the x32 interface; nothing uses it and it doubles the surface.
const X32_BIT: u32 = 0x4000_0000;

impl Filter {
    /// Compiles `rules`, pairs of a system call number and its action; every other number up to
    /// the largest one named meets `otherwise`, and numbers above it fail with `ENOSYS`, so that
    /// programs fall back from calls which are newer than the list.
    ///
    /// A later rule for the same number replaces an earlier one. Calls through another
    /// architecture's entry kill the process.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when the program would be longer than the kernel takes.
    pub fn compile(rules: &[(i64, Action)], otherwise: Action) -> io::Result<Self> {
        let mut ordered = std::collections::BTreeMap::new();
        for &(number, action) in rules {
            let number = u32::try_from(number).map_err(|_negative| io::ErrorKind::InvalidInput)?;
            ordered.insert(number, action);
        }
        let ranges = ranges(&ordered, otherwise);
        let mut program = vec![
            instruction(LOAD, 0, 0, ARCHITECTURE),
            instruction(JUMP_EQUAL, 1, 0, OUR_ARCHITECTURE),
            instruction(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
            instruction(LOAD, 0, 0, NUMBER),
        ];
        program.extend(tree(&ranges)?);
        if program.len() > 4096 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "filter too long"));
        }
        Ok(Self { program })
    }

    /// Loads the filter into this thread and all it will start, for ever.
    ///
    /// # Errors
    ///
    /// `EACCES` without `CAP_SYS_ADMIN` in the user namespace and without no-new-privileges.
    ///
    /// # Source
    ///
    /// `seccomp(2)`, `SECCOMP_SET_MODE_FILTER`.
    pub fn load(&self) -> io::Result<()> {
        let length = u16::try_from(self.program.len()).map_err(io::Error::other)?;
        let program = libc::sock_fprog { len: length, filter: self.program.as_ptr().cast_mut() };
        // SAFETY: `program` describes `length` live instructions which the kernel only reads and
        // verifies before it uses them.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0,
                std::ptr::from_ref(&program),
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Joins neighbours with the same action, and closes the gaps.
fn ranges(ordered: &std::collections::BTreeMap<u32, Action>, otherwise: Action) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let mut push = |first: u32, action: Action| match ranges.last() {
        Some(last) if last.action == action => {}
        _ => ranges.push(Range { first, action }),
    };
    let mut next = 0;
    for (&number, &action) in ordered {
        if number > next {
            push(next, otherwise);
        }
        push(number, action);
        next = number + 1;
    }
    push(next, Action::Fail(libc::ENOSYS as u16));
    push(X32_BIT, Action::Fail(libc::EPERM as u16));
    ranges
}

/// A balanced tree of comparisons over `ranges`, with the actions as leaves.
fn tree(ranges: &[Range]) -> io::Result<Vec<libc::sock_filter>> {
    let [range] = ranges else {
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let Some(first) = high.first() else { return Ok(Vec::new()) };
        let low = tree(low)?;
        let high_code = tree(high)?;
        // A conditional jump reaches 255 instructions; beyond that an unconditional one stands in.
        let mut code = match u8::try_from(low.len()) {
            Ok(distance) => vec![instruction(JUMP_AT_LEAST, distance, 0, first.first)],
            Err(_far) => {
                let distance = u32::try_from(low.len()).map_err(io::Error::other)?;
                vec![
                    instruction(JUMP_AT_LEAST, 0, 1, first.first),
                    instruction((libc::BPF_JMP | libc::BPF_JA) as u16, 0, 0, distance),
                ]
            }
        };
        code.extend(low);
        code.extend(high_code);
        return Ok(code);
    };
    Ok(leaf(range.action))
}

fn leaf(action: Action) -> Vec<libc::sock_filter> {
    let allow = instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);
    let refuse = fail(libc::EPERM as u16);
    let argument_at = |argument: u8| ARGUMENTS + 8 * u32::from(argument);
    match action {
        Action::Allow => vec![allow],
        Action::Fail(error) => vec![fail(error)],
        Action::AllowWithout { argument, mask } => vec![
            instruction(LOAD, 0, 0, argument_at(argument)),
            instruction(JUMP_BITS, 1, 0, mask),
            allow,
            refuse,
        ],
        Action::AllowOnly { argument, values } => {
            by_value(argument_at(argument), values, allow, refuse)
        }
        Action::AllowBut { argument, values } => {
            by_value(argument_at(argument), values, refuse, allow)
        }
    }
}

/// Ends with `hit` when the word at `offset` is one of `values`, else with `miss`.
fn by_value(
    offset: u32,
    values: &[u32],
    hit: libc::sock_filter,
    miss: libc::sock_filter,
) -> Vec<libc::sock_filter> {
    let mut code = vec![instruction(LOAD, 0, 0, offset)];
    for &value in values {
        code.push(instruction(JUMP_EQUAL, 0, 1, value));
        code.push(hit);
    }
    code.push(miss);
    code
}

fn fail(error: u16) -> libc::sock_filter {
    instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | u32::from(error))
}

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel would.
    fn run(filter: &Filter, architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut accumulator = 0;
        let mut at = 0;
        for _ in 0..filter.program.len() {
            let step = &filter.program[at];
            at += 1;
            let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
            match step.code {
                LOAD if step.k == NUMBER => accumulator = number,
                LOAD if step.k == ARCHITECTURE => accumulator = architecture,
                LOAD => accumulator = arguments[((step.k - ARGUMENTS) / 8) as usize] as u32,
                JUMP_EQUAL => at += jump(accumulator == step.k),
                JUMP_AT_LEAST => at += jump(accumulator >= step.k),
                JUMP_BITS => at += jump(accumulator & step.k != 0),
                RETURN => return step.k,
                _ => at += step.k as usize,
            }
        }
        panic!("the filter has no end");
    }

    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    #[test]
    fn every_number_meets_its_action() {
        let rules: Vec<_> = (0..400).filter(|n| n % 3 == 0).map(|n| (n, Action::Allow)).collect();
        let filter = Filter::compile(&rules, Action::Fail(libc::EPERM as u16)).unwrap();
        for number in 0..500 {
            let expected = match number {
                400.. => ENOSYS,
                n if n % 3 == 0 => libc::SECCOMP_RET_ALLOW,
                _ => EPERM,
            };
            // The list ends at 399, which is a multiple of three.
            assert_eq!(run(&filter, OUR_ARCHITECTURE, number, [0; 6]), expected, "{number}");
        }
        assert_eq!(run(&filter, OUR_ARCHITECTURE, X32_BIT, [0; 6]), EPERM);
        assert_eq!(run(&filter, 0x4000_0003, 3, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn arguments_decide_where_a_rule_says_so() {
        let rules = [
            (1, Action::AllowWithout { argument: 0, mask: 0b110 }),
            (2, Action::AllowOnly { argument: 1, values: &[2, 10, 16] }),
            (3, Action::AllowOnly { argument: 0, values: &[0, 8] }),
            (4, Action::AllowBut { argument: 1, values: &[7, 9] }),
        ];
        let filter = Filter::compile(&rules, Action::Fail(1)).unwrap();
        let check = |number, arguments, expected| {
            assert_eq!(run(&filter, OUR_ARCHITECTURE, number, arguments), expected);
        };
        check(1, [0b001, 0, 0, 0, 0, 0], libc::SECCOMP_RET_ALLOW);
        check(1, [0b011, 0, 0, 0, 0, 0], EPERM);
        check(2, [0, 2, 0, 0, 0, 0], libc::SECCOMP_RET_ALLOW);
        check(2, [0, 40, 0, 0, 0, 0], EPERM);
        check(2, [0, 3, 0, 0, 0, 0], EPERM);
        check(3, [8, 0, 0, 0, 0, 0], libc::SECCOMP_RET_ALLOW);
        check(3, [9, 0, 0, 0, 0, 0], EPERM);
        check(4, [7, 8, 0, 0, 0, 0], libc::SECCOMP_RET_ALLOW);
        check(4, [0, 9, 0, 0, 0, 0], EPERM);
    }

    #[test]
    fn a_tree_is_short_to_walk() {
        let rules: Vec<_> = (0..450).filter(|n| n % 2 == 0).map(|n| (n, Action::Allow)).collect();
        let filter = Filter::compile(&rules, Action::Fail(1)).unwrap();
        assert!(filter.program.len() < 1400, "{}", filter.program.len());
    }
}
