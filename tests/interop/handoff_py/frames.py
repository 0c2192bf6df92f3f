"""Data frame headers (5.1) and delivery (section 6): acknowledge, keep, send again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .derivations import u64

VERSION = 1
OLD_TO_NEW, NEW_TO_OLD = 1, 2
HELLO, REPLY, CREDENTIAL, RECEIPT, ACKNOWLEDGEMENT = 1, 2, 3, 4, 5
DIRECTION_OF = {HELLO: NEW_TO_OLD, REPLY: OLD_TO_NEW, CREDENTIAL: OLD_TO_NEW, RECEIPT: NEW_TO_OLD}

HEADER_BYTES = 12
WINDOW = 4
FIRST_REPEAT_SECONDS = 2.0
LONGEST_REPEAT_SECONDS = 16.0
MAX_DIRECTION_FRAMES = 512
MAX_DIRECTION_BYTES = 1_048_576


class Fatal(Exception):
    """The peer sent what it must not: cancel with verification_failed."""


@dataclass(frozen=True)
class Header:
    direction: int
    type: int
    seq: int

    def encode(self) -> bytes:
        return bytes([VERSION, self.direction, self.type, 0]) + u64(self.seq)

    @classmethod
    def decode(cls, frame: bytes) -> Header:
        """Refuses what no frame of this version can have; says nothing about seq."""
        if len(frame) < HEADER_BYTES:
            raise Fatal("short header")
        version, direction, kind, flags = frame[:4]
        if version != VERSION or flags != 0 or direction not in (OLD_TO_NEW, NEW_TO_OLD):
            raise Fatal("header")
        if kind != ACKNOWLEDGEMENT and DIRECTION_OF.get(kind) != direction:
            raise Fatal("type")
        return cls(direction, kind, int.from_bytes(frame[4:HEADER_BYTES], "big"))


class TimerHandle(Protocol):
    def cancel(self) -> None: ...


def _call_later(seconds: float, action: Callable[[], None]) -> TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, action)


class Delivery:
    """One app's half of section 6, in both directions.

    `transmit` hands a frame to the connection, if there is one. The caller says what it hears
    about the peer and about its own connection; `receive` and `accept` serve arriving frames.
    """

    def __init__(
        self,
        own_direction: int,
        transmit: Callable[[bytes], None],
        call_later: Callable[[float, Callable[[], None]], TimerHandle] = _call_later,
    ) -> None:
        self._own = own_direction
        self._transmit = transmit
        self._call_later = call_later
        self._kept: deque[tuple[int, bytes]] = deque()
        self._sealed = 0
        self._sent = 0  # how many sealed frames have gone out at least once
        self.expected = 0
        self._peer_known = False
        self._online = False
        self._timer: TimerHandle | None = None
        self._wait = FIRST_REPEAT_SECONDS
        self._frames_out = 0
        self._bytes_out = 0
        self._stopped = False

    # Sending (6.2)

    @property
    def next_seq(self) -> int:
        return self._sealed

    def has_room(self) -> bool:
        return len(self._kept) < WINDOW

    def send(self, frame: bytes) -> None:
        """Takes a newly sealed frame. While the peer is offline it is kept for later."""
        assert self.has_room()
        self._kept.append((self._sealed, frame))
        self._sealed += 1
        if self._online:
            self._put(frame)
            self._sent = self._sealed
            self._start_timer()

    def went_online(self) -> None:
        """After `joined`, `resumed` or `peer_online` with the peer there (rule 3)."""
        self._peer_known = True
        self._online = True
        self._wait = FIRST_REPEAT_SECONDS
        self._stop_timer()
        self._send_kept()

    def went_offline(self) -> None:
        """The peer, or this app itself, has no connection: the timer stands still."""
        self._online = False
        self._stop_timer()

    def peer_known(self) -> None:
        self._peer_known = True

    def stop(self) -> None:
        self._stopped = True
        self._stop_timer()
        self._kept.clear()

    def _send_kept(self) -> None:
        for _, frame in self._kept:
            self._put(frame)
        self._sent = self._sealed
        self._start_timer()

    def _put(self, frame: bytes) -> None:
        self._frames_out += 1
        self._bytes_out += len(frame)
        self._transmit(frame)

    def _start_timer(self) -> None:
        if self._timer is None and self._kept and self._online and not self._stopped:
            self._timer = self._call_later(self._wait, self._fire)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        size = sum(len(frame) for _, frame in self._kept)
        if (
            self._frames_out + len(self._kept) > MAX_DIRECTION_FRAMES
            or self._bytes_out + size > MAX_DIRECTION_BYTES
        ):
            return
        self._wait = min(self._wait * 2, LONGEST_REPEAT_SECONDS)
        self._send_kept()

    # Receiving (6.1)

    def receive(self, frame: bytes) -> Header | None:
        """The header of a sealed frame that is due, to be opened and then accepted."""
        if not self._peer_known or self._stopped:
            return None
        header = Header.decode(frame)
        if header.direction == self._own:
            raise Fatal("own direction")
        if header.type == ACKNOWLEDGEMENT:
            self._acknowledged(header.seq, len(frame) - HEADER_BYTES)
            return None
        if header.seq != self.expected:
            self._acknowledge()
            return None
        return header

    def accept(self) -> None:
        self.expected += 1
        self._acknowledge()

    def _acknowledge(self) -> None:
        self._put(Header(self._own, ACKNOWLEDGEMENT, self.expected).encode())

    def _acknowledged(self, seq: int, body: int) -> None:
        if body or seq > self._sent:
            raise Fatal("acknowledgement")
        before = len(self._kept)
        while self._kept and self._kept[0][0] < seq:
            self._kept.popleft()
        if len(self._kept) < before:
            self._wait = FIRST_REPEAT_SECONDS
            self._stop_timer()
            self._start_timer()
