# Another sandbox, in which S["secret"] is in a file, in shared memory, in a command line and
# behind a port and a name. S["neighbour"] says where.
SIZE = 4096


@attack
def files_of_another():
    found = [path for path in S["neighbour"]["files"] if holds_secret(path)]
    for process in filter(str.isdigit, os.listdir("/proc")):
        for path in S["neighbour"]["files"]:
            if holds_secret("/proc/%s/root%s" % (process, path)):
                found.append("/proc/%s/root%s" % (process, path))
    return found


@attack
def processes_of_another():
    found = []
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = open("/proc/%s/cmdline" % number, "rb").read()
        except OSError:
            continue
        if S["neighbour"]["mark"].encode() in line:
            found.append("process %s" % number)
    return found


@attack
def memory_of_another():
    found = []
    segment = libc.shmget(S["neighbour"]["key"], SIZE, 0)
    if segment >= 0:
        found.append("the shared memory with key %d" % S["neighbour"]["key"])
    for line in open("/proc/sysvipc/shm").read().splitlines()[1:]:
        if int(line.split()[0]) == S["neighbour"]["key"]:
            found.append("the shared memory's description")
    return found


@attack
def address_of_another():
    found = []
    for address in S["neighbour"]["addresses"]:
        try:
            socket.create_connection((address, S["neighbour"]["port"]), 1).close()
            found.append("%s:%d" % (address, S["neighbour"]["port"]))
        except OSError:
            pass
    return found


@attack
def names_of_another():
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            client.connect("\0" + S["neighbour"]["mark"])
            return ["the abstract socket"]
    except OSError:
        return []
