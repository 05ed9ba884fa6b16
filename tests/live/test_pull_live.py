"""Labs from a registry alone, and everything that can be wrong with one: a real registry, a fake one, a real engine."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.engine import PullProgress
from labs.engine.docker_engine import DockerEngine
from labs.errors import ImageProblem, RegistryUnreachable
from labs.images import image_facts, recipe
from labs.results import ComparisonResult, load
from tests.live import registries
from tests.live.registries import FakeRegistry, Registry, Says, fake_registry, inv, mute_registry

pytestmark = pytest.mark.live

HEADSCALE = ("headscale", "tailscale")
NETBIRD = ("netbird-management", "netbird-signal", "netbird-relay", "netbird")
ANSWER_S = 20.0


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with registries.private_engine() as url:
        yield url


@pytest.fixture(scope="module")
def own(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerEngine]:
    """The client of that engine, with no login to any registry."""
    folder = tmp_path_factory.mktemp("no-login")
    (folder / "config.json").write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_CONFIG", str(folder))
        engine = DockerEngine(endpoint)
        yield engine
        engine.close()


@pytest.fixture(scope="module")
def registry(own: DockerEngine) -> Iterator[Registry]:
    with registries.registry(own) as found:
        yield found


@pytest.fixture(scope="module")
def digests(registry: Registry) -> dict[str, str]:
    """Everything that both products' labs need, pushed; digests by official reference."""
    contents = registries.official([*HEADSCALE, *NETBIRD, "coredns", "toolbox"])
    return {reference: registry.push(reference, content) for reference, content in contents.items()}


def test_both_products_from_the_registry_alone(
    endpoint: str, registry: Registry, digests: dict[str, str], tmp_path: Path
) -> None:
    """As a user does it: a demonstration of both, and the digests in its result. No cache to fall back on, no build."""
    where = {"DOCKER_HOST": endpoint, "MESH_LABS_MIRROR": registry.host, "MESH_LABS_CACHE": str(tmp_path / "cache")}
    before = inv("images.check", "headscale,netbird", "--images", "pull", **where)
    assert before.returncode == 3
    assert "8 of 8 images are missing" in before.stderr
    done = inv("demo", "--images", "pull", "--out", str(tmp_path / "demo.json"), **where)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"image headscale: pulling {registry.host}/headscale/headscale:0.29.3" in done.stdout
    images = load(ComparisonResult, tmp_path / "demo.json").environment.images
    assert {name: facts.digest for name, facts in images.items()} == {name: digests[name] for name in images}
    assert len(images) == 7
    assert {(facts.source, facts.official == name) for name, facts in images.items()} == {("pull", True)}
    assert not (tmp_path / "cache").exists()


def test_what_is_there_is_not_pulled_again(endpoint: str, registry: Registry, digests: dict[str, str]) -> None:
    where = {"DOCKER_HOST": endpoint, "MESH_LABS_MIRROR": registry.host}
    pulled = inv("images.pull", "headscale", **where)
    assert pulled.returncode == 0, pulled.stderr
    assert "4 official images are in the engine." in pulled.stdout
    where["MESH_LABS_MIRROR"] = "127.0.0.1:1"
    assert inv("images.check", "headscale", "--images", "pull", **where).returncode == 0
    up = inv("up", "headscale", "--name", "t-pulled", "--peers", "1", "--images", "pull", **where)
    assert up.returncode == 0, up.stderr
    assert "pulling" not in up.stdout
    assert inv("down", "t-pulled", **where).returncode == 0
    assert digests


def test_official_images_in_a_set_keep_their_digests(
    endpoint: str, own: DockerEngine, registry: Registry, digests: dict[str, str], tmp_path: Path
) -> None:
    """The engine's archive does not hold them."""
    where = {"DOCKER_HOST": endpoint, "MESH_LABS_MIRROR": registry.host, "MESH_LABS_CACHE": str(tmp_path / "cache")}
    file, name = str(tmp_path / "labs.tar"), recipe("headscale").official
    assert inv("images.save", file, "--topologies", "headscale", "--images", "pull", **where).returncode == 0
    forget(own, "headscale", "tailscale", "busybox", "coredns")
    done = inv("images.load", file, **where)
    assert done.returncode == 0, done.stderr
    assert own.image(name).digest is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MESH_LABS_CACHE", where["MESH_LABS_CACHE"])
        facts = image_facts(own.image(name))
    assert (facts.source, facts.digest) == ("load", digests[name])
    assert inv("images.check", "headscale", "--images", "load", **where).returncode == 0


def test_auto_on_a_network_that_answers_nothing(endpoint: str, own: DockerEngine, digests: dict[str, str]) -> None:
    """It asks once or twice, says so, and takes what was built."""
    assert digests
    forget(own, "headscale", "tailscale", "busybox")
    with mute_registry() as host:
        where = {"DOCKER_HOST": endpoint, "MESH_LABS_MIRROR": host, "MESH_LABS_IMAGES": "auto"}
        done = inv("up", "headscale", "--name", "t-auto", "--peers", "1", **where)
        assert inv("down", "t-auto", **where).returncode == 0
    assert done.returncode == 0, done.stderr
    assert 1 <= done.stdout.count(f"not pulled: The engine cannot reach {host}") <= 2
    assert recipe("headscale").reference in {image.reference for image in own.images({})}


def forget(own: DockerEngine, *names: str) -> None:
    """Remove these official images, by both of their names, so that their layers go too."""
    for image in own.images({}):
        if image.reference.rpartition(":")[0].rpartition("/")[2] in names:
            own.remove_image(image.reference)


def pull(own: DockerEngine, reference: str, answer_s: float = ANSWER_S) -> list[PullProgress]:
    seen: list[PullProgress] = []
    try:
        own.pull_image(reference, seen.append, answer_s)
    finally:
        for image in own.images({}):
            if image.reference == reference:
                own.remove_image(reference)
    return seen


def refused(own: DockerEngine, reference: str) -> ImageProblem:
    with pytest.raises(ImageProblem) as problem:
        pull(own, reference)
    return problem.value


def test_progress_reaches_the_images_size(own: DockerEngine, registry: Registry, digests: dict[str, str]) -> None:
    forget(own, "netbird")
    seen = pull(own, f"{registry.host}/netbirdio/netbird:0.77.1")
    assert seen[-1].layers_done == seen[-1].layers == 1
    assert seen[-1].here_bytes == seen[-1].size_bytes > 1 << 20
    assert digests


def test_a_tag_that_is_not_there(own: DockerEngine, registry: Registry, digests: dict[str, str]) -> None:
    found = refused(own, f"{registry.host}/headscale/headscale:0.1.2")
    assert found.what == f"{registry.host} has no image of that name and tag"
    assert "manifest unknown" in found.why
    assert digests


def test_nobody_at_the_registrys_address(own: DockerEngine) -> None:
    found = refused(own, f"127.0.0.1:{registries.free_port()}/a/b:1")
    assert isinstance(found, RegistryUnreachable)
    assert "connection refused" in found.why


def test_a_registry_without_a_name(own: DockerEngine) -> None:
    found = refused(own, "no-such-host.invalid/a/b:1")
    assert isinstance(found, RegistryUnreachable)


def test_a_registry_that_takes_the_call_and_says_nothing(own: DockerEngine) -> None:
    with mute_registry() as host:
        begin_s = time.monotonic()
        with pytest.raises(RegistryUnreachable, match="cannot reach"):
            pull(own, f"{host}/a/b:1", answer_s=1.0)
        assert time.monotonic() - begin_s < 5
    assert own.info().cpus


def test_ctrl_c_while_a_registry_says_nothing(endpoint: str) -> None:
    with mute_registry() as host:
        environment = {**os.environ, "DOCKER_HOST": endpoint, "MESH_LABS_MIRROR": host, "PYTHONUNBUFFERED": "1"}
        argv = [sys.executable, "-m", "labs.commands.cli", "images.pull", "netbird-oidc"]
        with subprocess.Popen(
            argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as stopped:
            assert stopped.stdout
            assert "pulling" in stopped.stdout.readline()
            begin_s = time.monotonic()
            stopped.send_signal(signal.SIGINT)
            assert stopped.wait(20) == 4
        assert time.monotonic() - begin_s < 10


@pytest.fixture
def limited() -> Iterator[FakeRegistry]:
    body = registries.error("TOOMANYREQUESTS", "You have reached your pull rate limit.")
    with fake_registry({"/v2/a/b/manifests/1": Says(429, body)}) as fake:
        yield fake


def test_a_rate_limit(own: DockerEngine, limited: FakeRegistry) -> None:
    found = refused(own, f"{limited.host}/a/b:1")
    assert found.what == f"{limited.host} lets nobody pull more from here for a while"
    assert found.hint == f"docker login {limited.host}, or name a mirror in MESH_LABS_MIRROR"


def test_a_rate_limit_without_the_registrys_own_words(own: DockerEngine) -> None:
    with fake_registry({"/v2/a/b/manifests/1": Says(429, b"slow down", "text/plain")}) as fake:
        assert "lets nobody pull more" in refused(own, f"{fake.host}/a/b:1").what


def test_a_list_without_this_processor(own: DockerEngine) -> None:
    said = registries.manifest_list("a/b", "1", ("linux", "s390x"), ("windows", "amd64"))
    with fake_registry(said) as fake:
        found = refused(own, f"{fake.host}/a/b:1")
    assert found.what == "There is no such image for this engine's processor"
    assert "no matching manifest" in found.why


def test_an_image_for_another_processor_only(own: DockerEngine) -> None:
    """The engine pulls it without a word; it would fail when it is started."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("nothing"))
    with fake_registry(registries.single_image("a/b", "1", "s390x", layer.getvalue())) as fake:
        found = refused(own, f"{fake.host}/a/b:1")
    assert found.what == "There is no such image for this engine's processor"
    assert "the image is for s390x" in found.why


@pytest.fixture(scope="module")
def locked(own: DockerEngine) -> Iterator[Registry]:
    """A registry that wants a login, with one image."""
    login = {"username": registries.USER, "password": registries.PASSWORD}
    with registries.registry(own, htpasswd=registries.HTPASSWD) as found:
        found.push("busybox:1", registries.own_recipe("busybox"), **login)
        yield found


class TestLogin:
    """A registry that wants one, and the places where Docker keeps it."""

    def pulled(self, endpoint: str, locked: Registry) -> None:
        engine = DockerEngine(endpoint)
        try:
            pull(engine, f"{locked.host}/library/busybox:1")
        finally:
            engine.close()

    def config(self, folder: Path, document: object, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "config.json").write_text(json.dumps(document))
        monkeypatch.setenv("DOCKER_CONFIG", str(folder))

    def helper(self, folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
        program = folder / "docker-credential-test"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=":")

    def test_without_one(self, own: DockerEngine, locked: Registry) -> None:
        found = refused(own, f"{locked.host}/library/busybox:1")
        assert found.what == f"{locked.host} does not give us that image, or has none of that name"
        assert found.hint == f"docker login {locked.host}"

    def test_with_the_wrong_one(
        self, endpoint: str, locked: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        auths = {locked.host: {"auth": "dGVzdGVyOndyb25n"}}
        self.config(tmp_path, {"auths": auths}, monkeypatch)
        with pytest.raises(ImageProblem, match="does not give us that image"):
            self.pulled(endpoint, locked)

    def test_from_the_configuration_file(
        self, endpoint: str, locked: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = base64.b64encode(f"{registries.USER}:{registries.PASSWORD}".encode()).decode()
        auths = {locked.host: {"auth": words}}
        self.config(tmp_path, {"auths": auths}, monkeypatch)
        self.pulled(endpoint, locked)

    @pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
    def test_from_a_credential_helper(
        self, key: str, endpoint: str, locked: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer = {"ServerURL": locked.host, "Username": registries.USER, "Secret": registries.PASSWORD}
        self.helper(tmp_path, f"cat >/dev/null; echo '{json.dumps(answer)}'", monkeypatch)
        self.config(tmp_path, {key: "test" if key == "credsStore" else {locked.host: "test"}}, monkeypatch)
        self.pulled(endpoint, locked)

    def test_from_a_helper_that_is_not_there(
        self, endpoint: str, locked: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.config(tmp_path, {"credsStore": "absent"}, monkeypatch)
        with pytest.raises(ImageProblem, match="gives no login") as found:
            self.pulled(endpoint, locked)
        assert "docker-credential-absent" in found.value.why
