"""gRPC as people write it: a server with every kind of call, and a client that tries them all.

`calls.py serve PORT`, or `calls.py ADDRESS HOST TOKEN`, which prints what came of each call.
"""

import json
import queue
import sys
from concurrent import futures

import grpc

KINDS = {
    "Turn": grpc.unary_unary_rpc_method_handler,
    "Count": grpc.unary_stream_rpc_method_handler,
    "Sum": grpc.stream_unary_rpc_method_handler,
    "Echo": grpc.stream_stream_rpc_method_handler,
    "Fail": grpc.unary_unary_rpc_method_handler,
}


def count(request, _context):
    for number in range(int(request)):
        yield b"%d" % number


def echo(requests, _context):
    yield from requests


def fail(_request, context):
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more of it")


DOES = {
    "Turn": lambda request, _context: request[::-1],
    "Count": count,
    "Sum": lambda requests, _context: b"%d" % sum(len(it) for it in requests),
    "Echo": echo,
    "Fail": fail,
}


def serve(port):
    server = grpc.server(futures.ThreadPoolExecutor(8))
    methods = {name: kind(DOES[name]) for name, kind in KINDS.items()}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Test", methods)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


def ask(address, host, token):
    options = [("grpc.default_authority", host), ("grpc.enable_http_proxy", 0)]
    channel = grpc.insecure_channel(address, options)
    more = {"metadata": [("x-warren-token", token)], "timeout": 60}
    path = "/test.Test/"
    found = {"turn": channel.unary_unary(path + "Turn")(b"abc", **more).decode()}
    large = channel.unary_unary(path + "Turn")(b"x" * 3_000_000, **more)
    found["large"] = len(large)
    found["count"] = [it.decode() for it in channel.unary_stream(path + "Count")(b"5", **more)]
    pieces = (b"y" * 1_000_000 for _ in range(64))
    found["sum"] = channel.stream_unary(path + "Sum")(pieces, **more).decode()
    # Each message is sent when the one before it has come back.
    sent = queue.Queue()
    answers = channel.stream_stream(path + "Echo")(iter(sent.get, None), **more)
    found["echo"] = []
    for word in (b"one", b"two", b"three"):
        sent.put(word)
        found["echo"].append(next(answers).decode())
    sent.put(None)
    found["rest"] = len(list(answers))
    try:
        channel.unary_unary(path + "Fail")(b"", **more)
    except grpc.RpcError as error:
        found["fail"] = [error.code().name, error.details()]
    try:
        channel.unary_unary(path + "Turn")(b"abc", timeout=60)
    except grpc.RpcError as error:
        found["without_token"] = error.code().name
    print(json.dumps(found))


serve(sys.argv[2]) if sys.argv[1] == "serve" else ask(*sys.argv[1:])
