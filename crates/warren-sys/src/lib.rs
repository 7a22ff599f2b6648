//! Safe functions over the Linux interfaces that sandboxes are made of.
//!
//! This is the only crate of the workspace in which `unsafe` compiles. It knows the kernel and
//! nothing else: no policy, no sandbox, no async runtime. Everything that returns a descriptor
//! returns an [`std::os::fd::OwnedFd`], opened close-on-exec.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "the one crate that may")]

pub mod beneath;
pub mod btrfs;
pub mod channel;
pub mod fork;
pub mod idmap;
pub mod inotify;
pub mod loopback;
pub mod memory;
pub mod mount;
pub mod namespaces;
pub mod netlink;
pub mod netns;
pub mod privilege;
pub mod probe;
pub mod process;
pub mod project;
pub mod pty;
pub mod reap;
pub mod seccomp;
pub mod spawn;
pub mod tree;
pub mod users;
pub mod xfs;

/// A UUID of 16 bytes as people write it.
fn uuid_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if [4, 6, 8, 10].contains(&index) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
