# What the other sandbox does: it has everything that must not be found, says so, and waits to be
# ended. Its own command line has S["neighbour"]["mark"] in it.
for path in S["neighbour"]["files"]:
    with open(path, "w") as file:
        file.write(S["secret"])
    os.chmod(path, 0o644)
segment = libc.shmget(S["neighbour"]["key"], 4096, 0o1666)
server = socket.create_server(("", S["neighbour"]["port"]))
port = server.getsockname()[1]
named = socket.socket(socket.AF_UNIX)
named.bind("\0" + S["neighbour"]["mark"])
named.listen()
addresses = []
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    try:
        probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses a way
        addresses.append(probe.getsockname()[0])
    except OSError:
        pass
print(json.dumps({"addresses": addresses, "port": port, "shared": segment >= 0}), flush=True)
signal.alarm(300)
sys.stdin.read() if S["neighbour"].get("until_input_ends") else signal.pause()
libc.shmctl(segment, 0, None)
