# Other processes: those of the host, and the agent, which is the sandbox's first.
# S["init"] is the number of that one.
PTRACE_SEIZE = 0x4206


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def taken_over(process):
    """Ways by which another process can be read or ruled."""
    found = []
    for name in ("mem", "environ", "maps", "auxv", "syscall", "stack"):
        path = "/proc/%d/%s" % (process, name)
        try:
            file = os.open(path, os.O_RDONLY)
            if os.read(file, 1) or name == "mem":
                found.append(path)
        except OSError:
            pass
    if opens("/proc/%d/mem" % process, os.O_RDWR):
        found.append("writing /proc/%d/mem" % process)
    try:
        if os.listdir("/proc/%d/fd" % process):
            found.append("/proc/%d/fd" % process)
    except OSError:
        pass
    if libc.ptrace(PTRACE_SEIZE, process, None, None) == 0:
        found.append("ptrace of %d" % process)
    handle = libc.syscall(ctypes.c_long(434), process, 0)
    if handle >= 0:
        for number in range(16):
            if libc.syscall(ctypes.c_long(438), handle, number, 0) >= 0:
                found.append("pidfd_getfd %d of %d" % (number, process))
    here = ctypes.create_string_buffer(16)
    local = Vector(ctypes.addressof(here), 16)
    for there in (0x400000, 0x7fff00000000):
        if libc.process_vm_readv(process, ctypes.byref(local), 1, ctypes.byref(Vector(there, 16)), 1, 0) > 0:
            found.append("process_vm_readv of %d" % process)
    return found


@attack
def the_agent():
    return taken_over(S["init"])


@attack
def processes_of_the_host():
    found = []
    for number in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            line = open("/proc/%d/cmdline" % number, "rb").read().decode("utf-8", "replace")
        except OSError:
            continue
        if line and line in S["command_lines"]:
            found.append("process %d is seen" % number)
            try:
                os.kill(number, 0)
                found.append("process %d can be signalled" % number)
            except OSError:
                pass
            found += taken_over(number)
    return found


@attack
def namespaces():
    found = []
    for name, host in S["namespaces"].items():
        try:
            if os.readlink("/proc/self/ns/" + name) == host:
                found.append("the host's %s namespace" % name)
        except OSError:
            pass
    return found


@attack
def user_ids():
    found = []
    for kind in ("uid", "gid"):
        for line in open("/proc/self/%s_map" % kind).read().splitlines():
            inside, outside, count = map(int, line.split())
            if outside == 0 or count > 65536:
                found.append("%s %d is %d outside, %d of them" % (kind, inside, outside, count))
    return found


@attack
def capabilities():
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines() if ":" in line)
    found = []
    for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"):
        extra = int(status[name], 16) & ~S["capabilities"]
        found += ["%s has %x" % (name, extra)] if extra else []
    if status.get("Seccomp", "").strip() != "2":
        found.append("no filter of system calls")
    if S["no_new_privileges"] and status.get("NoNewPrivs", "").strip() != "1":
        found.append("new privileges can be had")
    return found


@attack
def terminals():
    found = []
    paths = ["/dev/tty", "/dev/console", "/dev/tty0", "/dev/tty1", "/dev/ttyS0", "/dev/hvc0"]
    try:
        paths += ["/dev/pts/" + name for name in os.listdir("/dev/pts") if name != "ptmx"]
    except OSError:
        pass
    for path in paths + ["/proc/self/fd/%d" % number for number in range(3)]:
        try:
            file = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            continue
        if not os.isatty(file):
            continue
        found.append(path + " is a terminal")
        try:
            fcntl.ioctl(file, 0x5412, b" ")
            found.append("TIOCSTI on " + path)
        except OSError:
            pass
    return found
