"""Names that are no UTF-8: the system takes any bytes for a file, an argument or a variable, and so does a server."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from support.backends import Tap, network_namespace
from support.privilege import needs_tap
from support.server import Server, run

ODD = os.fsdecode(b"caf\xe9")
SHOWN = "caf\\xe9"  # what people see
LAYOUTS = pytest.mark.parametrize("layout", ["split", "inline"])

APP = """
import logging
from usnet_framework import Handler

class Echo(Handler):
    def on_data(self, conn, data):
        if data[:5] == b"raise":
            logging.warning("in %s", __file__, extra={"file": __file__, "files": [__file__]})
            raise ValueError(__file__)
        conn.send(data)
"""


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder with an application in it."""
    folder = tmp_path / ODD
    folder.mkdir()
    (folder / "odd.py").write_text(APP)
    return folder


def names(folder: Path) -> list[str]:
    control, listener, quarantine = (str(folder / name) for name in ("control", "listener", "quarantine"))
    return ["--bind", f"unix:{listener}", "--control", control, "--quarantine", quarantine, "--queues", "1"]


def say(folder: Path, text: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(os.fsencode(folder / "listener"))
        client.sendall(text)
        return client.recv(len(text))


@LAYOUTS
@pytest.mark.parametrize("by_path", [False, True])
def test_a_server_whose_names_are_no_text(layout: str, by_path: bool, odd: Path) -> None:
    app = [f"{odd}/odd.py:Echo"] if by_path else ["odd:Echo", "--app-dir", str(odd)]
    with Server(*app, "--layout", layout, *names(odd)) as server:
        assert say(odd, b"hello") == b"hello"
        control = ("--control", str(odd / "control"))
        for command in ("status", "conns", "doctor", "reload"):
            done = run("usnet-ctl", command, *control)
            assert (done.returncode, done.stderr) == (0, ""), done
            if command in ("status", "doctor"):
                assert f"/{SHOWN}/listener" in done.stdout
        listeners = json.loads(run("usnet-ctl", "status", "--json", *control).stdout)["listeners"]
        assert [listener.endswith(f"/{SHOWN}/listener") for listener in listeners] == [True]
        assert server.get("/metrics")[0] == 200
        assert f"listening on unix:{odd}/listener".replace(ODD, SHOWN) in server.log
    assert not (odd / "listener").exists()
    assert not (odd / "control").exists()


@pytest.mark.parametrize("format", ["text", "json"])
def test_the_log_is_text_whatever_the_names(format: str, odd: Path) -> None:
    with Server("odd:Echo", "--app-dir", str(odd), "--log-format", format, *names(odd)) as server:
        assert say(odd, b"raise") == b""
        server.wait("it is logged", lambda: "ValueError" in server.log)
        lines = server.log.splitlines()
    if format == "json":
        records = [json.loads(line) for line in lines]
        (warning,) = [record for record in records if record["level"] == "warning" and "file" in record]
        assert warning["message"].endswith(f"/{SHOWN}/odd.py")
        assert (warning["file"], warning["files"]) == (warning["message"].removeprefix("in "), [warning["file"]])
        assert any(f"{SHOWN}/odd.py" in record.get("exception", "") for record in records)
        "".join(map(str, records)).encode()  # no surrogate is left
    else:
        assert any(f"/{SHOWN}/odd.py file=/" in line for line in lines)
        assert any(f"ValueError: {odd}/odd.py".replace(ODD, SHOWN) in line for line in lines)


def test_an_import_that_fails_is_told_with_the_name(odd: Path) -> None:
    (odd / "odd.py").write_text("raise RuntimeError(__file__ + chr(0xd800) + chr(0x1b))\n")
    done = run("usnet-serve", "odd:Echo", "--app-dir", str(odd), "--metrics", "off", *names(odd))
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert f"/{SHOWN}/odd.py\\ud800\\x1b" in line


def test_names_come_from_the_environment_as_well(odd: Path) -> None:
    environment = {"USNET_CONTROL": f"{odd}/control", "USNET_" + ODD.upper(): ODD}
    done = run("usnet-serve", "odd:Echo", "--check", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"/{SHOWN}/control" in done.stdout
    assert "USNET_CAF\\xe9: unknown variable" in done.stdout
    done = run("usnet-ctl", "--help", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{SHOWN}" in "".join(done.stdout.split())
    done = run("usnet-ctl", "status", env=environment)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert f"/{SHOWN}/control: there is no server" in done.stderr


def test_a_file_of_options_has_such_a_name(odd: Path) -> None:
    file = odd / "usnet.toml"
    file.write_text("wrokers = 2\n")
    done = run("usnet-serve", "odd:Echo", "--config", str(file))
    assert done.stderr == f"usnet-serve: {file}: wrokers: unknown key; did you mean workers?\n".replace(ODD, SHOWN)


@pytest.mark.parametrize("abstract", [True, False])
def test_a_socket_that_was_inherited_has_such_a_name(abstract: bool, odd: Path) -> None:
    name = b"\0usnet-test-%d-caf\xe9" % os.getpid() if abstract else os.fsencode(odd / "own")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        fd = listener.fileno()
        serve = ("odd:Echo", "--app-dir", str(odd), "--queues", "1", "--bind", f"fd:{fd}")
        with Server(*serve, pass_fds=[fd]) as server:
            status = run("usnet-ctl", "status", "--control", str(server.control)).stdout
    assert os.fsdecode(name).replace("\0", "@").replace(ODD, SHOWN) in status


@needs_tap
def test_an_interface_has_such_a_name(odd: Path) -> None:
    class Odd(Tap):
        interface = ODD

    with network_namespace(), Server("odd:Echo", "--app-dir", str(odd), "--queues", "1", backend=Odd()) as server:
        with server.connect() as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
        assert SHOWN in run("usnet-ctl", "doctor", "--control", str(server.control)).stdout
