"""Connections of a page's server: uvicorn's own, with deadlines for clients to send and to read."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from lineup.web.limits import ConnectionLimits, Shares


def protocol(limits: ConnectionLimits) -> type[Connection]:
    """The class of all connections of one server."""
    shares = Shares(limits.connections, limits.connections_of_client)
    return type("LimitedConnection", (Connection,), {"limits": limits, "shares": shares})


class Connection(H11Protocol):
    """A connection with deadlines, besides uvicorn's timeout_keep_alive for one without a request.

    A connection beyond the limit is closed at once: while it waited for its request it would hold an open
    file.
    """

    limits: ClassVar[ConnectionLimits]
    shares: ClassVar[Shares]
    # The deadline for the client to send its header, or more of its upload.
    _sending: asyncio.TimerHandle | None = None
    # The deadline for the client to read its response.
    _reading: asyncio.TimerHandle | None = None
    # What the client was doing when _sending was set.
    _state: object = None
    _upload_ends: float = 0
    _counted = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuses a client that holds its share of connections already."""
        super().connection_made(transport)
        self._counted = self.shares.take(self._address)
        if not self._counted:
            transport.abort()
            return
        # With 0, pause_writing is called as soon as the client leaves anything unread.
        transport.set_write_buffer_limits(0)
        self._expect_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives the client's share back."""
        super().connection_lost(exc)
        if self._counted:
            self.shares.give(self._address)
        for timer in (self._sending, self._reading):
            if timer is not None:
                timer.cancel()

    def handle_events(self) -> None:
        """Waits for the rest of a request for a limited time."""
        super().handle_events()
        if not self.transport.is_closing():
            self._expect_more()

    def pause_writing(self) -> None:
        """Ends the connection of a client that does not read its response."""
        super().pause_writing()
        self._reading = self.loop.call_later(self.limits.response_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self._reading is not None:
            self._reading.cancel()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is not valid HTTP."""
        self._refuse(400, "the request is not valid HTTP")

    def shutdown(self) -> None:
        """Ends a request whose response is not complete."""
        super().shutdown()
        if self.cycle is not None and not self.cycle.response_complete:  # pyright: ignore[reportUnnecessaryComparison]
            self.transport.abort()  # ends the request, as if its client had left

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def _expect_more(self) -> None:
        """Sets the deadline for the client to send more; none while it waits for a response."""
        state, now = self.conn.their_state, self.loop.time()
        entered, self._state = state is not self._state, state  # pyright: ignore[reportUnnecessaryComparison]
        if state is h11.IDLE and not entered:
            return  # a header has one deadline, even if its bytes come one by one
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
            self.transport.abort()  # a connection that the browser opened in advance

    def _upload_is_late(self) -> None:
        reason = (
            f"not complete after {self.limits.upload_seconds:g} s"
            if self.loop.time() >= self._upload_ends
            else f"nothing came for {self.limits.silent_seconds:g} s"
        )
        self._refuse(408, f"the upload was ended ({reason}); send it again")

    def _refuse(self, status: int, sentence: str) -> None:
        """Refuses the present request, unless its response has begun, and closes the connection."""
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
        # Otherwise the app would respond once more before it learns that the client is gone.
        if self.cycle is not None:  # pyright: ignore[reportUnnecessaryComparison]
            self.cycle.disconnected = True
            self.cycle.message_event.set()
