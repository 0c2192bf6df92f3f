"""Command line: `python -m handoff_py old ...` and `python -m handoff_py new ...`.

Prints one JSON object per line on standard output; the member `event` says what happened.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from . import qr
from .contents import Device
from .new_app import NewApp, NewConfig
from .old_app import OldApp, OldConfig

POLL_SECONDS = 0.1


def emit(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def write_atomically(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(content)
    os.replace(beside, path)


class FileLines:
    """The first line of a file that another program writes: when it is whole, when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: str | None = None

    async def next(self) -> str:
        while True:
            try:
                line, newline, _ = self._path.read_text().partition("\n")
                if newline and line != self._last:
                    self._last = line
                    return line
            except FileNotFoundError:
                pass
            await asyncio.sleep(POLL_SECONDS)


class StdinLines:
    """The lines of standard input. After its end there is nothing more to come."""

    def __init__(self) -> None:
        self._reader: asyncio.StreamReader | None = None

    async def next(self) -> str:
        if self._reader is None:
            self._reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(self._reader)
            await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
        line = await self._reader.readline()
        if not line:
            await asyncio.Future()
        return line.decode(errors="replace")


def file_shower(path: Path | None) -> Callable[[str | None], None]:
    """Shows a text by writing it to a file, with a newline; nothing shown is an empty file."""

    def show(text: str | None) -> None:
        if path is not None:
            write_atomically(path, b"" if text is None else text.encode() + b"\n")

    return show


class App(Protocol):
    def cancel(self, reason: str) -> None: ...


def cancel_on_signal(app: App) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, app.cancel, "user")


async def run_old(args: argparse.Namespace) -> int:
    lifetime = args.lifetime_ms
    config = OldConfig(
        relay_url=args.relay,
        relay_id=args.relay_id,
        literal="" if args.relay_id else urlsplit(args.relay).netloc,
        device=Device(args.model, args.app_version),
        lifetime_ms=lifetime,
        interval_ms=lifetime if args.static_qr else args.interval_ms,
        token=args.token,
        drop_after=args.drop_after,
    )
    codes = StdinLines() if args.code_in is None else FileLines(args.code_in)
    credential = args.credential.read_bytes()
    app = OldApp(config, credential, emit, file_shower(args.qr_out), codes.next)
    cancel_on_signal(app)
    await app.run()
    return 0 if app.delivered else 1


async def run_new(args: argparse.Namespace) -> int:
    listed = {int(number): url for number, _, url in (x.partition("=") for x in args.listed)}
    allowed = set(args.allow_relay)
    policy = qr.RelayPolicy(listed, lambda host: host in allowed or qr.is_loopback(host))
    config = NewConfig(policy, Device(args.model, args.app_version), args.drop_after)
    text = args.qr if args.qr is not None else await FileLines(args.qr_file).next()
    try:
        app = NewApp(config, text, emit, file_shower(args.code_out))
    except qr.Refused as e:
        emit("refused", told=e.told, why=e.why)
        return 1
    cancel_on_signal(app)
    reason, credential = await app.run()
    if reason != "completed" or credential is None:
        return 1
    write_atomically(args.out, credential)
    emit("written", bytes=len(credential))
    return 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="handoff_py", description=__doc__)
    roles = parser.add_subparsers(dest="role", required=True)

    old = roles.add_parser("old", help="hand a credential over")
    old.add_argument("--relay", required=True, metavar="URL", help="ws://127.0.0.1:PORT")
    old.add_argument("--relay-id", type=int, default=0, metavar="N", help="instead of a literal")
    old.add_argument("--credential", required=True, type=Path, metavar="FILE")
    old.add_argument("--static-qr", action="store_true", help="one frame for the whole session")
    old.add_argument("--interval-ms", type=int, default=5_000)
    old.add_argument("--lifetime-ms", type=int, default=180_000)
    old.add_argument("--token", help="opening token")
    old.add_argument("--qr-out", type=Path, metavar="FILE", help="text of the current frame")
    old.add_argument("--code-in", type=Path, metavar="FILE", help="otherwise standard input")

    new = roles.add_parser("new", help="receive a credential")
    source = new.add_mutually_exclusive_group(required=True)
    source.add_argument("--qr", metavar="TEXT")
    source.add_argument("--qr-file", type=Path, metavar="FILE")
    new.add_argument("--out", required=True, type=Path, metavar="FILE")
    new.add_argument("--code-out", type=Path, metavar="FILE")
    new.add_argument("--listed", action="append", default=[], metavar="N=URL", help="relay list")
    new.add_argument("--allow-relay", action="append", default=[], metavar="HOST")

    for role in (old, new):
        role.add_argument("--model", default="handoff_py")
        role.add_argument("--app-version", default="1")
        role.add_argument("--drop-after", type=int, metavar="N", help=argparse.SUPPRESS)
    return parser


def main() -> int:
    args = arguments().parse_args()
    run = run_old if args.role == "old" else run_new
    return asyncio.run(run(args))
