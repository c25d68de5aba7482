"""An SSH server on loopback, reached over a link with a chosen delay."""

import asyncio
import contextlib
import getpass
import os
import shlex
import socket
import subprocess
import threading
import time
from pathlib import Path

from tests.support.tmux import CHECKOUT, environment_of


class Server:
    """An sshd with its own port and keys, in ``folder``."""

    def __init__(self, folder: Path, sshd: str):
        self.folder = folder
        for name in ("host", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        self.port = _free_port()
        settings = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": folder / "host",
            "AuthorizedKeysFile": folder / "key.pub",
            "PidFile": "none",
            "UsePAM": "no",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "yes",
        }
        (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)  # a server of root needs this directory
        with open(folder / "log", "wb") as log:
            self._process = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "config"], stderr=log)
        _wait_for_port(self.port, folder / "log")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()

    def command(self, port: int, command: str, *options: str, **environment: str) -> str:
        """The shell command that runs ``command`` on the server, with only ``environment``."""
        client = ["ssh", "-F", "/dev/null", "-tt", *options, "-p", str(port), "-i", str(self.folder / "key")]
        for option in ("IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"):
            client += ["-o", option]
        variables = environment_of(self.folder) | {"PYTHONPATH": CHECKOUT} | environment
        del variables["TERM"], variables["PS1"]  # ssh sets TERM itself
        there = shlex.join(["env", *(f"{name}={value}" for name, value in variables.items())])
        return shlex.join([*client, "-o", "LogLevel=ERROR", f"{getpass.getuser()}@127.0.0.1", f"{there} {command}"])


class Link:
    """Forwards connections to ``port``, each way with a delay of ``delay`` seconds and unlimited bandwidth."""

    def __init__(self, port: int, delay: float):
        self.delay = delay
        self.sent = self.received = 0
        """Bytes to the server, and from it."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(self._start(port), self._loop)
        self._server = started.result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def _start(self, port: int) -> asyncio.Server:
        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(asyncio.CancelledError):  # the link is cut
                await asyncio.gather(self._carry(reader, back, "sent"), self._carry(there, writer, "received"))

        return await asyncio.start_server(pass_on, "127.0.0.1", 0)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: str) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(max(due - time.monotonic(), 0))
                if not data:
                    writer.close()
                    return
                writer.write(data)

        delivery = asyncio.create_task(deliver())
        try:
            while data := await reader.read(1 << 16):
                setattr(self, count, getattr(self, count) + len(data))
                under_way.put_nowait((time.monotonic() + self.delay, data))
        except ConnectionError:
            pass
        under_way.put_nowait((time.monotonic() + self.delay, b""))
        await delivery

    def close(self) -> None:
        """Cut the link and all its connections."""

        async def cut() -> None:
            self._server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cut(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for_port(port: int, log: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
