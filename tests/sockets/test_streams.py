"""What a client of a stream socket relies on: bytes both ways, ends in both manners, and a server that has limits."""

from __future__ import annotations

import socket
import struct
import threading

import pytest
from support.obedient import pattern
from support.server import Server

MEBIBYTE = 1 << 20


def receive_all(client: socket.socket) -> bytes:
    """Until the end of file."""
    pieces = []
    while piece := client.recv(MEBIBYTE):
        pieces.append(piece)
    return b"".join(pieces)


def receive(client: socket.socket, length: int) -> bytes:
    pieces, missing = [], length
    while missing:
        piece = client.recv(min(missing, MEBIBYTE))
        assert piece, f"ended with {missing} bytes missing"
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def send(client: socket.socket, length: int) -> None:
    """In pieces, as `receive` takes it: the time-out of a socket is one for all that `sendall` is given."""
    for at in range(0, length, MEBIBYTE):
        client.sendall(bytes(min(MEBIBYTE, length - at)))


def assert_serves(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"echo still here\n")
        assert receive(client, 10) == b"still here"


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def reasons(server: Server) -> list[str]:
    with server.connect() as client:
        client.sendall(b"closed\n")
        return client.recv(65536).decode().split()


def test_bytes_come_back(server: Server) -> None:
    with server.connect() as client:
        for length in (1, 60, 1459, 1460, 4096, 16383, 16384, 16385, 60000):
            client.sendall(b"echo " + b"x" * length + b"\n")
            assert receive(client, length) == b"x" * length


def test_one_byte_at_a_time(server: Server) -> None:
    with server.connect() as client:
        for byte in b"echo abc\n":
            client.sendall(bytes([byte]))
        assert receive(client, 3) == b"abc"


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, 65536, 65537, 5 * MEBIBYTE])
def test_output_of_any_size(server: Server, length: int) -> None:
    with server.connect() as client:
        client.sendall(b"big %d\nclose\n" % length)
        assert receive_all(client) == pattern(length)


def test_large_output_to_a_reader_with_a_small_window(server: Server) -> None:
    with server.new_socket() as client:
        client.settimeout(30)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(server.address)
        client.sendall(b"big %d\nclose\n" % (8 * MEBIBYTE))
        assert receive_all(client) == pattern(8 * MEBIBYTE)


def test_large_input(server: Server) -> None:
    length = 16 * MEBIBYTE  # more than all buffers on the way: the kernel's have up to 10 MiB
    with server.connect(timeout=30) as client:
        client.sendall(b"count %d\n" % length)
        send(client, length)
        assert client.recv(100) == b"%d\n" % length


def test_input_waits_while_reading_is_paused(server: Server) -> None:
    with server.connect(timeout=30) as client:
        client.sendall(b"pause 0.3\ncount %d\n" % (8 * MEBIBYTE))
        send(client, 8 * MEBIBYTE)
        assert client.recv(100) == b"%d\n" % (8 * MEBIBYTE)


def test_both_directions_at_once(server: Server) -> None:
    with server.connect(timeout=30) as client:
        client.sendall(b"big %d\ncount %d\n" % (4 * MEBIBYTE, 4 * MEBIBYTE))
        sender = threading.Thread(target=send, args=(client, 4 * MEBIBYTE))
        sender.start()
        assert receive(client, 4 * MEBIBYTE) == pattern(4 * MEBIBYTE)
        sender.join()
        assert client.recv(100) == b"%d\n" % (4 * MEBIBYTE)


def test_the_peer_half_closes_and_is_answered(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"late good bye\n")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"good bye"


def test_data_and_end_in_one_segment(server: Server) -> None:
    for _ in range(50):
        with server.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            client.sendall(b"echo last words\n")
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b"last words"


def test_the_handler_half_closes_and_goes_on_reading(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"echo first\neof\n")
        assert receive_all(client) == b"first"
        client.sendall(b"close\n")
    assert_serves(server)


def test_close_delivers_what_was_sent_although_input_is_unread(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"big 300000\nclose\n" + bytes(200000))
        assert receive_all(client) == pattern(300000)


def test_abort_resets(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"abort\n")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_peer_that_resets_is_reported(server: Server) -> None:
    before = reasons(server).count("RESET")
    client = server.connect()
    client.sendall(b"echo x\n")
    receive(client, 1)
    reset(client)
    server.wait("on_close was called", lambda: reasons(server).count("RESET") == before + 1)


def test_a_peer_that_resets_after_its_end_of_file(server: Server) -> None:
    before = reasons(server).count("RESET")
    client = server.connect()
    client.sendall(b"big %d\n" % (64 * MEBIBYTE))
    receive(client, MEBIBYTE)
    client.shutdown(socket.SHUT_WR)
    reset(client)
    server.wait("on_close was called", lambda: reasons(server).count("RESET") == before + 1)


def test_many_connections_at_once(server: Server) -> None:
    clients = [server.connect() for _ in range(500)]
    for number, client in enumerate(clients):
        client.sendall(b"echo %08d\n" % number)
    for number, client in enumerate(clients):
        assert receive(client, 8) == b"%08d" % number
    for client in clients[::2]:
        client.close()
    server.wait("half of them are gone", lambda: len(server.ask("conns")) == 250)
    for client in clients[1::2]:
        reset(client)  # sent once: an interface has to have room for all of them (TAP: 500)
    server.wait("all are gone", lambda: len(server.ask("conns")) == 0)


def test_connect_and_close_at_once(server: Server) -> None:
    for _ in range(300):
        server.connect().close()
    for _ in range(300):
        reset(server.connect())
    assert_serves(server)


def test_addresses(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"who\n")
        expected = f"{client.getsockname()} {client.getpeername()}\n"
        assert receive(client, len(expected)) == expected.encode()
