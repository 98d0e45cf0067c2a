"""The Dockerfile and the manifest for Kubernetes: their commands are started, and what probes them is asked."""

import json
import re
import subprocess
import sys

import pytest

from pounce.supervisor.service_reports import longest_end
from tests.deploy.examples import FOLDER
from tests.deploy.manifest import documents
from tests.support.requirements import library
from tests.support.server import Running, get
from tests.support.services import free_port

PYTHON, PROGRAM = "/opt/venv/bin/python", "/opt/venv/bin/pounce"
ENDED = (0, 143)
"""Exit codes of an orderly end: of a supervisor of worker processes, and of one process, which ends by the signal."""


@pytest.fixture
def folder(tmp_path):
    """That of an application, as in the image."""
    (tmp_path / "main.py").write_text(
        "async def app(scope, receive, send):\n"
        "    assert scope['type'] == 'http'\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': b'served'})\n"
    )
    return tmp_path


class TestDockerfile:
    text = (FOLDER / "Dockerfile").read_text()

    def words(self, start):
        """Those of an instruction in the exec form: a list in JSON."""
        found = re.search(rf"^{start}(\[.*\])$", self.text, re.MULTILINE)
        assert found, start
        return json.loads(found[1])

    def test_the_command_is_healthy_by_its_healthcheck_until_docker_stops_it(self, folder):
        program, *words = self.words("CMD ")
        assert program == PROGRAM
        exposed = re.search(r"^EXPOSE (\d+)$", self.text, re.MULTILINE)[1]
        assert words[words.index("--port") + 1] == exposed
        port = str(free_port())
        words = [port if word == exposed else word for word in words]
        check = [word.replace(f":{exposed}/", f":{port}/") for word in self.words("HEALTHCHECK .* CMD ")]
        assert check[0] == PYTHON
        with Running(*words, cwd=folder) as server:
            assert get(("127.0.0.1", int(port))) == (200, b"served")
            assert subprocess.run([sys.executable, *check[1:]], timeout=30, check=False).returncode == 0
            assert server.stop() in ENDED
            quiet = subprocess.run([sys.executable, *check[1:]], timeout=30, check=False, stderr=subprocess.DEVNULL)
            assert quiet.returncode == 1


MANIFEST = (FOLDER / "kubernetes.yaml").read_text()


@pytest.fixture
def manifest():
    return documents(MANIFEST)


@pytest.fixture
def pod(manifest):
    return manifest[0]["spec"]["template"]["spec"]


@pytest.fixture
def container(pod):
    (container,) = pod["containers"]
    return container


@pytest.fixture
def options(container):
    """The options of its command; a switch has the value None."""
    program, app, *words = container["command"]
    assert (program, app) == (PROGRAM, "main:app")
    return {word.partition("=")[0]: word.partition("=")[2] or None for word in words}


PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


class TestKubernetes:
    def test_the_manifest_is_yaml_and_means_what_these_tests_read(self, manifest):
        library("yaml")
        import yaml

        assert list(yaml.safe_load_all(MANIFEST)) == manifest

    def test_labels_names_and_ports_fit_together(self, manifest, container, options):
        deployment, service = manifest
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert options["--bind"] == f"0.0.0.0:{ports['http']}"
        assert options["--admin"] == f"0.0.0.0:{ports['admin']}"
        assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]

    def test_the_grace_period_is_longer_than_the_orderly_end_takes(self, pod, container, options):
        assert "lifecycle" not in container
        end = float(options["--drain-delay"]) + longest_end(float(options["--timeout-graceful-shutdown"]))
        assert pod["terminationGracePeriodSeconds"] > end

    def test_the_drain_delay_is_longer_than_readiness_needs_to_be_seen(self, container, options):
        probe = container["readinessProbe"]
        seen = probe["failureThreshold"] * probe["periodSeconds"] + probe["timeoutSeconds"]
        assert float(options["--drain-delay"]) > seen

    def test_its_probes_are_answered_by_its_command_and_readiness_ends_with_sigterm(self, folder, container, options):
        ports = {port["name"]: (port["containerPort"], free_port()) for port in container["ports"]}
        words = container["command"][1:]
        for old, new in ports.values():
            words = [re.sub(rf":{old}$", f":{new}", word) for word in words]
        probes = {name: container[name]["httpGet"] for name in PROBES}
        asked = {name: (("127.0.0.1", ports[probe["port"]][1]), probe["path"]) for name, probe in probes.items()}
        with Running(*words, cwd=folder) as server:
            assert get(("127.0.0.1", ports["http"][1])) == (200, b"served")
            assert {name: get(*where)[0] for name, where in asked.items()} == dict.fromkeys(PROBES, 200)
            server.process.terminate()
            server.wait_for("Shutting down in")
            assert get(*asked["readinessProbe"])[0] == 503
            assert get(*asked["livenessProbe"])[0] == 200
            assert get(("127.0.0.1", ports["http"][1])) == (200, b"served")
            assert server.stop() in ENDED  # the second signal ends the delay
            assert all("time" in json.loads(line) for line in server.lines)
