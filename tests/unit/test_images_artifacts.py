"""Images from released archives: fetched and verified, unpacked, prepared, and Java's certificates."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from labs.errors import FileProblem, ImageProblem
from labs.images import recipe
from labs.images.builder import Cache, build
from labs.images.catalogue import Artifact, Recipe, RecipeSpec
from labs.images.events import ImageEvent
from labs.images.provenance import labels
from labs.images.rootfs import RootFs, relocated
from labs.images.truststore import truststore
from labs.yamlsource import parse, validated
from tests.unit.test_images import QUIET, FakeToolchain, executable, host

COORDINATES = "org.example:app:1.0:tar.gz"
RECIPE = f"""\
name: app
version: '1'
variable: APP_IMAGE
artifacts: [{{coordinates: '{COORDINATES}', sha256: {"0" * 64}, path: /opt/app, owner: {{uid: 1000}}}}]
prepare: {{script: make, changes: /opt/app/built}}
"""


@pytest.fixture
def app(tmp_path: Path) -> Recipe:
    file = tmp_path / "app.yaml"
    file.write_text(RECIPE)
    return Recipe(validated(parse(RECIPE, "app.yaml"), RecipeSpec), file)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def artifact(content: bytes = b"release") -> Artifact:
    return Artifact(coordinates=COORDINATES, sha256=hashlib.sha256(content).hexdigest(), path="/opt/app")


def test_a_release_is_unpacked_for_its_owner_and_prepared(cache: Cache, app: Recipe) -> None:
    tools = FakeToolchain()
    build(app, cache, tools, QUIET)
    with tarfile.open(cache.archive(app)) as tar:
        found = {member.name: member for member in tar}
        built = tar.extractfile("opt/app/built/index")
        assert built is not None
        assert built.read().startswith(b"from ////")
    assert tools.prepared == ["make"]
    assert {"opt/app/bin/run", "opt/app/built/index"} <= set(found)
    assert not {"opt/app/built/plain", "opt/app/stray"} & set(found)
    owners = {name: found[name].uid for name in ("opt", "opt/app", "opt/app/bin", "opt/app/built/index")}
    assert owners == {"opt": 0, "opt/app": 1000, "opt/app/bin": 1000, "opt/app/built/index": 1000}


def test_a_release_is_named_in_the_labels_and_in_the_progress(cache: Cache, app: Recipe) -> None:
    events: list[ImageEvent] = []
    build(app, cache, FakeToolchain(), events.append)
    found = labels(app, cache.ingredients(app) or {})
    assert found["org.mesh-labs.artifacts"] == f"{COORDINATES}=sha256:{'0' * 64}"
    assert [event.phase for event in events] == ["packing", "preparing", "packing"]


@pytest.mark.parametrize("field", ["coordinates: 'org.example:app:1.0'", "sha256: 12", "path: opt"])
def test_a_release_is_pinned(field: str) -> None:
    key = field.partition(":")[0]
    lines = {"coordinates": f"'{COORDINATES}'", "sha256": "0" * 64, "path": "/opt"}
    fields = ", ".join([field, *(f"{name}: {value}" for name, value in lines.items() if name != key)])
    text = f"name: x\nversion: '1'\nvariable: X_IMAGE\nartifacts: [{{{fields}}}]\n"
    with pytest.raises(FileProblem, match="not understood") as refused:
        validated(parse(text, "x.yaml"), RecipeSpec)
    assert refused.value.where.endswith(f"artifacts[0].{key}")


def test_an_unpacked_root_is_whole_in_itself(tmp_path: Path) -> None:
    root = RootFs()
    root.add("/etc/java/jvm.cfg", b"cfg", 0o644)
    root.link("/usr/lib/jvm/lib/jvm.cfg", "/etc/java/jvm.cfg")
    root.add("/lib/run", b"#!/bin/sh\n", 0o755)
    root.unpack(tmp_path / "root")
    assert (tmp_path / "root/usr/lib/jvm/lib/jvm.cfg").read_bytes() == b"cfg"
    assert os.access(tmp_path / "root/lib/run", os.X_OK)


def jar(content: bytes, hour: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("A.class", (2026, 1, 1, hour, 0, 0)), content)
    return buffer.getvalue()


def test_a_jar_forgets_where_and_when_it_was_made() -> None:
    first = relocated(jar(b"\0\x10file:/build/1/opt", 1), Path("/build/1"))
    assert first == relocated(jar(b"\0\x10file:/build/2/opt", 2), Path("/build/2"))
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert archive.read("A.class") == b"\0\x10file:" + b"/" * 9 + b"opt"


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    for name in ("apt-get", "dpkg-deb"):
        executable(folder, name, "exit 0")
    return folder


def fetching(tools: Path, content: str) -> None:
    script = (
        f'for word; do case $word in -DoutputDirectory=*) printf {content} >"${{word#*=}}/app-1.0.tar.gz" ;; esac; done'
    )
    executable(tools, "mvn", script)


def test_a_release_comes_from_maven(tools: Path, tmp_path: Path) -> None:
    fetching(tools, "release")
    assert host(tools).artifact(artifact(), tmp_path).read_bytes() == b"release"


def test_a_release_that_is_not_what_the_recipe_says(tools: Path, tmp_path: Path) -> None:
    fetching(tools, "other")
    with pytest.raises(ImageProblem, match="not what the recipe says") as refused:
        host(tools).artifact(artifact(), tmp_path)
    assert hashlib.sha256(b"other").hexdigest() in refused.value.why


def test_a_release_that_is_not_to_be_had(tools: Path, tmp_path: Path) -> None:
    executable(tools, "mvn", "echo 'Could not find artifact' >&2; exit 1")
    with pytest.raises(ImageProblem, match="could not be downloaded") as refused:
        host(tools).artifact(artifact(), tmp_path)
    assert "Could not find artifact" in refused.value.why


def test_no_maven_and_no_leave_to_install_it(tools: Path) -> None:
    with pytest.raises(ImageProblem, match="Maven is needed") as refused:
        host(tools, MESH_LABS_ENGINE="never").check(recipe("keycloak").spec, None)
    assert refused.value.hint == "apt-get install maven"


def test_a_preparation_that_fails_shows_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ImageProblem, match="preparation failed") as refused:
        host(Path("/usr/bin")).prepare("echo no such option >&2; false; touch here", tmp_path)
    assert refused.value.why == "no such option"
    assert not (tmp_path / "here").exists()


CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBdDCCARqgAwIBAgIUOzNDvs4Pv1Hw2eCm2QdfBkFdQKMwCgYIKoZIzj0EAwIw
-----END CERTIFICATE-----
"""


def test_a_truststore_holds_each_certificate_of_the_bundle() -> None:
    store = truststore(f"# one\n{CERTIFICATE}# two\n{CERTIFICATE}".encode())
    assert store[:12] == bytes.fromhex("feedfeed 00000002 00000002")
    assert store.count(b"\0\x05X.509") == 2
    assert store == truststore((CERTIFICATE * 2).encode())
