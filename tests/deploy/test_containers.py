"""deploy/container and deploy/kubernetes: what they name is there, and they agree with each other and the server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from support.tree import ROOT

from usnet_framework.config import Config, unknown_variables

CONTAINERFILE = ROOT / "deploy/container/Containerfile"
MANIFEST = ROOT / "deploy/kubernetes/usnet.yaml"


def objects() -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in yaml.safe_load_all(MANIFEST.read_text())}


def container() -> dict[str, Any]:
    (only,) = objects()["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(only)


def environment() -> dict[str, str]:
    """That the image sets."""
    text = CONTAINERFILE.read_text().replace("\\\n", " ")
    return dict(word.split("=", 1) for line in re.findall(r"^ENV (.*)$", text, flags=re.M) for word in line.split())


def config(*arguments: str) -> Config:
    return Config.from_command_line(arguments, environment())


def test_the_manifest_is_valid() -> None:
    command = [Path(sys.executable).parent / "kubernetes-validate", "--strict", MANIFEST]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count("passed for resource") == len(objects())


def test_a_manifest_that_is_not_is_found(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(MANIFEST.read_text().replace("readinessProbe", "readynessProbe"))
    command = [Path(sys.executable).parent / "kubernetes-validate", "--strict", tmp_path / "wrong.yaml"]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_the_image_sets_options_of_the_server() -> None:
    assert unknown_variables(environment()) == []
    assert config("a:B").metrics == "0.0.0.0:9464", "probes come from outside"


def test_what_the_image_copies_is_there() -> None:
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", CONTAINERFILE.read_text(), flags=re.M)
    files = [ROOT / name for line in copied for name in line.split()]
    assert len(files) > 5
    assert not [file for file in files if not file.exists()]
    for built in re.findall(r"^subdir\('(\w+)", (ROOT / "meson.build").read_text(), flags=re.M):
        assert ROOT / built in files, "the build needs it"


def test_probes_and_ports_are_those_of_the_server() -> None:
    one = container()
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    served = config(*one["args"])
    assert served.bind == (f"tcp://*:{ports['usnet']}",)
    assert served.metrics.endswith(f":{ports['metrics']}")
    paths = {name: one[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {name: probe["path"] for name, probe in paths.items()} == {
        "startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}  # fmt: skip
    assert {probe["port"] for probe in paths.values()} == {"metrics"}


def test_connections_get_their_time() -> None:
    pod = objects()["Deployment"]["spec"]["template"]["spec"]
    one = container()
    before = float(one["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= before + config(*one["args"]).graceful_timeout + 10


def test_the_server_gets_the_time_to_start_that_it_takes() -> None:
    one = container()
    probe = one["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] > 2 * config(*one["args"]).start_timeout


def test_pods_are_found_by_their_labels_and_never_all_taken() -> None:
    deployment = objects()["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    budget = objects()["PodDisruptionBudget"]["spec"]
    assert labels == deployment["selector"]["matchLabels"] == budget["selector"]["matchLabels"]
    assert labels == objects()["Service"]["spec"]["selector"]
    assert 0 < budget["minAvailable"] < deployment["replicas"]


def test_the_user_is_that_of_the_image() -> None:
    pod = objects()["Deployment"]["spec"]["template"]["spec"]
    uid = re.search(r"useradd .*--uid (\d+)", CONTAINERFILE.read_text())
    assert uid
    assert pod["securityContext"]["runAsUser"] == int(uid[1])
    mounted = {mount["mountPath"] for mount in container()["volumeMounts"]}
    assert Path(environment()["USNET_QUARANTINE"]).parent in map(Path, mounted)
    assert "/tmp" in mounted, "the default of the control socket, and the root is read-only"
