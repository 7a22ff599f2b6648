//! What listens inside a guest, read from the kernel's own table of its network namespace.

use std::{collections::BTreeMap, fs, io};

use warren_core::runtime::Port;

use crate::journal::Process;

/// The state of a socket that listens, as `/proc/net/tcp` writes it.
///
/// # Source
///
/// `TCP_LISTEN` in Linux's `include/net/tcp_states.h`.
const LISTEN: &str = "0A";

/// The ports on which something in the network namespace of `process` listens, in order.
pub(super) fn of(process: Process) -> io::Result<Vec<Port>> {
    let read = |table: &str| fs::read_to_string(format!("/proc/{}/net/{table}", process.pid));
    let tables = [read("tcp")?, read("tcp6").unwrap_or_default()];
    // What the number stands for may be another process by now.
    if !process.lives() {
        return Ok(Vec::new());
    }
    Ok(parse(&tables))
}

fn parse(tables: &[String; 2]) -> Vec<Port> {
    let mut ports = BTreeMap::new();
    for (address, number) in tables.iter().flat_map(|table| table.lines()).filter_map(listener) {
        let loopback = ports.entry(number).or_insert(true);
        *loopback &= is_loopback(address);
    }
    ports.into_iter().map(|(number, loopback)| Port { number, loopback }).collect()
}

/// The local address and port of a line, where it listens.
fn listener(line: &str) -> Option<(&str, u16)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.split_once(':')?;
    let state = fields.nth(1)?;
    (state == LISTEN).then_some((address, u16::from_str_radix(port, 16).ok()?))
}

/// Addresses are written as words in the machine's byte order.
fn is_loopback(address: &str) -> bool {
    match address.len() {
        8 => {
            let word = u32::from_str_radix(address, 16).unwrap_or_default();
            word.to_ne_bytes().first() == Some(&127)
        }
        _ => {
            let one = u32::from_ne_bytes([0, 0, 0, 1]);
            address == format!("{:024X}{one:08X}", 0)
        }
    }
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue\n";

    #[test]
    fn listeners_are_told_from_connections() {
        let four = format!(
            "{HEAD}   0: 0100007F:1F90 00000000:0000 0A 0:0 0\n   \
             1: 00000000:0016 00000000:0000 0A 0:0 0\n   \
             2: 0100007F:9C40 0100007F:1F90 01 0:0 0\n"
        );
        let six = format!(
            "{HEAD}   0: 00000000000000000000000001000000:0BB8 0:0 0A 0:0\n   \
             1: 00000000000000000000000000000000:1F90 0:0 0A 0:0\nnonsense\n"
        );
        let port = |number, loopback| Port { number, loopback };
        let expected = [port(22, false), port(3000, true), port(8080, false)];
        assert_eq!(parse(&[four, six]), expected);
    }

    #[test]
    fn this_process_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let ports = of(Process::of(std::process::id()).unwrap()).unwrap();
        assert!(ports.contains(&Port { number, loopback: true }), "{ports:?}");
    }
}
