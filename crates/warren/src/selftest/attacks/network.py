# What the network must not reach. S["ports"] are open on every address of the host.
def connects(targets, seconds=2.0):
    """Those of (address, port) that take a connection, all tried at once."""
    waiting, open_ones = {}, []
    for address, port in targets:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            client = socket.socket(family, socket.SOCK_STREAM)
            client.setblocking(False)
            code = client.connect_ex((address, port))
        except OSError:
            continue
        if code in (0, errno.EINPROGRESS):
            waiting[client] = (address, port)
    end = time.monotonic() + seconds
    while waiting and time.monotonic() < end:
        ready = select.select([], list(waiting), [], end - time.monotonic())[1]
        for client in ready:
            target = waiting.pop(client)
            if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                open_ones.append(target)
            client.close()
    return open_ones


def gateways():
    found = []
    try:
        lines = open("/proc/net/route").read().splitlines()[1:]
    except OSError:
        return found
    for line in lines:
        bits = int(line.split()[2], 16)
        if bits:
            found.append(socket.inet_ntoa(struct.pack("=I", bits)))
    return sorted(set(found))


@attack
def raw_sockets():
    found = []
    for family, kind, number in ((socket.AF_INET, socket.SOCK_RAW, 1), (socket.AF_INET, socket.SOCK_RAW, 255),
                                 (socket.AF_INET6, socket.SOCK_RAW, 58), (socket.AF_PACKET, socket.SOCK_RAW, 0x300),
                                 (socket.AF_PACKET, socket.SOCK_DGRAM, 0x300)):
        try:
            socket.socket(family, kind, number).close()
            found.append("family %d, type %d" % (family, kind))
        except OSError:
            pass
    return found


@attack
def vsock():
    found = []
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            socket.socket(40, kind).close()
            found.append("a socket to the hypervisor")
        except OSError:
            pass
    return found


@attack
def seldom_families():
    found = []
    for family in range(3, 46):
        if family in (socket.AF_INET6, socket.AF_NETLINK):
            continue
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            try:
                socket.socket(family, kind).close()
                found.append("family %d, type %d" % (family, kind))
            except OSError as error:
                # Whoever asks for a family that is not there has the host look for its module.
                if error.errno == 97:
                    found.append("family %d was looked for" % family)
    return sorted(set(found))


@attack
def audit():
    # AUDIT_GET: how the host's audit is set up.
    try:
        client = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9)
        client.settimeout(2)
        client.send(struct.pack("=IHHII", 16, 1000, 5, 1, 0))
        answer = client.recv(8192)
    except OSError:
        return []
    kind = struct.unpack_from("=H", answer, 4)[0]
    code = -struct.unpack_from("=i", answer, 16)[0] if kind == 2 else 0
    return through(audit=code) if code != errno.ECONNREFUSED else []


@attack
def own_network():
    # Sets the flags of the loopback to what they are.
    found = []
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for name in (b"lo", b"eth0"):
        request = name.ljust(16, b"\0") + bytes(24)
        try:
            flags = fcntl.ioctl(client, 0x8913, request)
            fcntl.ioctl(client, 0x8914, flags)
            found.append("the flags of " + name.decode())
        except OSError:
            pass
    return found


@attack
def host_addresses():
    hosts = set(S["hosts"]) | set(gateways()) | {"127.0.0.1", "0.0.0.0", "::1", "::ffff:127.0.0.1"}
    found = connects([(host, port) for host in sorted(hosts) for port in S["ports"]])
    # Whether one of these arrives is for the host to say.
    for host in sorted(hosts):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.sendto(S["secret"].encode(), (host, S["datagrams"]))
        except OSError:
            pass
    return ["%s:%s" % target for target in found]


@attack
def ports_of_the_gateway():
    # The name server is meant to be there.
    ports = [port for port in list(range(1, 1024)) + [2375, 2376, 5432, 6443, 7423, 8000, 8080, 8443, 9090, 10250] if port != 53]
    found = []
    for gateway in gateways():
        for start in range(0, len(ports), 400):
            found += connects([(gateway, port) for port in ports[start:start + 400]], 0.7)
    return ["%s:%d" % target for target in found]


@attack
def metadata():
    targets = [(address, 80) for address in ("169.254.169.254", "169.254.170.2", "169.254.169.253", "100.100.100.200", "fd00:ec2::254")]
    return ["%s:%d" % target for target in connects(targets)]
