# System calls that a guest has no business with.
buffer = ctypes.create_string_buffer(4096)


@attack
def mounts():
    at, other = directory(), directory()
    outcomes = {"mount": call(165, 40, P(b"none"), P(at), P(b"tmpfs"), 0, None)}
    if not outcomes["mount"]:
        libc.umount2(P(at), 2)
    outcomes["bind"] = call(165, 40, P(other), P(at), None, 4096, None)
    if not outcomes["bind"]:
        libc.umount2(P(at), 2)
    # Neither is a mount, which is looked at only after the right to unmount.
    outcomes["umount"] = call(166, 39, P(at), 2)
    outcomes["pivot_root"] = call(155, 41, P(at), P(at))
    outcomes["move_mount"] = call(429, 429, -100, P(at), -100, P(other), 0)
    outcomes["fsopen"] = call(430, 430, P(b"tmpfs"), 0)
    outcomes["open_tree"] = call(428, 428, -100, P(at), 1)
    outcomes["mount_setattr"] = call(442, 442, -100, P(at), 0, buffer, 32)
    for path in (at, other):
        os.rmdir(path)
    return through(**outcomes)


FLAGS = {"mnt": 0x20000, "uts": 0x4000000, "ipc": 0x8000000, "user": 0x10000000, "pid": 0x20000000,
         "net": 0x40000000, "cgroup": 0x2000000, "time": 0x80}


@attack
def new_namespaces():
    found = []
    for name, flag in FLAGS.items():
        for said in (apart(lambda: through(**{"unshare " + name: call(272, 97, ctypes.c_long(flag))})), apart(lambda: cloned(name, flag))):
            found += said.get("reached", [said.get("broken")])
    # Its flags are in memory, where no filter sees them.
    arguments = struct.pack("=11Q", FLAGS["user"], 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, 0)
    return found + through(clone3=forked(435, 435, P(arguments), len(arguments)))


def cloned(name, flag):
    if flag < 0x100:
        return []
    return through(**{"clone " + name: forked(56, 220, ctypes.c_long(flag | signal.SIGCHLD), None, None, None, None)})


def forked(*arguments):
    ctypes.set_errno(0)
    number, rest = arguments[0 if X86 else 1], arguments[2:]
    child = libc.syscall(ctypes.c_long(number), *rest)
    if child == 0:
        os._exit(0)
    if child == -1:
        return ctypes.get_errno()
    os.waitpid(child, 0)
    return 0


@attack
def joining_namespaces():
    found = []
    for process in ("1", "self"):
        for name in ("mnt", "uts", "ipc", "pid", "net", "cgroup", "user", "time"):
            try:
                namespace = os.open("/proc/%s/ns/%s" % (process, name), os.O_RDONLY)
            except OSError:
                continue
            label = "setns %s of %s" % (name, process)
            said = apart(lambda: through(**{label: call(308, 268, namespace, 0)}))
            found += said.get("reached", [said.get("broken")])
    first = libc.syscall(ctypes.c_long(434), 1, 0)
    if first >= 0:
        found += through(**{"setns of a pidfd": call(308, 268, first, FLAGS["net"])})
    return found


@attack
def modules():
    return through(init_module=call(175, 105, buffer, 16, P(b"")), finit_module=call(313, 273, -1, P(b""), 0),
                   delete_module=call(176, 106, P(b"warren_no_such"), 0))


@attack
def kexec():
    # Flags that do not exist: refused only after the right to load is looked at.
    return through(kexec_load=call(246, 104, 0, 0, None, ctypes.c_long(8)), kexec_file_load=call(320, 294, -1, -1, 0, None, ctypes.c_long(0xff00)))


@attack
def bpf():
    return through(bpf=call(321, 280, 0, buffer, 72), load=call(321, 280, 5, buffer, 72))


@attack
def perf_events():
    return through(perf_event_open=call(298, 241, buffer, 0, -1, ctypes.c_long(-1), 0))


@attack
def io_uring():
    return through(io_uring_setup=call(425, 425, 8, buffer), io_uring_enter=call(426, 426, 0, 1, 0, 0, 0),
                   io_uring_register=call(427, 427, 0, 0, None, 0))


@attack
def userfaultfd():
    return through(userfaultfd=call(323, 282, 0), user_mode_only=call(323, 282, 1))


@attack
def keyrings():
    return through(keyctl=call(250, 219, 0, -3, 1), add_key=call(248, 217, P(b"user"), P(b"warren"), P(b"y"), 1, -3),
                   request_key=call(249, 218, P(b"user"), P(b"warren"), None, -3))


@attack
def clock():
    # Reads the length of a tick and sets it to that.
    timex = ctypes.create_string_buffer(256)
    read = call(159, 171, timex)
    struct.pack_into("=I", timex, 0, 0x4000)
    return (["adjtimex does not read"] if read else []) + through(
        adjtimex=call(159, 171, timex), settimeofday=call(164, 170, None, None))


@attack
def power():
    # A command that does not exist: looked at only after the right to restart.
    reboot = call(169, 142, ctypes.c_long(0xfee1dead), ctypes.c_long(672274793), ctypes.c_long(0x7eadbeef), None)
    return through(reboot=reboot)


@attack
def accounting():
    return through(acct=call(163, 89, P(b"/warren-no-such/file")), swapon=call(167, 224, P(b"/warren-no-such"), 0),
                   swapoff=call(168, 225, P(b"/warren-no-such")), quotactl=call(179, 60, 0x80000100, P(b"/dev/sda"), 0, None))


@attack
def kernel_log():
    return through(syslog=call(103, 116, 3, buffer, 4096), console=call(103, 116, 10, None, 0))


@attack
def tracing():
    return through(fanotify_init=call(300, 262, 0, 0), lookup_dcookie=call(212, 18, 0, buffer, 4096),
                   personality=call(135, 92, ctypes.c_long(0x0040000)), kcmp=call(312, 272, 1, os.getpid(), 0, 0, 0))


@attack
def host_name():
    name = os.uname().nodename.encode()
    return through(sethostname=call(170, 161, P(name), len(name)), setdomainname=call(171, 162, P(b"(none)"), 6))


@attack
def other_system_call_tables():
    """The 32-bit table and x32, which a filter of 64-bit numbers does not see."""
    if not X86:
        return []
    import mmap
    # eax, ebx, ecx, edx from the first four arguments; ebx is the caller's.
    code = b"\x53\x89\xf8\x89\xf3\x87\xd1\xcd\x80\x5b\xc3"

    def old():
        memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        memory.write(code)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        gate = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int)(address)
        # keyctl, unshare of a user namespace
        return through(keyctl_32=-gate(288, 0, -3, 1), unshare_32=-gate(310, FLAGS["user"], 0, 0))

    def x32():
        return through(keyctl_x32=call(0x40000000 | 250, 0, 0, -3, 1), unshare_x32=call(0x40000000 | 272, 0, ctypes.c_long(FLAGS["user"])))

    found = []
    for table in (old, x32):
        said = apart(table)
        # A filter may kill, and a kernel without the table does so itself.
        died = said.get("broken") in ("ended by signal %d" % signal.SIGSYS, "ended by signal %d" % signal.SIGSEGV)
        found += [] if died else said.get("reached", [said.get("broken")])
    return found
