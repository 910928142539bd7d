"""docs/kubernetes.md: its manifests name flags, ports, paths and files that are there."""

import argparse
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from privet.serving import server
from privet.serving.config import ServerConfig

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
DOCUMENTS = [
    document
    for block in re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for document in yaml.safe_load_all(block)
]
DEPLOYMENTS = [document for document in DOCUMENTS if document.get("kind") == "Deployment"]
PATCHES = [document for document in DOCUMENTS if "kind" not in document]

# Flags of tensorflow_model_server 2.14.1, and the routes that it answers.
TF_SERVING_FLAGS = {
    "port", "rest_api_port", "rest_api_num_threads", "model_name", "model_base_path",
    "prefer_tflite_model",
}  # fmt: skip


def of_kind(kind: str) -> Any:
    (found,) = (document for document in DOCUMENTS if document.get("kind") == kind)
    return found


def container(deployment: Any) -> Any:
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    return only


def probes(deployment: Any) -> Iterator[tuple[str, Any]]:
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container(deployment)[name]
        yield name, probe.get("httpGet", probe.get("tcpSocket"))


def parse(arguments: list[str]) -> ServerConfig:
    parser = argparse.ArgumentParser()
    server.add_arguments(parser)
    return ServerConfig(**vars(parser.parse_args(arguments)))


def entry_point() -> list[str]:
    """The flags that the image `server` gives by itself."""
    (line,) = re.findall(r'^ENTRYPOINT .*exec privet serve (.*?) \\"\$@', DOCKERFILE, re.MULTILINE)
    return line.replace("$MODEL_BASE_PATH", "/models").replace("$MODEL_NAME", "digits").split()


def test_there_is_one_deployment_for_each_image() -> None:
    assert [container(each)["image"] for each in DEPLOYMENTS] == [
        "registry.example.com/privet-server:1",
        "registry.example.com/privet-serving:1",
    ]


@pytest.mark.parametrize(
    "document", [DEPLOYMENTS[0], *PATCHES], ids=["deployment", "tls", "volume"]
)
def test_arguments_of_privet_serve_are_its_flags(document: Any) -> None:
    config = parse([*entry_point(), *container(document).get("args", [])])

    assert config.host == "0.0.0.0"
    assert config.prefer_tflite_model
    assert config.model_base_path == Path("/models/digits")


def test_arguments_of_tf_serving_are_its_flags() -> None:
    flags = {
        argument.partition("=")[0].lstrip("-") for argument in container(DEPLOYMENTS[1])["args"]
    }

    assert flags <= TF_SERVING_FLAGS
    assert "FROM tensorflow/serving:2.14.1 AS serving" in DOCKERFILE


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=["privet", "tf_serving"])
def test_ports_agree(deployment: Any) -> None:
    ports = {port["name"]: port["containerPort"] for port in container(deployment)["ports"]}
    (service_port,) = of_kind("Service")["spec"]["ports"]

    assert ports["rest"] == service_port["port"] == 8501
    assert service_port["targetPort"] in ports
    for _, probe in probes(deployment):
        assert probe["port"] in ports
    if "--port=8500" in container(deployment)["args"]:
        assert ports["grpc"] == 8500
    else:
        assert parse([*entry_point(), "--port=0"]).rest_api_port == ports["rest"]


def test_probes_ask_what_each_server_answers() -> None:
    for document in (DEPLOYMENTS[0], PATCHES[0]):
        paths = {name: probe["path"] for name, probe in probes(document)}
        assert paths == {
            "startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/healthz",
        }  # fmt: skip
    assert {probe.get("path") for _, probe in probes(DEPLOYMENTS[1])} == {"/v1/models/digits", None}
    assert all(probe["scheme"] == "HTTPS" for _, probe in probes(PATCHES[0]))


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=["privet", "tf_serving"])
def test_a_pod_is_given_the_time_to_drain(deployment: Any) -> None:
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    command, seconds = container(deployment)["lifecycle"]["preStop"]["exec"]["command"]
    drain = parse([*entry_point(), *container(DEPLOYMENTS[0])["args"]]).drain_seconds

    assert command == "sleep"
    assert int(seconds) + (drain if deployment is DEPLOYMENTS[0] else 0) < grace


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=["privet", "tf_serving"])
def test_a_pod_may_do_little(deployment: Any) -> None:
    pod = deployment["spec"]["template"]["spec"]
    user = pod["securityContext"]["runAsUser"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert DOCKERFILE.count(f"USER {user}:{user}") == 2
    assert container(deployment)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_names_and_labels_agree() -> None:
    labels = {"app": "digits"}
    scaling = of_kind("HorizontalPodAutoscaler")["spec"]
    for deployment in DEPLOYMENTS:
        assert deployment["spec"]["selector"]["matchLabels"] == labels
        assert deployment["spec"]["template"]["metadata"]["labels"] == labels
        assert deployment["spec"]["replicas"] == scaling["minReplicas"]
    assert of_kind("Service")["spec"]["selector"] == labels
    assert of_kind("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert scaling["scaleTargetRef"]["name"] == "digits"


def test_every_mount_has_its_volume_and_every_secret_its_command() -> None:
    for document in (*DEPLOYMENTS, *PATCHES):
        pod = document["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
        assert {mount["name"] for mount in container(document).get("volumeMounts", ())} == set(
            volumes
        )
        for volume in volumes.values():
            if "secret" in volume:
                assert f"create secret generic {volume['secret']['secretName']}" in TEXT
            else:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert claim == of_kind("PersistentVolumeClaim")["metadata"]["name"]


def test_the_commands_that_write_a_tls_configuration_write_one(tmp_path: Path) -> None:
    from privet.serving.text_protos import new_message, read_text

    (command,) = re.findall(r"^(\{ printf .*?> ssl\.txt)$", TEXT, re.MULTILINE | re.DOTALL)
    for name in ("key", "crt"):
        (tmp_path / f"tls.{name}").write_text(f"-----BEGIN {name}-----\nab+/=\n-----END-----\n")
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)

    message = read_text(tmp_path / "ssl.txt", new_message("SSLConfig"), "ssl_config_file")
    assert message.server_key == (tmp_path / "tls.key").read_text()
    assert message.server_cert == (tmp_path / "tls.crt").read_text()
