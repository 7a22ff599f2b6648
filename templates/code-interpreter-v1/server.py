"""Runs code in Jupyter kernels, for clients of E2B's code interpreter, on port 49999.

    POST   /execute                 {"code", "context_id"?, "language"?, "env_vars"?}
    POST   /contexts                {"language"?, "cwd"?}
    GET    /contexts
    POST   /contexts/ID/restart
    DELETE /contexts/ID
    GET    /health

A context is a kernel: its variables outlive a request. One request at a time runs in it, the others
wait. An answer to /execute is lines of JSON, as the kernel says them; whoever goes away before the
end interrupts the kernel.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
import uuid

import tornado.httpserver
import tornado.web
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager

PORT = 49999
HOME = os.path.expanduser("~")
HERE = os.path.dirname(os.path.abspath(__file__))
# Where kernels are spoken to: short, for the name of a socket has a hundred bytes.
SOCKETS = tempfile.mkdtemp(prefix="kernels-")
# Silence on an answer before a sign of life, in seconds.
SILENCE = 5
# How long a kernel may take to answer for the first time, in seconds.
PATIENCE = 60
# The largest request, in bytes.
MOST_BYTES = 64 << 20

# What clients call a language, and the kernels that have it: the first one that is installed.
KERNELS = {
    "python": ["python3"],
    "javascript": ["deno", "javascript", "jslab"],
    "typescript": ["deno", "tslab", "typescript"],
    "r": ["ir"],
    "java": ["java", "rjk_java"],
    "bash": ["bash"],
}
OTHER_NAMES = {"python3": "python", "js": "javascript", "ts": "typescript", "sh": "bash"}

# What a result has under which name; everything else is in "extra".
FORMATS = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    "e2b/data": "data",
    "e2b/chart": "chart",
}

log = logging.getLogger("interpreter")


class Refused(Exception):
    """A request that cannot be done, with the status that says so."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status
        self.text = text


class Context:
    """A kernel, and whose turn it is."""

    def __init__(self, language, kernel, cwd):
        self.id = str(uuid.uuid4())
        self.language = language
        self.cwd = cwd
        # Ports of the loopback are reached from outside; sockets in files are not.
        sockets = os.path.join(SOCKETS, self.id)
        self.manager = AsyncKernelManager(kernel_name=kernel, transport="ipc", ip=sockets)
        self.client = None
        self.turn = asyncio.Lock()

    def describe(self):
        return {"id": self.id, "language": self.language, "cwd": self.cwd}

    async def start(self):
        arguments = []
        if self.language == "python":
            arguments = [f"--IPKernelApp.exec_files=['{HERE}/startup.py']"]
        await self.manager.start_kernel(cwd=self.cwd, extra_arguments=arguments)
        await self.connect()

    async def connect(self):
        self.client = self.manager.client()
        self.client.start_channels()
        await self.client.wait_for_ready(timeout=PATIENCE)

    async def restart(self):
        self.client.stop_channels()
        await self.manager.restart_kernel(now=True)
        await self.connect()

    async def end(self):
        if self.client is not None:
            self.client.stop_channels()
        await self.manager.shutdown_kernel(now=True)

    async def quietly(self, code):
        """Runs code that is nobody's, and waits for its end."""
        if code:
            async for _ in self.messages(self.client.execute(code, silent=True, store_history=False)):
                pass

    async def messages(self, request):
        """What the kernel publishes about a request, to its end; None after each silence."""
        while True:
            try:
                message = await self.client.get_iopub_msg(timeout=SILENCE)
            except asyncio.TimeoutError:
                message = None
            except Exception as error:  # the queue of another event loop says it with its own class
                if type(error).__name__ != "Empty":
                    raise
                message = None
            if message is None:
                if not await self.manager.is_alive():
                    raise KernelDied
                yield None
                continue
            if message["parent_header"].get("msg_id") != request:
                continue
            yield message
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return


class KernelDied(Exception):
    """The kernel has ended while it ran somebody's code."""


class Contexts:
    """All kernels. The first one of a language is what runs code that names no context."""

    def __init__(self):
        self.all = {}
        self.defaults = {}
        self.starting = asyncio.Lock()
        self.installed = set(KernelSpecManager().find_kernel_specs())

    def kernel(self, language):
        language = (language or "python").lower()
        language = OTHER_NAMES.get(language, language)
        for kernel in KERNELS.get(language, []):
            if kernel in self.installed:
                return language, kernel
        known = [it for it in KERNELS if any(kernel in self.installed for kernel in KERNELS[it])]
        raise Refused(400, f"language '{language}' has no kernel here; there are {', '.join(known)}")

    async def create(self, language, cwd):
        language, kernel = self.kernel(language)
        cwd = os.path.join(HOME, os.path.expanduser(cwd)) if cwd else HOME
        try:
            os.makedirs(cwd, exist_ok=True)
        except OSError as error:
            raise Refused(400, f"cwd '{cwd}': {error.strerror}") from error
        context = Context(language, kernel, cwd)
        await context.start()
        self.all[context.id] = context
        return context

    async def default(self, language):
        language, _ = self.kernel(language)
        async with self.starting:
            if language not in self.defaults:
                self.defaults[language] = await self.create(language, None)
        return self.defaults[language]

    def get(self, id):
        if id not in self.all:
            raise Refused(404, f"Context {id} not found")
        return self.all[id]

    async def remove(self, id):
        context = self.get(id)
        del self.all[id]
        if self.defaults.get(context.language) is context:
            del self.defaults[context.language]
        await context.end()


def with_environment(language, variables):
    """Code that sets variables, and code that takes them back."""
    before = {name: os.environ.get(name) for name in variables}
    if language == "python":
        take_back = [
            f"__import__('os').environ.pop({name!r}, None)"
            if value is None
            else f"__import__('os').environ.update({{{name!r}: {value!r}}})"
            for name, value in before.items()
        ]
        return f"__import__('os').environ.update({variables!r})", "\n".join(take_back)
    if language == "bash":
        quote = lambda text: "'" + text.replace("'", "'\\''") + "'"
        take_back = [
            f"unset {name}" if value is None else f"export {name}={quote(value)}"
            for name, value in before.items()
        ]
        return "\n".join(f"export {n}={quote(v)}" for n, v in variables.items()), "\n".join(take_back)
    if language in ("javascript", "typescript"):
        words = lambda name, value: f"process.env[{json.dumps(name)}] = {json.dumps(value)};"
        take_back = [
            f"delete process.env[{json.dumps(name)}];" if value is None else words(name, value)
            for name, value in before.items()
        ]
        return "\n".join(words(n, v) for n, v in variables.items()), "\n".join(take_back)
    if language == "r":
        set_all = ", ".join(f"{json.dumps(n)} = {json.dumps(v)}" for n, v in variables.items())
        names = ", ".join(json.dumps(name) for name in variables)
        return f"do.call(Sys.setenv, list({set_all}))", f"Sys.unsetenv(c({names}))"
    raise Refused(400, f"variables cannot be set for one request in '{language}'")


def result(content, main):
    """A result as clients take it."""
    line = {"type": "result", "is_main_result": main}
    extra = {}
    for format, value in content["data"].items():
        name = FORMATS.get(format)
        if name is None:
            extra[format] = value
            continue
        if name == "text" and len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        line[name] = value
    if extra:
        line["extra"] = extra
    return line


def line_of(message):
    """What a message of the kernel is to a client; None where it is nothing."""
    kind, content = message["msg_type"], message["content"]
    if kind == "execute_input":
        return {"type": "number_of_executions", "execution_count": content["execution_count"]}
    if kind == "stream":
        at = message["header"]["date"]
        return {"type": content["name"], "text": content["text"], "timestamp": at.isoformat()}
    if kind in ("display_data", "execute_result"):
        return result(content, kind == "execute_result")
    if kind == "error":
        lines = "\n".join(content["traceback"])
        return {
            "type": "error",
            "name": content["ename"],
            "value": content["evalue"],
            "traceback": lines,
        }
    return None


class Handler(tornado.web.RequestHandler):
    """What all routes share."""

    @property
    def contexts(self):
        return self.application.settings["contexts"]

    def body(self):
        try:
            body = json.loads(self.request.body or b"{}")
        except ValueError as error:
            raise Refused(400, f"the body is no JSON: {error}") from error
        if not isinstance(body, dict):
            raise Refused(400, "the body is no object")
        return body

    def write_error(self, status, **more):
        error = (more.get("exc_info") or (None, None, None))[1]
        if isinstance(error, Refused):
            self.set_status(error.status)
            text = error.text
        else:
            text = "the interpreter failed"
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(text)

    def log_exception(self, kind, value, trace):
        if not isinstance(value, Refused):
            log.error("a request failed", exc_info=(kind, value, trace))

    def answer(self, value):
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(value))


class Health(Handler):
    def get(self):
        self.finish("OK")


class All(Handler):
    def get(self):
        self.answer([context.describe() for context in self.contexts.all.values()])

    async def post(self):
        body = self.body()
        context = await self.contexts.create(body.get("language"), body.get("cwd"))
        self.answer(context.describe())


class One(Handler):
    async def delete(self, id):
        await self.contexts.remove(id)
        self.answer(None)


class Restart(Handler):
    async def post(self, id):
        await self.contexts.get(id).restart()
        self.answer(None)


class Execute(Handler):
    running = None
    gone = False

    def on_connection_close(self):
        self.gone = True
        if self.running is not None:
            asyncio.ensure_future(self.running.manager.interrupt_kernel())

    async def post(self):
        body = self.body()
        id, language = body.get("context_id"), body.get("language")
        if id and language:
            raise Refused(400, "Only one of context_id or language can be provided")
        if not isinstance(body.get("code"), str):
            raise Refused(400, "expected `code`, a text")
        context = self.contexts.get(id) if id else await self.contexts.default(language)
        before, after = "", ""
        if body.get("env_vars"):
            variables = {str(name): str(value) for name, value in body["env_vars"].items()}
            before, after = with_environment(context.language, variables)
        self.set_header("Content-Type", "application/x-ndjson")
        async with context.turn:
            if self.gone:
                return
            try:
                await context.quietly(before)
                await self.run(context, body["code"])
                await context.quietly(after)
            except KernelDied:
                value = "the kernel has ended while it ran this, and was started anew"
                await self.say({"type": "error", "name": "KernelDied", "value": value, "traceback": value})
                await context.restart()
        await self.say({"type": "end_of_execution"})

    async def run(self, context, code):
        self.running = context
        try:
            request = context.client.execute(code, store_history=True, allow_stdin=False)
            async for message in context.messages(request):
                line = {"type": "keepalive"} if message is None else line_of(message)
                if line is not None:
                    await self.say(line)
        finally:
            self.running = None

    async def say(self, line):
        if self.gone:
            return
        try:
            self.write(json.dumps(line, default=str) + "\n")
            await self.flush()
        except tornado.iostream.StreamClosedError:
            self.gone = True


async def main():
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    contexts = Contexts()
    await contexts.default("python")
    routes = [
        ("/health", Health),
        ("/execute", Execute),
        ("/contexts", All),
        ("/contexts/([^/]+)/restart", Restart),
        ("/contexts/([^/]+)", One),
    ]
    application = tornado.web.Application(routes, contexts=contexts)
    application.listen(PORT, max_body_size=MOST_BYTES)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    for context in list(contexts.all.values()):
        await context.end()


asyncio.run(main())
