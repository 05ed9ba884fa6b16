"""One sign-in for each product in a real browser: the scripted one meets the same pages, in the same order."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from labs.controlplanes import Machine
from labs.controlplanes.base import interactive
from labs.controlplanes.headscale import client as tailscale
from labs.controlplanes.identity import Browser, Login, Page
from labs.controlplanes.netbird import client as netbird
from labs.engine import Engine
from labs.lab import Lab
from labs.lab.up import up
from labs.model import Inventory, Peer, Person
from labs.timing import SIGN_IN_S, SystemClock, until
from tests.live.conftest import Planned
from tests.webdriver import Chromium, chromium

pytestmark = pytest.mark.live

# Pages hold hidden fields of these names too, which no person types into.
_NAME = "input:not([type=hidden])[name=username], input:not([type=hidden])[name=login]"
_HIDDEN_WHILE_TYPED = "input[type=password][name=password]"
LAPTOP, PHONE = Peer("laptop", "", joins=False), Peer("phone", "", joins=False)


class Noting(Browser):
    """The scripted browser, and the paths of the pages that it was shown."""

    paths: list[str]

    def _follow(self, request: object) -> Page:
        page = super()._follow(request)  # type: ignore[arg-type]
        self.paths = [*getattr(self, "paths", []), urlsplit(page.url).path]
        return page


def in_chromium(browser: Chromium, url: str, name: str, password: str, folder: Path) -> list[str]:
    """What a person does: fill in what is asked, press the button, until no page asks any more. The pages' paths."""
    browser.open(url)
    paths: list[str] = []
    while buttons := browser.find("form [type=submit]"):
        paths.append(urlsplit(browser.url).path)
        browser.picture(folder / f"page-{len(paths)}.png")
        for selector, words in ((_NAME, name), (_HIDDEN_WHILE_TYPED, password)):
            for element in browser.find(selector):
                browser.type(element, words)
        browser.press(buttons[0])
        assert len(paths) < 10, paths
    browser.picture(folder / "last.png")
    return [*paths, urlsplit(browser.url).path]


def both_ways(lab: Lab, person: Person, login: tuple[str, str], folder: Path) -> tuple[list[str], list[str]]:
    """The person signs in at the laptop in Chromium and at the phone by script: the pages each of them met."""
    context = lab.context
    names = {name: context.address(service) for name, service in context.access.names.items()}
    met: list[str] = []
    with chromium(names, folder) as browser:
        interactive(
            context,
            lab.machine("laptop"),
            command(lab, LAPTOP, lab.machine("laptop")),
            lambda url: met.extend(in_chromium(browser, url, *login, folder)),
            SIGN_IN_S,
        )
    noting = Noting(names, context.authority)

    interactive(
        context,
        lab.machine("phone"),
        command(lab, PHONE, lab.machine("phone")),
        lambda url: noting.sign_in(url, Login(*login)),
        SIGN_IN_S,
    )
    owners = {user.id for user in lab.control_plane.users() if user.is_person(person)}
    listed = until(
        lab.clock,
        lambda: {peer.name: peer for peer in lab.control_plane.listed() if peer.online},
        lambda found: {"laptop", "phone"} <= found.keys(),
        what="Both machines connected",
        timeout_s=30,
    )
    assert {peer.owner for peer in listed.values()} == owners
    return met, noting.paths


def command(lab: Lab, peer: Peer, machine: Machine) -> list[str]:
    if lab.product == "headscale":
        return tailscale.sign_in(lab.context, machine, lab.context.joins, peer.name, SIGN_IN_S)
    return netbird.sign_in(lab.context.joins, peer.name, SIGN_IN_S)


def without_ids(paths: list[str]) -> list[str]:
    """A registration's own key is in Headscale's paths."""
    return ["/register/confirm" if path.startswith("/register/confirm") else path for path in paths]


def test_netbird_shows_a_local_user_the_same_pages(engine: Engine, planned: Planned, tmp_path: Path) -> None:
    person = Person("bert", "Bert Example", "bert@example.test")
    plan = planned("netbird", inventory=Inventory(peers=(LAPTOP, PHONE), people=(person,)))
    lab = up(plan, engine, SystemClock(), lambda _: None)
    plane = lab.control_plane
    plane.add_local_user(person)  # type: ignore[attr-defined]
    password = plane._passwords["bert"]  # type: ignore[attr-defined]
    real, scripted = both_ways(lab, person, (person.email, password), tmp_path)
    assert without_ids(real) == without_ids(scripted)
    assert len(real) == 3, "the code, the password, and the end"


def test_headscale_leads_to_keycloak_and_back(engine: Engine, planned: Planned, tmp_path: Path) -> None:
    person = Person("anna", "Anna Example", "anna@example.test", ("company",))
    plan = planned("headscale-oidc", inventory=Inventory(peers=(LAPTOP, PHONE), people=(person,)))
    lab = up(plan, engine, SystemClock(), lambda _: None)
    password = (lab.files.credentials() or {})["person anna"]
    real, scripted = both_ways(lab, person, ("anna", password), tmp_path)
    assert without_ids(real) == without_ids(scripted)
    assert len(real) == 3, "Keycloak's page, Headscale's question, and the end"
