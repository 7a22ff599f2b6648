# Devices, the knobs of the kernel, and its memory.
HARMLESS = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "console")


@attack
def nodes():
    found = []
    for at, _, names in os.walk("/dev"):
        for name in names:
            path = os.path.join(at, name)
            mode = os.lstat(path).st_mode
            device = stat.S_ISBLK(mode) or stat.S_ISCHR(mode)
            known = at == "/dev" and name in HARMLESS or at == "/dev/pts"
            if device and not known:
                found.append(path)
    return found


@attack
def making_nodes():
    found = []
    for place in ("/tmp", "/dev", "/dev/shm", "/home/user", "/var/tmp", "/run"):
        for mode, name in ((stat.S_IFBLK, "block"), (stat.S_IFCHR, "character")):
            path = "%s/warren-node-%d" % (place, os.getpid())
            try:
                os.mknod(path, mode | 0o600, os.makedev(8, 0) if mode == stat.S_IFBLK else os.makedev(1, 1))
                found.append("%s device in %s" % (name, place))
                os.unlink(path)
            except OSError:
                pass
    return found


@attack
def memory():
    found = []
    for path in ("/proc/kcore", "/proc/kmsg", "/dev/kmsg", "/dev/mem", "/dev/kmem", "/dev/port", "/proc/timer_list", "/proc/vmallocinfo"):
        try:
            file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            if os.read(file, 1):
                found.append(path)
        except OSError:
            pass
    return found


@attack
def kernel_settings():
    found = [path for path in (
        "/proc/irq/default_smp_affinity", "/proc/mtrr", "/proc/acpi/wakeup", "/proc/bus/pci/00/00.0", "/proc/scsi/scsi",
        "/proc/fs/nfsd", "/sys/kernel/uevent_helper", "/sys/power/state", "/sys/kernel/debug", "/sys/firmware/efi/efivars",
        "/sys/class/net/eth0/ifalias") if os.path.isfile(path) and opens(path, os.O_WRONLY)]
    # A namespace's own settings are its root's.
    own = ("/proc/sys/user/", "/proc/sys/fs/mqueue/", "/proc/sys/kernel/shm", "/proc/sys/kernel/msg",
           "/proc/sys/kernel/sem", "/proc/sys/kernel/auto_msgmni", "/proc/sys/kernel/ns_last_pid",
           "/proc/sys/kernel/pid_max")
    for top in ("/proc/sys", "/sys"):
        for at, directories, files in os.walk(top):
            if at == "/sys/fs/cgroup":
                directories.clear()
                continue
            paths = [os.path.join(at, name) for name in files]
            found += [path for path in paths if not path.startswith(own) and opens(path, os.O_WRONLY)]
    return found[:20]


@attack
def core_pattern():
    return [path for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/fs/binfmt_misc/register",
                              "/proc/sys/kernel/hotplug", "/proc/sys/kernel/poweroff_cmd") if opens(path, os.O_WRONLY)]


@attack
def sysrq():
    return [path for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/sysrq") if opens(path, os.O_WRONLY)]


@attack
def cgroups():
    found = []
    for at, directories, files in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(at, name) for name in files if opens(os.path.join(at, name), os.O_WRONLY)]
        try:
            os.mkdir(at + "/warren-selftest")
            found.append("mkdir in " + at)
            os.rmdir(at + "/warren-selftest")
        except OSError:
            pass
        if len(found) > 20 or at.count("/") > 7:
            directories.clear()
    return found[:20]
