//! The agent, attacked by root of its own sandbox.

use serde_json::json;

use super::{profiles, python};
use crate::harness::Home;

#[test]
fn the_agents_memory_and_descriptors_are_closed_to_root_inside() {
    crate::harness::needs!("python3");
    let home = Home::new();
    let program = r#"
import ctypes, json, os
libc = ctypes.CDLL(None, use_errno=True)
reached = []
for path in ["/proc/1/mem", "/proc/1/environ", "/proc/1/maps", "/proc/1/auxv", "/proc/1/syscall", "/proc/1/stack"]:
    try:
        if os.read(os.open(path, os.O_RDONLY), 1) or path.endswith("mem"): reached.append(path)
    except OSError: pass
try:
    os.close(os.open("/proc/1/mem", os.O_RDWR)); reached.append("writing /proc/1/mem")
except OSError: pass
try:
    if os.listdir("/proc/1/fd"): reached.append("/proc/1/fd")
except OSError: pass
for name, request in (("attach", 16), ("seize", 0x4206)):
    if libc.ptrace(request, 1, None, None) == 0: reached.append("ptrace " + name)
try:
    pidfd = os.pidfd_open(1)
    for fd in range(16):
        if libc.syscall(ctypes.c_long(438), pidfd, fd, 0) >= 0: reached.append("pidfd_getfd %d" % fd)
except OSError: pass
buffer = ctypes.create_string_buffer(16)
class Vector(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
local = Vector(ctypes.addressof(buffer), 16)
for remote in (0x400000, 0x7fff00000000):
    if libc.process_vm_readv(1, ctypes.byref(local), 1, ctypes.byref(Vector(remote, 16)), 1, 0) > 0:
        reached.append("process_vm_readv")
print(json.dumps(reached))
"#;
    for (sandbox, user) in profiles(&home) {
        assert_eq!(python(&sandbox, user, program), json!([]), "as {user}");
    }
}

/// But for TERM and INT, which end a sandbox as they end a machine: its root may do that.
#[test]
fn the_agent_cannot_be_killed_or_stopped_from_inside() {
    let home = Home::new();
    for (sandbox, user) in profiles(&home) {
        let line =
            "for s in KILL STOP HUP QUIT SEGV USR1 PIPE; do kill -$s 1; done 2>/dev/null; true";
        sandbox.exec_as(&json!({"command": ["sh", "-c", line], "user": user}));
        assert_eq!(sandbox.exec(&["echo", "alive"])["stdout"], "alive\n", "as {user}");
    }
}

#[test]
fn the_control_socket_is_not_reachable_from_inside() {
    let home = Home::new();
    let sandbox = home.create(&json!({}));
    let found = sandbox
        .root("find / -xdev -type s 2>/dev/null; cat /proc/net/unix | grep -c control || true");
    assert_eq!(found.trim(), "0", "{found}");
}
