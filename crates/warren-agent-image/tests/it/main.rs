//! What is promised about the agent's image.

#![cfg(test)]

use warren_agent_image::{AGENT, VERSION};

/// `p_type` of the header that names a dynamic loader.
const PT_INTERP: u32 = 3;

#[test]
fn the_agent_is_static() {
    assert_eq!(AGENT.get(..4), Some(&b"\x7fELF"[..]), "not an ELF image");
    assert!(!segment_types(AGENT).contains(&PT_INTERP), "the agent asks for a dynamic loader");
}

#[test]
fn the_agent_is_below_six_megabytes() {
    assert!(AGENT.len() < 6_000_000, "{} bytes", AGENT.len());
}

#[test]
fn the_version_names_this_build() {
    let (version, fingerprint) = VERSION.split_once('+').unwrap();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert_eq!(fingerprint.len(), 16, "{fingerprint}");
}

/// The types of the program headers of a 64-bit little-endian ELF image.
fn segment_types(elf: &[u8]) -> Vec<u32> {
    let number = |at: usize, size: usize| {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&elf[at..at + size]);
        usize::try_from(u64::from_le_bytes(bytes)).unwrap()
    };
    let (table, entry_size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    (0..count).map(|index| u32::try_from(number(table + index * entry_size, 4)).unwrap()).collect()
}
