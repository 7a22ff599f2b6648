"""The client of the rows about egress, the same in a sandbox and in a plain namespace.

    bulk HOST PORT BYTES ROUNDS       bytes per second of a download
    first HOST PORT - ROUNDS          nanoseconds from the connection to the first byte of a page
    names SERVER 53 NAME ROUNDS       nanoseconds of a question; each for a new name with `*.NAME`

Port 443 is TLS, whose certificate is not looked at. Prints the samples as a list of JSON.
"""

import json
import socket
import ssl
import struct
import sys
import time

BUFFER = memoryview(bytearray(1 << 20))
# Made once, as programs do that connect often: it reads every authority of the system.
CONTEXT = ssl.create_default_context()
CONTEXT.check_hostname = False
CONTEXT.verify_mode = ssl.CERT_NONE


def connect(host, port):
    stream = socket.create_connection((address, port), 30)
    if port != 443:
        return stream
    return CONTEXT.wrap_socket(stream, server_hostname=host)


def ask(host, port, length):
    stream = connect(host, port)
    stream.sendall(f"GET /bytes/{length} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
    return stream


def bulk(host, port, length):
    start = time.monotonic_ns()
    got = 0
    with ask(host, port, length) as stream:
        while more := stream.recv_into(BUFFER):
            got += more
    if got < length:
        raise SystemExit(f"{got} of {length} bytes came")
    return length * 10**9 // (time.monotonic_ns() - start)


def first(host, port, _nothing):
    start = time.monotonic_ns()
    with ask(host, port, 1) as stream:
        head = stream.recv(15)
        took = time.monotonic_ns() - start
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"answered {head}")
    return took


def names(server, port, name, number):
    name = name.replace("*", f"n{number}")
    labels = b"".join(bytes([len(it)]) + it.encode() for it in name.split("."))
    query = struct.pack("!HHHHHH", number & 0xFFFF, 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(10)
        start = time.monotonic_ns()
        one.sendto(query, (server, port))
        one.recv(4096)
        return time.monotonic_ns() - start


what, host, port, more, rounds = sys.argv[1:]
port = int(port)
# Once: questions about names have rows of their own.
address = socket.gethostbyname(host)
samples = []
for number in range(int(rounds)):
    if what == "bulk":
        samples.append(bulk(host, port, int(more)))
    elif what == "first":
        samples.append(first(host, port, more))
    else:
        samples.append(names(host, port, more, number))
print(json.dumps(samples))
