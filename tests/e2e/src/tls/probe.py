"""One request over TLS, as a program makes it that checks certificates.

Arguments: the file of the authority, an address, its port, the name to ask for, a path, and a token
or `-`. Says what it found as JSON; a path that begins with `/socket` is a WebSocket that echoes.
"""

import json, socket, ssl, sys

authority, address, port, name, path, token = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
context.set_alpn_protocols(["http/1.1"])
found = {}


def ask(tls):
    found["serial"] = tls.getpeercert()["serialNumber"]
    lines = [f"GET {path} HTTP/1.1", f"host: {name}:{port}"]
    if token != "-":
        lines.append(f"x-warren-token: {token}")
    if path.startswith("/socket"):
        lines += ["connection: Upgrade", "upgrade: websocket", "sec-websocket-version: 13"]
        lines.append("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")
    else:
        lines.append("connection: close")
    tls.sendall("\r\n".join(lines + ["", ""]).encode())
    read = tls.makefile("rb")
    found["status"] = int(read.readline().split()[1])
    while read.readline().strip():
        pass
    if found["status"] == 101:
        tls.sendall(b"\x81\x82\0\0\0\0hi")
        found["echo"] = read.read(4)[2:].decode()
    else:
        found["body"] = read.read().decode()


try:
    with socket.create_connection((address, int(port)), 20) as plain:
        with context.wrap_socket(plain, server_hostname=name) as tls:
            ask(tls)
except (ssl.SSLError, OSError) as error:
    found["error"] = str(error)
print(json.dumps(found))
