"""Servers as guests have them, on 127.0.0.1 alone: HTTP/1.1 with a WebSocket on 3000, HTTP/2 on 3001."""

import base64, hashlib, http.server, os, socket, socketserver, struct, sys, threading, time

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PAGE = open("/tmp/page.html", "rb").read() if os.path.exists("/tmp/page.html") else b"<p>hello</p>"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        with open("/tmp/requests", "a") as log:
            log.write(f"{self.command} {self.path} cookie={self.headers.get('cookie')}\n")

    def reply(self, body, kind="text/plain"):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/page":
            self.reply(PAGE, "text/html")
        elif path == "/download":
            left = int(self.path.split("?")[1])
            self.send_response(200)
            self.send_header("content-length", str(left))
            self.end_headers()
            piece = b"d" * (1 << 20)
            while left > 0:
                self.wfile.write(piece[:left])
                left -= len(piece)
        elif path == "/events":
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            for number in range(3):
                self.wfile.write(b"data: %d\n\n" % number)
                self.wfile.flush()
                # The next one is said when the client has seen this one.
                while not os.path.exists(f"/tmp/seen-{number}"):
                    time.sleep(0.01)
            self.close_connection = True
        elif path == "/socket":
            self.socket()
        else:
            self.reply(f"{self.command} {self.path} host={self.headers.get('host')}".encode())

    def do_POST(self):
        if "chunked" in (self.headers.get("transfer-encoding") or ""):
            total = self.chunked()
        else:
            total = left = int(self.headers.get("content-length") or 0)
            body = b""
            while left > 0:
                piece = self.rfile.read(min(left, 1 << 20))
                if not piece:
                    return
                left -= len(piece)
                body = piece
        if self.path == "/report":
            with open("/tmp/report.new", "wb") as report:
                report.write(body)
            os.rename("/tmp/report.new", "/tmp/report")
        self.reply(str(total).encode())

    def chunked(self):
        total = 0
        while size := int(self.rfile.readline().split(b";")[0], 16):
            total += len(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return total

    def socket(self):
        key = self.headers["sec-websocket-key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest()).decode()
        self.send_response(101)
        for name, value in [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-accept", accept)]:
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        while len(head := self.rfile.read(2)) == 2:
            length = head[1] & 127
            if length == 126:
                length = struct.unpack("!H", self.rfile.read(2))[0]
            mask, data = self.rfile.read(4), self.rfile.read(length)
            data = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
            if head[0] & 15 == 8:
                return
            self.wfile.write(bytes([head[0], len(data)]) + data)
            self.wfile.flush()


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128


def frame(kind, flags, stream, payload=b""):
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def grpc(connection):
    """One who speaks HTTP/2 and nothing else: echoes what comes, with trailers."""
    read = connection.makefile("rb")
    if not read.read(24).startswith(b"PRI * HTTP/2.0"):
        return connection.close()
    connection.sendall(frame(4, 0, 0))
    data = {}
    while len(head := read.read(9)) == 9:
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream = int.from_bytes(head[5:], "big")
        payload = read.read(length)
        if kind == 4 and not flags & 1:
            connection.sendall(frame(4, 1, 0))
        if kind == 0:
            data[stream] = data.get(stream, b"") + payload
        if kind in (0, 1) and flags & 1:
            name = b"grpc-status"
            trailers = b"\x00" + bytes([len(name)]) + name + b"\x01" + b"0"
            connection.sendall(frame(1, 4, stream, b"\x88") + frame(0, 0, stream, data.pop(stream, b"")))
            connection.sendall(frame(1, 5, stream, trailers))


def http2():
    listener = socket.create_server(("127.0.0.1", 3001))
    while True:
        threading.Thread(target=grpc, args=(listener.accept()[0],), daemon=True).start()


threading.Thread(target=http2, daemon=True).start()
Server(("127.0.0.1", 3000), Handler).serve_forever()
