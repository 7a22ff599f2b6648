//! System calls that a guest has no business with.

use super::{profiles, python};
use crate::harness::Home;

/// Tries each call with arguments that would do something if it were allowed, in a process of its
/// own, and prints what the kernel said: a name to an error number, 0 for success.
///
/// Calls that only fail for their arguments (EFAULT, EINVAL, EBADF) got past the filter; that is
/// an outcome as well, and the test decides.
const PROGRAM: &str = r#"
import ctypes, json, os, platform, signal
libc = ctypes.CDLL(None, use_errno=True)
X86, ARM = 0, 1
arch = {"x86_64": X86, "aarch64": ARM}[platform.machine()]
NUMBERS = {
    "bpf": (321, 280), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "open_by_handle_at": (304, 265),
    "pivot_root": (155, 41), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142),
    "settimeofday": (164, 170), "acct": (163, 89), "quotactl": (179, 60), "syslog": (103, 116),
    "move_mount": (429, 429), "fsopen": (430, 430), "open_tree": (428, 428),
    "mount_setattr": (442, 442), "sethostname": (170, 161), "setdomainname": (171, 162),
    "lookup_dcookie": (212, 18), "fanotify_init": (300, 262), "personality": (135, 92),
}
P = ctypes.c_char_p
buffer = ctypes.create_string_buffer(4096)
CALLS = {
    "bpf": (0, buffer, 72), "io_uring_setup": (8, buffer), "io_uring_enter": (0, 1, 0, 0, 0),
    "keyctl": (0, -3, 1), "add_key": (P(b"user"), P(b"x"), P(b"y"), 1, -3),
    "request_key": (P(b"user"), P(b"x"), None, -3), "kexec_load": (0, 0, None, 0),
    "kexec_file_load": (0, 0, 0, None, 0), "init_module": (buffer, 16, P(b"")),
    "finit_module": (0, P(b""), 0), "delete_module": (P(b"loop"), 0),
    "perf_event_open": (buffer, 0, -1, -1, 0), "userfaultfd": (0,),
    "open_by_handle_at": (-100, buffer, 0), "pivot_root": (P(b"/tmp"), P(b"/tmp")),
    "swapon": (P(b"/tmp/x"), 0), "swapoff": (P(b"/tmp/x"),),
    "reboot": (ctypes.c_long(0xfee1dead), ctypes.c_long(672274793), ctypes.c_long(0x89abcdef), None),
    "settimeofday": (buffer, None), "acct": (P(b"/tmp/acct"),), "quotactl": (0x80000100, P(b"/dev/sda"), 0, None),
    "syslog": (3, buffer, 4096), "move_mount": (-100, P(b"/tmp"), -100, P(b"/home"), 0),
    "fsopen": (P(b"tmpfs"), 0), "open_tree": (-100, P(b"/tmp"), 1), "mount_setattr": (-100, P(b"/tmp"), 0, buffer, 32),
    "sethostname": (P(b"x"), 1), "setdomainname": (P(b"x"), 1), "lookup_dcookie": (0, buffer, 4096),
    "fanotify_init": (0, 0), "personality": (0x0040000,),
}
def outcome(call):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        ctypes.set_errno(0)
        result = call()
        os.write(write, str(ctypes.get_errno() if result == -1 else 0).encode())
        os._exit(0)
    os.close(write)
    said = os.read(read, 16)
    os.close(read)
    os.waitpid(child, 0)
    return int(said) if said else "killed"
def raw(name):
    return lambda: libc.syscall(ctypes.c_long(NUMBERS[name][arch]), *CALLS[name])
seen = {name: outcome(raw(name)) for name in CALLS}
seen["mount"] = outcome(lambda: libc.mount(P(b"none"), P(b"/tmp"), P(b"tmpfs"), 0, None))
seen["bind"] = outcome(lambda: libc.mount(P(b"/home"), P(b"/tmp"), None, 4096, None))
seen["umount"] = outcome(lambda: libc.umount2(P(b"/proc"), 2))
seen["chroot+unshare"] = outcome(lambda: libc.unshare(0x00020000))
for name, flag in {"user": 0x10000000, "net": 0x40000000, "pid": 0x20000000, "uts": 0x04000000,
                   "ipc": 0x08000000, "cgroup": 0x02000000}.items():
    seen["unshare " + name] = outcome(lambda flag=flag: libc.unshare(flag))
    def join(name=name):
        return libc.setns(os.open("/proc/1/ns/" + name, os.O_RDONLY), 0)
    def guarded(join=join):
        try: return join()
        except OSError as e:
            ctypes.set_errno(e.errno)
            return -1
    seen["setns " + name] = outcome(guarded)
print(json.dumps(seen))
"#;

/// Operation not permitted; permission denied; no such call.
const REFUSED: [i64; 3] = [1, 13, 38];

#[test]
fn no_privileged_call_gets_through() {
    crate::harness::needs!("python3");
    let home = Home::new();
    for (sandbox, user) in profiles(&home) {
        let seen = python(&sandbox, user, PROGRAM);
        let seen = seen.as_object().expect("an object");
        assert!(seen.len() > 40, "{} calls were tried", seen.len());
        let through: Vec<_> = seen
            .iter()
            .filter(|(_, outcome)| !outcome.as_i64().is_some_and(|errno| REFUSED.contains(&errno)))
            .collect();
        assert!(through.is_empty(), "as {user}: {through:?}");
    }
}

#[test]
fn a_guest_has_bounded_capabilities() {
    /// What Docker grants less NET_RAW and MKNOD, as bits: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL,
    /// SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, AUDIT_WRITE, SETFCAP.
    const GRANTED: u64 = 1 << 0
        | 1 << 1
        | 1 << 3
        | 1 << 4
        | 1 << 5
        | 1 << 6
        | 1 << 7
        | 1 << 8
        | 1 << 10
        | 1 << 18
        | 1 << 29
        | 1 << 31;
    let home = Home::new();
    for ((sandbox, user), allowed) in profiles(&home).into_iter().zip([GRANTED, 0]) {
        let request = serde_json::json!({"command": ["cat", "/proc/self/status"], "user": user});
        let outcome = sandbox.exec_as(&request);
        let status = outcome["stdout"].as_str().expect("text");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
            line.trim().to_owned()
        };
        for set in ["CapEff:", "CapPrm:", "CapBnd:", "CapInh:", "CapAmb:"] {
            let bits = u64::from_str_radix(&field(set), 16).expect("bits");
            assert_eq!(bits & !allowed, 0, "{set} {bits:x} as {user}");
        }
        assert_eq!(field("Seccomp:"), "2", "no filter as {user}");
        if allowed == 0 {
            assert_eq!(field("NoNewPrivs:"), "1");
        }
    }
}
