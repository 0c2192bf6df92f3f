"""End to end: this implementation and the Rust binary, as old and as new, over the Rust relay.

HANDOFF_BIN        path of the binary `handoff`; without it the tests that need it are skipped
HANDOFF_RELAY_URL  a relay that already runs, instead of one started from HANDOFF_BIN
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import tempfile
import unittest
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
BIN = os.environ.get("HANDOFF_BIN", "")
RELAY_URL = os.environ.get("HANDOFF_RELAY_URL", "")
SIZES = (0, 1, 4096, 262_144)
TIMEOUT = 60.0

# The commands, and how to read what they print. Everything that depends on a command line is here.


@dataclass(frozen=True)
class Command:
    """`qr` and `code` find the QR text and the check code in a line that the program prints."""

    arguments: list[str]
    qr: Callable[[str], str | None] = lambda line: None
    code: Callable[[str], str | None] = lambda line: None
    environment: dict[str, str] | None = None


def event_member(event: str, member: str) -> Callable[[str], str | None]:
    def find(line: str) -> str | None:
        try:
            message = json.loads(line)
        except ValueError:
            return None
        if isinstance(message, dict) and message.get("event") == event:
            return str(message[member])
        return None

    return find


def relay_command() -> Command:
    return Command([BIN, "serve", "--listen", "127.0.0.1:0", "--json", "--set", "activation.enabled=false"])


def relay_url(line: str) -> str | None:
    found = re.search(r"127\.0\.0\.1:([0-9]+)", line)
    return f"ws://127.0.0.1:{found[1]}" if found else None


def python_old(relay: str, credential: Path, *extra: str) -> Command:
    arguments = [sys.executable, "-m", "handoff_py", "old", "--relay", relay]
    return Command(
        [*arguments, "--credential", str(credential), *extra], qr=event_member("qr", "text")
    )


def python_new(qr: str, out: Path, *extra: str) -> Command:
    arguments = [sys.executable, "-m", "handoff_py", "new", "--qr", qr, "--out", str(out)]
    return Command([*arguments, *extra], code=event_member("code", "code"))


def rust_old(relay: str, credential: Path) -> Command:
    return Command(
        [BIN, "old", "--relay", relay, "--credential", str(credential), "--json"],
        qr=event_member("qr_shown", "text"),
    )


def rust_new(qr: str, out: Path) -> Command:
    return Command(
        [BIN, "new", "--qr", qr, "--out", str(out), "--json"], code=event_member("show_code", "code")
    )


# The machinery


class Program:
    """A running program: its lines are kept, and can be waited for."""

    def __init__(self, command: Command, process: asyncio.subprocess.Process) -> None:
        self.command, self.process = command, process
        self.lines: list[str] = []
        self._changed = asyncio.Condition()
        self._open = 2
        self._readers = [
            asyncio.create_task(self._read(stream))
            for stream in (process.stdout, process.stderr)
            if stream is not None
        ]

    @classmethod
    async def start(cls, command: Command) -> Program:
        process = await asyncio.create_subprocess_exec(
            *command.arguments,
            cwd=HERE,
            env={**os.environ, **(command.environment or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(command, process)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            async with self._changed:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self._changed.notify_all()
        async with self._changed:
            self._open -= 1
            self._changed.notify_all()

    async def find(self, finder: Callable[[str], str | None]) -> str:
        """What `finder` finds first, in what was printed or is yet to be."""
        seen = 0
        async with asyncio.timeout(TIMEOUT), self._changed:
            while True:
                for line in self.lines[seen:]:
                    if (found := finder(line)) is not None:
                        return found
                seen = len(self.lines)
                if self._open == 0:
                    raise AssertionError(f"not printed: {self.command.arguments}: {self.lines}")
                await self._changed.wait()

    async def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        await self.process.stdin.drain()

    async def exit_code(self) -> int:
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(*self._readers)
            return await self.process.wait()

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await asyncio.gather(*self._readers)
        await self.process.wait()

    def events(self, name: str) -> list[dict[str, object]]:
        parsed = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [event for event in parsed if event.get("event") == name]


class SilentProxy:
    """In front of the relay; connections can be made to swallow everything, without a close."""

    def __init__(self, relay: str) -> None:
        host, _, port = relay.removeprefix("ws://").rstrip("/").rpartition(":")
        self._relay = host, int(port)
        self._connections: list[asyncio.Event] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def silence_all(self) -> None:
        """What is connected now is dead, and nobody is told."""
        for silent in self._connections:
            silent.set()

    async def _accept(self, app: asyncio.StreamReader, to_app: asyncio.StreamWriter) -> None:
        relay, to_relay = await asyncio.open_connection(*self._relay)
        silent = asyncio.Event()
        self._connections.append(silent)
        self._writers += [to_app, to_relay]
        await asyncio.gather(
            self._pass(app, to_relay, silent), self._pass(relay, to_app, silent)
        )

    @staticmethod
    async def _pass(
        source: asyncio.StreamReader, to: asyncio.StreamWriter, silent: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                if not silent.is_set():
                    to.write(data)
                    await to.drain()
        if not silent.is_set():
            to.close()

    def close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()


OldCommand = Callable[[str, Path], Command]
NewCommand = Callable[[str, Path], Command]


class Handoff(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.addCleanup(self._folder.cleanup)
        self.folder = Path(self._folder.name)
        if RELAY_URL:
            self.relay = RELAY_URL
        elif BIN:
            relay = await self.start(relay_command())
            self.relay = await relay.find(relay_url)
        else:
            self.skipTest("HANDOFF_BIN is not set")

    async def start(self, command: Command) -> Program:
        program = await Program.start(command)
        self.addAsyncCleanup(program.stop)
        return program

    async def begin(
        self, old_command: OldCommand, new_command: NewCommand, credential: bytes
    ) -> tuple[Program, Program, Path, str]:
        """Up to the check code, which is returned and not yet typed."""
        given, taken = self.folder / "given", self.folder / "taken"
        given.write_bytes(credential)
        taken.unlink(missing_ok=True)
        old = await self.start(old_command(self.relay, given))
        text = await old.find(old.command.qr)
        new = await self.start(new_command(text, taken))
        code = await new.find(new.command.code)
        return old, new, taken, code

    async def hand_over(
        self, old_command: OldCommand, new_command: NewCommand, credential: bytes
    ) -> tuple[Program, Program]:
        old, new, taken, code = await self.begin(old_command, new_command, credential)
        await old.say(code)
        self.assertEqual(0, await new.exit_code(), new.lines)
        self.assertEqual(0, await old.exit_code(), old.lines)
        self.assertEqual(credential, taken.read_bytes())
        return old, new

    async def all_sizes(self, old_command: OldCommand, new_command: NewCommand) -> None:
        for size in SIZES:
            with self.subTest(size=size):
                await self.hand_over(old_command, new_command, os.urandom(size))

    def need_bin(self) -> None:
        if not BIN:
            self.skipTest("HANDOFF_BIN is not set")

    def assert_resumed(self, program: Program) -> None:
        self.assertEqual(1, len(program.events("resumed")), program.lines)
        self.assertEqual(2, program.events("ended")[0]["connections"])

    async def test_python_to_python(self) -> None:
        await self.all_sizes(python_old, python_new)

    async def test_python_to_rust(self) -> None:
        self.need_bin()
        await self.all_sizes(python_old, rust_new)

    async def test_rust_to_python(self) -> None:
        self.need_bin()
        await self.all_sizes(rust_old, python_new)

    async def test_static_code(self) -> None:
        await self.hand_over(lambda r, c: python_old(r, c, "--static-qr"), python_new, b"static")

    async def test_old_loses_its_connection(self) -> None:
        # Frame 1 is the hello, 2 acknowledges the reply, 3 and later the credential.
        for other, name in ((python_new, "python"), (rust_new, "rust")):
            if name == "rust" and not BIN:
                continue
            for after in (1, 2, 20):
                with self.subTest(new=name, after=after):
                    old, _ = await self.hand_over(
                        lambda r, c: python_old(r, c, "--drop-after", str(after)),  # noqa: B023
                        other,
                        os.urandom(262_144),
                    )
                    self.assert_resumed(old)

    async def test_new_loses_its_connection(self) -> None:
        # Frame 1 acknowledges the hello, 2 is the reply, 3 and later the credential.
        for other, name in ((python_old, "python"), (rust_old, "rust")):
            if name == "rust" and not BIN:
                continue
            for after in (1, 2, 20, 67):
                with self.subTest(old=name, after=after):
                    _, new = await self.hand_over(
                        other,
                        lambda q, o: python_new(q, o, "--drop-after", str(after)),  # noqa: B023
                        os.urandom(262_144),
                    )
                    self.assert_resumed(new)

    async def test_scanned_while_olds_connection_is_dead(self) -> None:
        for command, name in ((python_old, "python"), (rust_old, "rust")):
            if name == "rust" and not BIN:
                continue
            with self.subTest(old=name):
                proxy = SilentProxy(self.relay)
                address = await proxy.start()
                self.addCleanup(proxy.close)
                given, taken = self.folder / "given", self.folder / "taken"
                given.write_bytes(b"secret")
                taken.unlink(missing_ok=True)
                old = await self.start(command(address, given))
                text = await old.find(old.command.qr)
                proxy.silence_all()
                new = await self.start(python_new(text, taken))
                code = await new.find(new.command.code)
                await old.say(code)
                self.assertEqual(0, await new.exit_code(), new.lines)
                self.assertEqual(0, await old.exit_code(), old.lines)
                self.assertEqual(b"secret", taken.read_bytes())

    async def test_wrong_code(self) -> None:
        old, new, taken, code = await self.begin(python_old, python_new, b"secret")
        await old.say(str(1000 + (int(code) - 1000 + 1) % 9000))
        self.assertEqual(1, await old.exit_code(), old.lines)
        self.assertEqual(1, await new.exit_code(), new.lines)
        self.assertEqual("wrong_code", old.events("ended")[0]["reason"])
        self.assertEqual("wrong_code", new.events("ended")[0]["reason"])
        self.assertFalse(taken.exists())

    async def test_slip(self) -> None:
        old, new, taken, code = await self.begin(python_old, python_new, b"secret")
        for slip in ("", "471", "47111", "0471", "four"):
            await old.say(slip)
        await old.say(code)
        self.assertEqual(0, await new.exit_code(), new.lines)
        self.assertEqual(b"secret", taken.read_bytes())
        self.assertEqual(6, len(old.events("ask_code")))

    async def test_code_with_spaces(self) -> None:
        old, new, taken, code = await self.begin(python_old, python_new, b"secret")
        await old.say(" " + " ".join(code) + " ")
        self.assertEqual(0, await new.exit_code(), new.lines)
        self.assertEqual(b"secret", taken.read_bytes())


if __name__ == "__main__":
    unittest.main()
