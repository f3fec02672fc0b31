"""Command lines that are refused: one line that helps, the right exit code, and nothing left behind."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.backends import Tap, network_namespace
from support.privilege import needs_network_namespaces, needs_tap
from support.refusals import AS_ANOTHER_USER, refused, refused_both_ways
from support.server import Server, free_port, run

ECHO = "examples.echo:Echo"
SILENT = ("--metrics", "off", "--control", "off")


def application(folder: Path, text: str) -> Path:
    (folder / "app.py").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--wrokers", "2", ECHO], "did you mean --workers?"),
        ([ECHO, "--workers", "0"], "--workers: '0'"),
        ([ECHO, "--bind", "tcp:/127.0.0.1"], "tcp:/127.0.0.1"),
        ([ECHO, "--bind", "unix:"], "unix:"),
        (["echo"], "'echo': expected module:attribute"),
        ([], "no application"),
    ],
)
def test_wrong_usage_exits_with_2(args: list[str], expected: str) -> None:
    assert expected in refused(2, *args)


def test_an_unknown_key_of_the_file_exits_with_2(tmp_path: Path) -> None:
    file = tmp_path / "usnet.toml"
    file.write_text("wrokers = 2\n")
    assert refused(2, ECHO, "--config", str(file)) == f"{file}: wrokers: unknown key; did you mean workers?"


@pytest.mark.parametrize("text", ["workers = " + "9" * 5000, "bind = " + "[" * 3000])
def test_a_file_beyond_what_python_reads_exits_with_2(text: str, tmp_path: Path) -> None:
    file = tmp_path / "usnet.toml"
    file.write_text(text)
    assert refused(2, ECHO, "--config", str(file)).startswith(f"{file}: not TOML: ")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda file: file.mkdir(), "--config {}: Is a directory; give a TOML file"),
        (lambda file: file.write_bytes(b"app = '\xff'\n"), "{}: not TOML: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_file_that_is_no_file_of_options_exits_with_2(
    make: Callable[[Path], object], expected: str, tmp_path: Path
) -> None:
    make(tmp_path / "usnet.toml")
    assert refused(2, ECHO, "--config", f"{tmp_path}/usnet.toml").startswith(expected.format(f"{tmp_path}/usnet.toml"))


def test_a_quarantine_where_nothing_can_be_kept_exits_with_3(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder, why in {"file": f"{tmp_path}/file is no folder", "file/below": "not a directory"}.items():
        line = refused_both_ways(3, ECHO, "--quarantine", f"{tmp_path}/{folder}", *SILENT)
        assert line == f"--quarantine {tmp_path}/{folder}: {why}; use a folder that this user may write"


def test_a_control_path_that_is_too_long_exits_with_3(tmp_path: Path) -> None:
    long = f"{tmp_path}/{'x' * 100}"
    bind = f"tcp://127.0.0.1:{free_port()}"
    line = refused(3, ECHO, "--bind", bind, "--metrics", "off", "--control", long)
    assert line == f"--control {long}: the path has more than 107 bytes; use a shorter one"


def test_a_limit_of_file_sizes_exits_with_3_and_says_so() -> None:
    prefix = ["sh", "-c", 'ulimit -f 10; exec "$@"', "sh"]
    line = refused(3, ECHO, "--bind", f"tcp://127.0.0.1:{free_port()}", *SILENT, prefix=prefix)
    assert line == (
        "shard 0: no shared memory: File too large; raise the limit of file sizes (ulimit -f), which counts here too"
    )


@needs_network_namespaces
@pytest.mark.parametrize("processes", [1, 3])
def test_too_few_processes_exit_with_3(processes: int) -> None:
    """As a user of whom nothing else runs."""
    prefix = [*AS_ANOTHER_USER, "prlimit", f"--nproc={processes}"]
    bind = ("--bind", f"tcp://127.0.0.1:{free_port()}")
    done = run("usnet-serve", ECHO, *bind, "--metrics", f"127.0.0.1:{free_port()}", "--control", "off", prefix=prefix)
    assert done.returncode == 3
    expected = "the system gives no thread" if processes == 1 else "the network process of shard 0 exited with 3"
    assert expected in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "connections" not in done.stderr  # there were none that could be lost


def test_a_refusal_is_one_line_whatever_was_given() -> None:
    assert refused(2, ECHO, "--bind", "a\nb").startswith("--bind a\\nb: ")


def test_a_working_directory_that_is_gone_exits_with_3(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    serve = f'cd "{gone}" && rmdir "{gone}" && exec "$@"'
    assert refused(3, ECHO, *SILENT, prefix=["sh", "-c", serve, "sh"]).startswith("the working directory is gone: ")


@pytest.mark.parametrize("limit", [12, 60, 160])
def test_few_descriptors_exit_with_3(limit: int) -> None:
    options = ["--queues", "16", "--bind", "tcp://127.0.0.1:0", *SILENT]
    line = refused(3, ECHO, *options, prefix=["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh"])
    assert f"descriptors, the limit is {limit}" in line


def test_a_plan_that_nobody_can_read_exits_with_3() -> None:
    line = refused(3, ECHO, "--check", prefix=["sh", "-c", 'exec "$@" >/dev/full', "sh"])
    assert line == "cannot write to standard output: No space left on device"


def test_a_name_that_is_no_text_is_shown() -> None:
    done = run("usnet-serve", ECHO, "--check", "--control", "/tmp/\udcff")
    assert (done.returncode, done.stderr) == (0, "")
    assert "/tmp/\\xff" in done.stdout


def free_bind() -> tuple[str, str]:
    """The default port may be somebody's."""
    return "--bind", f"tcp://127.0.0.1:{free_port()}"


def test_an_application_that_cannot_be_served_exits_with_3(tmp_path: Path) -> None:
    folder = application(tmp_path, "class Handlr: pass\nNumber = 3\n")
    assert "nosuch" in refused(3, "nosuch:App", *SILENT, *free_bind(), cwd=folder)
    assert "'Handler'" in refused(3, "app:Handler", *SILENT, *free_bind(), cwd=folder)
    assert "app:Number" in refused(3, "app:Number", *SILENT, *free_bind(), cwd=folder)
    assert "app:Handlr" in refused(3, "app:Handlr", *SILENT, *free_bind(), cwd=folder)


def test_an_exception_while_importing_exits_with_3_and_its_place(tmp_path: Path) -> None:
    folder = application(tmp_path, "import os\nraise RuntimeError('no database')\n")
    line = refused(3, "app:App", *SILENT, *free_bind(), cwd=folder)
    assert "no database" in line
    assert "app.py" in line


@pytest.mark.parametrize("option", ["--bind", "--metrics"])
def test_a_port_in_use_exits_with_3(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        values = {"--bind": f"tcp://127.0.0.1:{free_port()}", "--metrics": "off", "--control": "off"}
        values[option] = f"tcp://127.0.0.1:{port}" if option == "--bind" else f"127.0.0.1:{port}"
        line = refused(3, ECHO, *(word for pair in values.items() for word in pair))
    assert option in line
    assert "in use" in line
    assert str(port) in line


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--backend", "none"], "--backend: 'none' was given; expected one of auto, kernel, tap, afxdp, netmap"),
        (["--address", "10.77.0.1/24"], "--address 10.77.0.1/24: the kernel backend does not take it"),
        (["--backend", "tap"], "--backend tap: no --address is given"),
        (["--bind", "unix:/tmp/x", "--bind", "unix:/tmp/x"], "--bind unix:/tmp/x: is given twice"),
        (["--layout", "inline", "--workers", "2"], "--layout inline has one worker per shard"),
    ],
)
def test_options_that_do_not_go_together_exit_with_2(options: list[str], expected: str) -> None:
    assert refused_both_ways(2, ECHO, *options, *SILENT).startswith(expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--bind", "tcp://10.9.9.9:1"], "10.9.9.9 is none of our addresses, which are 10.77.0.1"),
        (["--bind", "unix:/tmp/x"], "serves TCP only"),
        (["--bind", "fd:3"], "--bind fd:3: is a socket of the kernel, which a stack of our own cannot serve; give tcp://"),
        (["--interface", "a/b"], "--interface a/b: not a name"),
    ],
)
def test_what_a_stack_of_our_own_cannot_serve_exits_with_2(options: list[str], expected: str) -> None:
    assert expected in refused(2, ECHO, "--backend", "tap", "--address", "10.77.0.1/24", *options, *SILENT)


TAP = (ECHO, "--backend", "tap", "--address", "10.77.0.1/24", "--queues", "1", *SILENT)


@needs_tap
@pytest.mark.parametrize("kind", ["bridge", "vxlan"])
def test_an_interface_that_is_no_tap_exits_with_3(kind: str) -> None:
    with network_namespace():
        options = ["id", "5", "dstport", "4789"] if kind == "vxlan" else []
        subprocess.run(["ip", "link", "add", "other0", "type", kind, *options], check=True)
        for name in ("lo", "other0"):
            assert f"--interface {name}: {name} is there and no TAP interface" in refused(3, *TAP, "--interface", name)


@needs_tap
@pytest.mark.parametrize("queues", ["1", "2"])
def test_an_interface_that_another_server_has_exits_with_3(queues: str) -> None:
    with network_namespace(), Server(ECHO, "--queues", queues, backend=Tap()):
        assert "is used by another process" in refused(3, *TAP, "--interface", Tap.interface)


@needs_network_namespaces
def test_without_privilege_a_tap_exits_with_3() -> None:
    line = refused(3, *TAP, prefix=["unshare", "--user"])
    assert line.startswith("--interface usnet0: ")
    assert "CAP_NET_ADMIN" in line


def test_a_path_where_nothing_may_be_made_exits_with_3() -> None:
    assert "/proc/x" in refused(3, ECHO, "--bind", "unix:/proc/x", *SILENT)
    bind = f"tcp://127.0.0.1:{free_port()}"
    assert "/proc/x" in refused(3, ECHO, "--bind", bind, "--metrics", "off", "--control", "/proc/x")


def test_a_second_server_on_the_same_control_path_exits_with_3_and_the_first_goes_on() -> None:
    with Server(ECHO) as first:
        port = free_port()
        line = refused(
            3, ECHO, "--bind", f"tcp://127.0.0.1:{port}", "--metrics", "off", "--control", str(first.control)
        )
        assert str(first.control) in line
        assert first.ctl("status")["pid"] == first.pid


def test_a_stale_control_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    with Server(ECHO, "--control", str(path)):
        done = run("usnet-ctl", "status", "--control", str(path))
        assert done.returncode == 0, done.stderr
    assert not path.exists()


def test_check_prints_the_plan_and_starts_nothing() -> None:
    port = free_port()
    options = ("--bind", f"tcp://127.0.0.1:{port}", "--queues", "2", "--workers", "2", *SILENT)
    done = run("usnet-serve", ECHO, "--check", *options)
    assert (done.returncode, done.stderr) == (0, "")
    for expected in (ECHO, str(port), "kernel", "shard 1", "worker 1.1"):
        assert expected in done.stdout


def test_check_refuses_what_starting_would_refuse() -> None:
    core = max(os.sched_getaffinity(0)) + 1
    assert str(core) in refused(2, ECHO, "--check", "--cores", str(core))


def check(*args: str, used: str = "") -> dict[str, list[str]]:
    """What --check prints, by the first word of its rows; `used` begins the line with which starting is refused, if it
    is."""
    done = run("usnet-serve", ECHO, "--check", *args)
    assert done.returncode == (3 if used else 0), done.stderr
    assert done.stderr.startswith(f"usnet-serve: {used}" if used else ""), done.stderr
    assert done.stderr.count("\n") == bool(used)
    rows: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        rows.setdefault(line[:12].strip(), []).append(line[13:])
    return rows


def test_check_says_what_is_in_use_and_leaves_it_alone(tmp_path: Path) -> None:
    bind = f"unix:{tmp_path}/a.sock"
    with Server(ECHO, "--bind", f"tcp://127.0.0.1:{(port := free_port())}", "--bind", bind) as server:
        metrics = "{}:{}".format(*server.metrics_address)
        options = ["--bind", f"tcp://127.0.0.1:{port}", "--bind", bind, "--metrics", metrics]
        used = check(*options, "--control", str(server.control), used=f"--bind tcp://127.0.0.1:{port}: ")["in use"]
        assert used == [
            f"--bind tcp://127.0.0.1:{port}: the port is in use; stop who listens there or use another port",
            f"--bind {bind}: another server is listening there; stop it or use another path",
            f"--metrics {metrics}: address already in use: choose another address, or off",
            f"--control {server.control}: another server is listening there; stop it or use another path",
        ]
        assert server.ctl("status")["state"] == "ready"
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"hello")
            assert client.recv(5, socket.MSG_WAITALL) == b"hello"


def test_check_makes_and_removes_nothing(tmp_path: Path) -> None:
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
        dead.listen()
    binds = ["--bind", f"unix:{stale}", "--bind", f"unix:{tmp_path}/new.sock", "--bind", f"tcp://[::]:{free_port()}"]
    check(*binds, "--control", f"{tmp_path}/control.sock", "--metrics", f"127.0.0.1:{free_port()}")
    assert list(tmp_path.iterdir()) == [stale]


@needs_tap
def test_check_tries_an_interface_and_leaves_one_in_use_alone() -> None:
    with network_namespace():
        said = check(*TAP[1:])
        assert ("note" in said, said["change"]) == (False, ["usnet0: none -> a TAP interface that is up"])
        with pytest.raises(OSError, match="no interface"):
            socket.if_nametoindex("usnet0")
        with Server(ECHO, "--queues", "2", backend=Tap()) as server, server.connect() as client:
            said = check(*TAP[1:], used="--interface usnet0: is used by another process")
            (used,) = said["in use"]
            assert "change" not in said
            assert used.startswith("--interface usnet0: is used by another process")
            client.sendall(b"hello")
            assert client.recv(5, socket.MSG_WAITALL) == b"hello"


@needs_network_namespaces
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--bind", "tcp://*:80"], "--bind tcp://*:80: no permission for port 80; use one above 1023"),
        (["--metrics", "127.0.0.1:81"], "--metrics 127.0.0.1:81: permission denied"),
        (["--control", "/usr/control.sock"], "--control /usr/control.sock: no permission"),
        (["--bind", "unix:/usr/a.sock"], "--bind unix:/usr/a.sock: no permission"),
        (["--backend", "tap", "--address", "10.77.0.1/24"], "--interface usnet0: "),
        (["--max-connections", "2000000", "--queues", "1"], "--max-connections 2000000: each of 1 shards needs"),
    ],
)
def test_what_this_user_may_not_have(options: list[str], expected: str) -> None:
    own = {"--bind": f"tcp://127.0.0.1:{free_port()}", "--metrics": "off", "--control": "off"}
    if "--backend" in options:
        del own["--bind"]
    own |= dict(zip(options[::2], options[1::2], strict=True))
    words = [word for pair in own.items() for word in pair]
    prefix = ["unshare", "--net", *AS_ANOTHER_USER, "prlimit", "--nofile=9999"]
    assert refused_both_ways(3, ECHO, *words, prefix=prefix).startswith(expected)


def test_a_folder_that_is_missing_exits_with_3(tmp_path: Path) -> None:
    """Whoever names a path may have misspelt it, and others may have to reach it."""
    bind = ("--bind", f"tcp://127.0.0.1:{free_port()}", "--metrics", "off")
    path = f"{tmp_path}/no/a.sock"
    for options in (["--control", path], ["--bind", f"unix:{path}", "--control", "off"]):
        for mode in ([], ["--check"]):
            line = refused(3, ECHO, *mode, *bind, *options)
            assert line.endswith(f"{path}: there is no folder {tmp_path}/no; make it or use another path")
    assert list(tmp_path.iterdir()) == []


def test_version_and_help() -> None:
    for program in ("usnet-serve", "usnet-ctl"):
        version = run(program, "--version")
        assert (version.returncode, version.stdout.split()[0]) == (0, program)
        assert run(program, "--help").returncode == 0


class TestCtl:
    """usnet-ctl against what is no server."""

    def refused(self, path: Path) -> str:
        done = run("usnet-ctl", "status", "--control", str(path))
        assert (done.returncode, done.stdout) == (3, "")
        (line,) = done.stderr.splitlines()
        assert str(path) in line
        return line

    def test_no_server(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "control.sock")

    def test_a_stale_socket(self, tmp_path: Path) -> None:
        path = tmp_path / "control.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
            dead.listen()
        self.refused(path)

    def test_a_path_that_is_too_long(self, tmp_path: Path) -> None:
        line = self.refused(tmp_path / ("x" * 100))
        assert line.endswith(": a socket's path has at most 107 bytes; use the server's")

    def test_no_path(self) -> None:
        done = run("usnet-ctl", "status", "--control", "")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith("--control: is empty; give the path of the server's control socket\n")

    def test_a_file_that_is_no_socket(self, tmp_path: Path) -> None:
        path = tmp_path / "control.sock"
        path.write_text("")
        self.refused(path)
