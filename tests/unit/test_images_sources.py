"""From where an image comes, by what is wanted and what is there: no registry, one that answers, and both images."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from labs.engine import ImageInfo, OnPull, PullProgress
from labs.engine.fake import FakeEngine
from labs.errors import ImageProblem, Interrupted, RegistryUnreachable
from labs.images import ImageEvent, Source, Sourcing, ensure, image_facts, recipe, status
from labs.images.builder import Cache
from labs.timing import REGISTRY_ANSWER_S, REGISTRY_TRY_S, SystemClock, until
from tests.unit.test_images import QUIET, FakeToolchain

AUTO, PULL, BUILD, LOAD = map(Sourcing, Source)
HEADSCALE, TAILSCALE, KEYCLOAK = (recipe(name) for name in ("headscale", "tailscale", "keycloak"))
VARIABLE = HEADSCALE.spec.variable
MIRROR = Sourcing(Source.PULL, "registry.example/hub")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("MESH_LABS_CACHE", str(tmp_path / "cache"))
    return Cache(tmp_path / "cache")


@pytest.fixture
def online() -> FakeEngine:
    """An engine that can pull what Headscale needs."""
    engine = FakeEngine()
    engine.offer(HEADSCALE.official)
    engine.offer(TAILSCALE.official)
    return engine


def asked(engine: FakeEngine) -> list[str]:
    return [subject for method, subject in engine.calls if method == "pull_image"]


def test_auto_pulls_where_there_is_a_registry(online: FakeEngine) -> None:
    tools = FakeToolchain()
    assert ensure(online, [VARIABLE], QUIET, tools, AUTO) == {VARIABLE: HEADSCALE.official}
    assert ensure(online, [VARIABLE], QUIET, tools, AUTO) == {VARIABLE: HEADSCALE.official}
    assert asked(online) == [f"{HEADSCALE.official} {REGISTRY_TRY_S:g}"]
    assert not tools.compiled


def test_auto_builds_where_there_is_none_and_asks_once() -> None:
    engine, tools, events = FakeEngine(), FakeToolchain(), list[ImageEvent]()
    wanted = [VARIABLE, TAILSCALE.spec.variable, "NETBIRD_IMAGE", "NETBIRD_RELAY_IMAGE"]
    found = ensure(engine, wanted, events.append, tools, AUTO)
    assert all(reference.startswith("mesh-labs/") for reference in found.values())
    assert 1 <= len(asked(engine)) <= 2  # two at a time, so the first two may not know of each other
    assert 1 <= len([event for event in events if event.phase == "not pulled:"]) <= 2
    ensure(engine, wanted, events.append, tools, AUTO)
    assert len(asked(engine)) <= 2


def test_registries_are_told_apart(online: FakeEngine) -> None:
    """One that does not answer says nothing about another."""
    found = ensure(online, ["HEADSCALE_IMAGE", "NETBIRD_IMAGE"], QUIET, FakeToolchain(), AUTO)
    assert found["HEADSCALE_IMAGE"] == HEADSCALE.official
    with pytest.raises(RegistryUnreachable, match=r"quay\.io"):
        ensure(online, [KEYCLOAK.spec.variable], QUIET, FakeToolchain(), PULL)


def test_auto_uses_the_cache_when_nothing_can_be_pulled() -> None:
    tools = FakeToolchain()
    ensure(FakeEngine(), [VARIABLE], QUIET, tools, BUILD)
    assert ensure(FakeEngine(), [VARIABLE], QUIET, tools, AUTO) == {VARIABLE: HEADSCALE.reference}
    assert len(tools.compiled) == 1


def test_an_image_that_can_neither_be_pulled_nor_built_says_both() -> None:
    tools = FakeToolchain(ImageProblem("Go is not installed"))
    with pytest.raises(ImageProblem, match="Go is not installed") as refused:
        ensure(FakeEngine(), [VARIABLE], QUIET, tools, AUTO)
    (note,) = refused.value.__notes__
    assert "cannot reach docker.io" in note


def test_pull_never_builds() -> None:
    engine, tools = FakeEngine(), FakeToolchain()
    ensure(engine, [VARIABLE], QUIET, tools, BUILD)
    with pytest.raises(RegistryUnreachable):
        ensure(engine, [VARIABLE], QUIET, tools, PULL)
    assert asked(engine) == [f"{HEADSCALE.official} {REGISTRY_ANSWER_S:g}"]


def test_build_never_pulls(online: FakeEngine) -> None:
    ensure(online, [VARIABLE], QUIET, FakeToolchain(), PULL)
    assert ensure(online, [VARIABLE], QUIET, FakeToolchain(), BUILD) == {VARIABLE: HEADSCALE.reference}


def test_of_both_images_the_official_one_is_run(online: FakeEngine) -> None:
    for wanted in (BUILD, PULL):
        ensure(online, [VARIABLE], QUIET, FakeToolchain(), wanted)
    for wanted in (AUTO, PULL, LOAD):
        assert ensure(online, [VARIABLE], QUIET, FakeToolchain(), wanted) == {VARIABLE: HEADSCALE.official}


def test_load_takes_what_there_is_and_names_what_is_not(online: FakeEngine) -> None:
    ensure(online, [VARIABLE], QUIET, FakeToolchain(), BUILD)
    assert ensure(online, [VARIABLE], QUIET, FakeToolchain(), LOAD) == {VARIABLE: HEADSCALE.reference}
    with pytest.raises(ImageProblem, match="1 of 2 images") as refused:
        ensure(online, [VARIABLE, TAILSCALE.spec.variable], QUIET, FakeToolchain(), LOAD)
    assert refused.value.where == "tailscale"
    assert "inv images.load FILE" in refused.value.hint
    assert not asked(online)


def test_a_mirrors_image_gets_its_official_name_and_keeps_its_digest() -> None:
    engine = FakeEngine()
    engine.offer(f"registry.example/hub/{HEADSCALE.official}")
    assert ensure(engine, [VARIABLE], QUIET, FakeToolchain(), MIRROR) == {VARIABLE: HEADSCALE.official}
    facts = image_facts(engine.image(HEADSCALE.official))
    assert (facts.reference, facts.source, facts.version) == (HEADSCALE.official, "pull", "0.29.3")
    assert (facts.official, facts.digest) == (HEADSCALE.official, engine.image(HEADSCALE.official).digest)
    assert facts.digest


def test_an_image_nobody_knows_the_origin_of_says_so() -> None:
    engine = FakeEngine()
    engine.add_image(HEADSCALE.official)
    assert image_facts(engine.image(HEADSCALE.official)).source == "unknown"


def test_progress_of_a_pull(online: FakeEngine) -> None:
    events: list[ImageEvent] = []
    ensure(online, [VARIABLE], events.append, FakeToolchain(), PULL)
    assert [(event.phase, event.detail) for event in events] == [
        ("pulling", HEADSCALE.official),
        ("pulling", "0.0 of 0.0 MiB, 1 of 1 layers"),
        ("ready", HEADSCALE.official),
    ]


class Silent(FakeEngine):
    """A registry that has said nothing yet about one image, and refuses the other."""

    def __init__(self) -> None:
        super().__init__()
        self.answer, self.seen = threading.Event(), list[BaseException]()

    def pull_image(self, reference: str, on_progress: OnPull, answer_s: float) -> ImageInfo:
        if reference == HEADSCALE.official:
            raise ImageProblem("denied")
        self.answer.wait(60)
        try:
            on_progress(PullProgress(1, 0, 0, 0))
        except Interrupted as error:
            self.seen.append(error)
        self.answer.clear()
        raise ImageProblem("late")


def test_nobody_waits_for_a_silent_registry_once_the_command_has_failed() -> None:
    """What goes wrong with one image, or Ctrl-C, ends the wait for the others; their pulls end at the next word."""
    engine = Silent()
    began_s = time.monotonic()
    with pytest.raises(ImageProblem, match="denied"):
        ensure(engine, [VARIABLE, TAILSCALE.spec.variable], QUIET, FakeToolchain(), PULL)
    assert time.monotonic() - began_s < 30
    engine.answer.set()
    until(SystemClock(), engine.answer.is_set, lambda waits: not waits, what="The pull's end", timeout_s=10)
    assert len(engine.seen) == 1


@pytest.mark.parametrize(
    ("wanted", "before", "after"),
    [(AUTO, "cache", "engine"), (BUILD, "cache", "engine"), (PULL, "absent", "absent"), (LOAD, "absent", "engine")],
    ids=str,
)
def test_status_by_what_counts(wanted: Sourcing, before: str, after: str) -> None:
    ensure(FakeEngine(), [VARIABLE], QUIET, FakeToolchain(), BUILD)
    engine = FakeEngine()
    assert status(engine, HEADSCALE, wanted).where == before
    ensure(engine, [VARIABLE], QUIET, FakeToolchain(), BUILD)
    assert status(engine, HEADSCALE, wanted).where == after


def test_the_toolbox_brings_its_pages_into_an_official_busybox() -> None:
    toolbox = recipe("toolbox")
    assert toolbox.official.startswith("busybox:")
    assert [file.path for file in toolbox.brought_files] == ["/srv/www/index.html", "/srv/www/cgi-bin/whoami"]
    assert not HEADSCALE.brought_files
