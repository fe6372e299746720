"""The guard of conftest.py must itself be shown to bite."""

from __future__ import annotations

import socket

import pytest


def test_a_connection_beyond_this_machine_raises() -> None:
    with socket.socket() as client, pytest.raises(RuntimeError, match="tried to connect"):
        client.connect(("203.0.113.1", 80))


def test_loopback_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()
