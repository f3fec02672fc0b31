"""Options: one definition, four sources, and refusals that name the source and the nearest name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from usnet_framework import values
from usnet_framework.config import PACKET_BACKENDS, Config, option_table, options, unknown_variables
from usnet_framework.errors import UsageError
from usnet_framework.shards.packetdevice import KINDS

APP = "examples.echo:Echo"


def parse(*argv: str, **environ: str) -> Config:
    return Config.from_command_line([APP, *argv], environ)


def refusal(*argv: str, **environ: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(*argv, **environ)
    text = str(caught.value)
    assert "\n" not in text
    assert caught.value.exit_code == 2
    return text


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "usnet.toml"


def test_defaults_are_those_of_the_fields() -> None:
    assert parse() == Config(app=APP)


def test_flag_wins_over_environment_over_file_over_default(file: Path) -> None:
    file.write_text('workers = 2\nbacklog = 5\nstate-bytes = 128\nbind = ["unix:/run/a"]\n')
    config = parse("--config", str(file), "--workers", "4", USNET_WORKERS="3", USNET_BACKLOG="6")
    assert (config.workers, config.backlog, config.state_bytes) == (4, 6, 128)
    assert config.bind == ("unix:/run/a",)
    assert config.spares == Config().spares


def test_the_file_may_be_named_by_the_environment_and_name_the_application(file: Path) -> None:
    file.write_text(f'app = "{APP}"\ngraceful-timeout = 2.5\n')
    config = Config.from_command_line([], {"USNET_CONFIG": str(file)})
    assert (config.app, config.graceful_timeout) == (APP, 2.5)


@pytest.mark.parametrize("option", options(), ids=lambda option: option.key)
def test_every_option_has_every_source(option, file: Path) -> None:
    given = {"app": "a:B", "app-dir": "/srv", "bind": "unix:/a", "interface": "eth0", "address": "10.0.0.1/24",
             "gateway": "10.0.0.254", "require": "native",
             "queues": "3", "workers": "3", "cores": "1,3", "backlog": "9", "max-connections": "9",
             "max-connections-per-peer": "9", "send-timeout": "9.5", "keepalive": "9",
             "idle-timeout": "9.5", "state-bytes": "128", "buffer-limit": "9", "spares": "3", "graceful-timeout": "9.5",
                 "start-timeout": "9.5", "reload-overlap": "9.5", "reload-probation": "9.5",
                 "callback-timeout": "9.5", "callback-kill": "off", "preload": "off",
             "quarantine": "/q", "metrics": "off", "control": "off", "log-level": "debug",
             "log-format": "json", "syscalls": "any", "poll": "busy", "backend": "tap", "layout": "inline",
             "outgoing-ports": "9-99"}  # fmt: skip
    text = given.get(option.key, "true")
    expected = (option.parse(text),) if option.repeated else option.parse(text)
    file.write_text(f'{option.key} = "{text}"\n' + (f'app = "{APP}"\n' if option.key != "app" else ""))
    flag = [text] if option.positional else [option.flag] if option.switch else [f"{option.flag}={text}"]
    default_app = [] if option.positional else [APP]
    for config in (
        Config.from_command_line(flag + default_app, {}),
        Config.from_command_line(default_app, {option.variable: text}),
        Config.from_command_line(["--config", str(file)], {}),
        Config.from_values(app=APP, **{option.field: text}) if not option.positional else Config.from_values(app=text),
    ):
        assert getattr(config, option.field) == expected != getattr(Config(), option.field)


def test_bind_is_repeatable_everywhere(file: Path) -> None:
    both = ("tcp://127.0.0.1:1", "unix:/a")
    file.write_text('bind = ["tcp://127.0.0.1:1", "unix:/a"]')
    assert parse("--bind", both[0], "--bind", both[1]).bind == both
    assert parse(USNET_BIND="tcp://127.0.0.1:1,unix:/a").bind == both
    assert parse("--config", str(file)).bind == both
    assert Config.from_values(app=APP, bind=both).bind == both


def test_a_switch_can_be_turned_off_again() -> None:
    assert parse(USNET_FACTORY="yes").factory
    assert not parse("--no-factory", USNET_FACTORY="yes").factory


def test_cores_are_ranges_and_auto_is_no_value(file: Path) -> None:
    file.write_text("cores = [0, 2]\nqueues = 2")
    assert parse("--cores", "0,2,4-6").cores == (0, 2, 4, 5, 6)
    assert parse("--config", str(file)).cores == (0, 2)
    assert parse("--config", str(file), "--queues", "auto").queues is None


@pytest.mark.parametrize(
    ("argv", "environ", "expected"),
    [
        (["--wrokers", "2"], {}, "--wrokers: unknown option; did you mean --workers?"),
        (["--work", "2"], {}, "--work: unknown option"),
        (["--workers", "0"], {}, "--workers: '0' was given; expected a whole number from 1 to 64"),
        (["--workers", "2.0"], {}, "--workers: '2.0'"),
        (["--workers"], {}, "--workers: expected one argument"),
        (["--layout", "inlin"], {}, "expected one of split, inline; did you mean inline?"),
        (["--state-bytes", "65"], {}, "a multiple of 64"),
        (["--graceful-timeout", "-1"], {}, "--graceful-timeout"),
        (["--graceful-timeout", "nan"], {}, "a number of seconds"),
        (["--metrics", "9464"], {}, "--metrics: '9464' was given; expected HOST:PORT"),
        (["--metrics", "localhost:65536"], {}, "expected HOST:PORT"),
        (["--cores", "3-1"], {}, "--cores"),
        (["--cores", "1,1"], {}, "each named once"),
        (["--queues", "none"], {}, "or auto"),
        (["other:App"], {}, "one application"),
        (["--layout", "inline", "--workers", "2"], {}, "one worker per shard"),
        ([], {"USNET_WORKERS": "many"}, "USNET_WORKERS: 'many'"),
        ([], {"USNET_FACTORY": "maybe"}, "USNET_FACTORY: 'maybe' was given; expected true or false"),
        ([], {"USNET_BIND": ""}, "USNET_BIND"),
        (["--config", "/no/such/file"], {}, "--config /no/such/file: No such file"),
    ],
)
def test_refusals_name_source_value_and_remedy(argv: list[str], environ: dict[str, str], expected: str) -> None:
    assert expected in refusal(*argv, **environ)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wrokers = 2", "usnet.toml: wrokers: unknown key; did you mean workers?"),
        ("app_dir = '.'", "did you mean app-dir?"),
        ("workers = 0", "usnet.toml: workers: '0'"),
        ("workers = true", "usnet.toml: workers: 'True'"),
        ("workers = [1, 2]", "usnet.toml: workers: '1,2'"),
        ("bind = []", "usnet.toml: bind: is empty"),
        ("workers = ", "usnet.toml: not TOML"),
        ("[server]\nworkers = 1", "usnet.toml: server: unknown key"),
    ],
)
def test_refusals_of_the_file_name_file_and_key(text: str, expected: str, file: Path) -> None:
    file.write_text(text)
    assert expected in refusal("--config", str(file))


def test_an_application_is_needed() -> None:
    with pytest.raises(UsageError, match="no application was given"):
        Config.from_command_line([], {})


def test_options_from_code_are_checked_the_same_way() -> None:
    assert Config.from_values(app=APP, workers=2, metrics="off", app_dir=Path("/srv"), queues=None).workers == 2
    with pytest.raises(UsageError, match="workers=: '0'"):
        Config.from_values(app=APP, workers=0)
    with pytest.raises(UsageError, match="wrokers=: unknown option; did you mean workers"):
        Config.from_values(app=APP, wrokers=2)


def test_a_backend_never_becomes_another_one() -> None:
    assert parse("--backend", "auto").transport() == "kernel"
    assert parse("--backend", "tap").transport() == "tap"
    assert set(PACKET_BACKENDS) == set(KINDS)
    assert "--backend: 'dpdk' was given; expected one of auto, kernel, tap" in refusal("--backend", "dpdk")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--interface", "eth0"], r"--interface eth0: .* add --backend afxdp for a network card"),
        (["--address", "10.0.0.1/24", "--address", "fd00::1/64"], r"--address 10\.0\.0\.1/24,fd00::1/64"),
        (["--gateway", "10.0.0.1"], "--gateway"),
    ],
)
def test_the_kernel_backend_takes_no_option_of_a_packet_backend(options: list[str], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        parse(*options).transport()


def test_a_packet_backend_listens_on_all_its_addresses_unless_told() -> None:
    assert parse("--backend", "tap").bind == ("tcp://*:7000",)
    assert parse("--backend", "tap", "--bind", "tcp://10.0.0.1:1").bind == ("tcp://10.0.0.1:1",)
    assert parse("--backend", "kernel").bind == Config().bind


def test_a_gateway_is_an_address_without_a_zone() -> None:
    assert parse("--gateway", "fe80::1").gateway == ("fe80::1",)
    for text in ("fe80::1%tap0", "10.0.0.1/24", "router"):
        assert f"--gateway: '{text}' was given; expected an address" in refusal("--gateway", text)


def test_an_address_that_is_none_is_refused() -> None:
    assert "--address: '10.0.0.1' was given; expected an address with its prefix" in refusal("--address", "10.0.0.1")


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (["10.0.0.1", 80], "10.0.0.1:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        (["fe80::1", 80, 0, 3], "[fe80::1%3]:80"),
        (("fe80::1%eth0", 80, 0, 3), "[fe80::1%eth0]:80"),
        ("", "unix"),
    ],
)
def test_ends_of_connections_read_as_in_a_bind(end: Any, text: str) -> None:
    assert values.endpoint_text(end) == text


@pytest.mark.parametrize("options", [["--backend", "kernel"], ["--backend", "tap", "--address", "10.0.0.1/24"]])
def test_outgoing_ports_are_for_addresses_that_are_shared(options: list[str]) -> None:
    with pytest.raises(UsageError, match="--outgoing-ports 9-99: is for addresses that are shared with the kernel"):
        parse("--outgoing-ports", "9-99", *options).transport()


@pytest.mark.parametrize("text", ["9", "99-9", "0-9", "9-65536", "9-", "a-b"])
def test_outgoing_ports_are_a_range(text: str) -> None:
    assert "expected a range of ports like 40000-49999" in refusal("--outgoing-ports", text)


def test_unknown_variables_are_reported_with_the_nearest_name() -> None:
    reports = unknown_variables({"USNET_WROKERS": "2", "USNET_WORKERS": "2", "USNET_CONFIG": "x", "HOME": "/"})
    assert reports == ["USNET_WROKERS: unknown variable, ignored; did you mean USNET_WORKERS?"]


def test_help_and_table_show_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    table = option_table()
    for option in options():
        assert option.positional or option.flag in shown
        assert f"`{option.variable}`" in table


def test_several_names_may_be_given_at_once() -> None:
    asked = ("--require", "native,hugepages", "--require", "zerocopy")
    assert parse(*asked).require == ("native", "hugepages", "zerocopy")
