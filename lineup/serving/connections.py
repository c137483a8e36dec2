"""A client's connection to the page's server: uvicorn's own, which waits only so long for what the client has
to send or to read.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from lineup.serving.limits import Limits, Shares


def protocol(limits: Limits) -> type[Connection]:
    """The class of all connections of one server."""
    shares = Shares(limits.connections, limits.connections_of_client)
    return type("LimitedConnection", (Connection,), {"limits": limits, "shares": shares})


class Connection(H11Protocol):
    """Beside uvicorn's own time for a connection without a request, timeout_keep_alive.

    A connection too many is closed at once: while it waited for its request it would hold an open file.
    """

    limits: ClassVar[Limits]
    shares: ClassVar[Shares]
    _sending: asyncio.TimerHandle | None = (
        None  # by when the client has to send its header, or more of its upload
    )
    _reading: asyncio.TimerHandle | None = None  # by when the client has to read what was answered
    _state: object = None  # what the client was doing when _sending was set
    _upload_ends: float = 0
    _counted = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._counted = self.shares.take(self._address)
        if not self._counted:
            transport.abort()
            return
        transport.set_write_buffer_limits(
            0
        )  # pause_writing is called as soon as the client lets anything wait
        self._expect_more()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._counted:
            self.shares.give(self._address)
        for timer in (self._sending, self._reading):
            if timer is not None:
                timer.cancel()

    def handle_events(self) -> None:
        super().handle_events()
        if not self.transport.is_closing():
            self._expect_more()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading = self.loop.call_later(self.limits.answer_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reading is not None:
            self._reading.cancel()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "the request is not valid HTTP")

    def shutdown(self) -> None:
        super().shutdown()
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # the request learns that its client is gone, and ends without a word

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def _expect_more(self) -> None:
        """Sets the time by which the client has to send on; none while it waits for an answer."""
        state, now = self.conn.their_state, self.loop.time()
        entered, self._state = state is not self._state, state
        if state is h11.IDLE and not entered:
            return  # a header has one deadline, however many bytes come one by one
        if self._sending is not None:
            self._sending.cancel()
        self._sending = None
        if state is h11.IDLE:
            self._sending = self.loop.call_at(now + self.limits.header_seconds, self._header_is_late)
        elif state is h11.SEND_BODY:
            self._upload_ends = now + self.limits.upload_seconds if entered else self._upload_ends
            self._sending = self.loop.call_at(
                min(now + self.limits.silent_seconds, self._upload_ends), self._upload_is_late
            )

    def _header_is_late(self) -> None:
        begun, _ = self.conn.trailing_data
        if begun:
            self._refuse(
                408,
                f"the request's header did not arrive within {self.limits.header_seconds:g} s; send it again",
            )
        else:
            self.transport.abort()  # browsers open connections in advance

    def _upload_is_late(self) -> None:
        whole = self.loop.time() >= self._upload_ends
        reason = (
            f"not whole after {self.limits.upload_seconds:g} s"
            if whole
            else f"nothing came for {self.limits.silent_seconds:g} s"
        )
        self._refuse(408, f"the upload was ended ({reason}); send it again")

    def _refuse(self, status: int, sentence: str) -> None:
        """Answers the request that is being received, unless it has been, and hangs up."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = json.dumps({"error": sentence}).encode()
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        response = h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase)
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        if (
            self.cycle is not None
        ):  # else the app would answer once more before it learns that the client is gone
            self.cycle.disconnected = True
            self.cycle.message_event.set()
