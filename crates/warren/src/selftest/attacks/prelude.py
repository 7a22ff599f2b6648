# What every attack program starts with. Before it stands SETTINGS, a JSON text.
#
# An attack is a function that gives what it reached, as texts; none means that everything held.
# It must do no harm where it succeeds: it opens and does not write, sets what is set already,
# signals with 0, names what is not there.
import ctypes, errno, fcntl, json, os, platform, select, signal, socket, stat, struct, sys, tempfile, time

S = json.loads(SETTINGS)
libc = ctypes.CDLL(None, use_errno=True)
P = ctypes.c_char_p
X86 = platform.machine() == "x86_64"

# Operation not permitted, permission denied, no such call. Every other error is the kernel's
# answer to the arguments, so the call itself got through.
REFUSED = (errno.EPERM, errno.EACCES, errno.ENOSYS)

attacks = []


def attack(function):
    attacks.append(function)
    return function


def apart(function, seconds=20):
    """Runs a function in a process of its own: what it changes, and its death, stay there."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            said = {"reached": function() or []}
        except BaseException as error:
            said = {"broken": repr(error)}
        with os.fdopen(write, "w") as out:
            json.dump(said, out)
        os._exit(0)
    os.close(write)
    said, end = b"", time.monotonic() + seconds
    while select.select([read], [], [], max(0, end - time.monotonic()))[0]:
        piece = os.read(read, 65536)
        if not piece:
            break
        said += piece
    else:
        os.kill(child, signal.SIGKILL)
    os.close(read)
    status = os.waitpid(child, 0)[1]
    if said:
        return json.loads(said)
    if os.WIFSIGNALED(status):
        return {"broken": "ended by signal %d" % os.WTERMSIG(status)}
    return {"broken": "it said nothing"}


def call(x86, arm, *arguments):
    """Makes a system call by its number; gives the error's number, 0 for success."""
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(x86 if X86 else arm), *arguments)
    return ctypes.get_errno() if result == -1 else 0


def name_of(code):
    return errno.errorcode.get(code, str(code)) if code else "success"


def through(**outcomes):
    """Those of the calls that were not refused."""
    return ["%s: %s" % (name, name_of(code)) for name, code in outcomes.items() if code not in REFUSED]


def opens(path, flags=os.O_RDONLY):
    """Whether a path can be opened; with nothing read or written."""
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))
        return True
    except OSError:
        return False


def holds_secret(path, directory=None):
    """Whether a file is there that has the host's secret in it."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK, dir_fd=directory)
    except (OSError, ValueError):
        return False
    try:
        return S["secret"].encode() in os.read(file, 4096)
    except OSError:
        return False
    finally:
        os.close(file)


def directory():
    return tempfile.mkdtemp(dir="/tmp").encode()
