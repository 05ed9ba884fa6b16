"""One sign-in for each product in a real browser: the scripted one meets the same pages, in the same order."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from labs.controlplanes import DIRECT, Context, ListedPeer, LocalUsers, control_plane
from labs.controlplanes.identity import Browser, Login, Page
from labs.engine import Engine
from labs.lab import Lab
from labs.lab.up import up
from labs.model import Inventory, Peer, Person
from labs.timing import PEERS_LISTED_S, SIGN_IN_S, SystemClock, until
from tests.live.conftest import Planned
from tests.webdriver import Chromium, chromium

pytestmark = pytest.mark.live

# Pages hold hidden fields of these names too, which no person types into.
_NAME = "input:not([type=hidden])[name=username], input:not([type=hidden])[name=login]"
_HIDDEN_WHILE_TYPED = "input[type=password][name=password]"
_MOST_PAGES = 10
LAPTOP, PHONE = Peer("laptop", "", joins=False), Peer("phone", "", joins=False)


@dataclass(frozen=True)
class SatAt(Context):
    """A lab's context in which every visit is made by one browser; all else is the lab's own."""

    seat: Browser | None = None

    @classmethod
    def of(cls, lab: Lab, seat: Browser) -> SatAt:
        return cls(**{own.name: getattr(lab.context, own.name) for own in fields(Context)}, seat=seat)

    def browser(self) -> Browser:
        return self.seat or Context.browser(self)


class InChromium(Browser):
    """What a person does: fill in what is asked and press the button, until no page asks any more."""

    def __init__(self, window: Chromium, folder: Path) -> None:
        super().__init__({}, DIRECT.transport())
        self.pages: list[str] = []
        self._window = window
        self._folder = folder

    def sign_in(self, url: str, login: Login) -> Page:
        self._window.open(url)
        while buttons := self._look():
            for selector, words in ((_NAME, login.name), (_HIDDEN_WHILE_TYPED, login.password)):
                for element in self._window.find(selector):
                    self._window.type(element, words)
            self._window.press(buttons[0])
            assert len(self.pages) < _MOST_PAGES, self.pages
        return Page(self._window.url, 200, self._window.text)

    def _look(self) -> list[str]:
        """Note the page, and return its buttons."""
        at = urlsplit(self._window.url)
        self.pages.append(at.netloc + at.path)
        self._window.picture(self._folder / f"page-{len(self.pages)}.png")
        return self._window.find("form [type=submit]")


class Noting(httpx.BaseTransport):
    """The scripted browser's connection, and the pages that came through it: what only leads on is none."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self.pages: list[str] = []
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._inner.handle_request(request)
        if not response.has_redirect_location:
            self.pages.append(request.headers["host"] + request.url.path)
        return response


def signed_in(lab: Lab, seat: Browser, person: Person, peer: Peer) -> None:
    """The product's own sign-in, with this browser; the peer is then connected, and the person's."""
    plane, machine = control_plane(lab.product, SatAt.of(lab, seat)), lab.machine(peer.name)
    plane.resume(lab.files.credentials() or {})
    if isinstance(plane, LocalUsers) and not person.at:
        plane.add_local_user(person)
    plane.sign_in(peer, machine, person, next(iter(person.at), ""), SIGN_IN_S)

    def listed() -> ListedPeer | None:
        return next((one for one in plane.listed() if one.name == peer.name and one.online), None)

    found = until(lab.clock, listed, bool, what=f"{peer.name} online", timeout_s=PEERS_LISTED_S)
    until(lab.clock, lambda: plane.status(machine), lambda seen: seen.connected, what=peer.name, timeout_s=SIGN_IN_S)
    assert found
    assert [found.owner] == [user.id for user in plane.users() if user.is_person(person)]


def both_ways(lab: Lab, people: tuple[Person, Person], folder: Path) -> tuple[list[str], list[str]]:
    """The first person signs in at the laptop in Chromium, the second at the phone by script: the pages each met."""
    context, noting = lab.context, Noting(lab.reach.transport(lab.context.authority))
    names = {name: context.address(service) for name, service in context.access.names.items()}
    with chromium(names, folder) as window:
        real = InChromium(window, folder)
        signed_in(lab, real, people[0], LAPTOP)
    signed_in(lab, Browser(names, noting), people[1], PHONE)
    return without_ids(real.pages), without_ids(noting.pages)


def without_ids(pages: list[str]) -> list[str]:
    """A registration's own key is in Headscale's paths."""
    before, sign = "/register/confirm", "/KEY"
    return [page.partition(before)[0] + before + sign if before in page else page for page in pages]


def test_netbird_shows_a_local_user_the_same_pages(engine: Engine, planned: Planned, tmp_path: Path) -> None:
    people = tuple(Person(who, f"{who.title()} Example", f"{who}@example.test") for who in ("bert", "carla"))
    lab = up(planned("netbird", inventory=inventory(people)), engine, SystemClock(), lambda _: None)
    real, scripted = both_ways(lab, (people[0], people[1]), tmp_path)
    assert real == scripted
    assert len(real) == 3, "the code, the password, and the end"


def test_headscale_leads_to_keycloak_and_back(engine: Engine, planned: Planned, tmp_path: Path) -> None:
    people = tuple(
        Person(who, f"{who.title()} Example", f"{who}@example.test", ("company",)) for who in ("anna", "dora")
    )
    lab = up(planned("headscale-oidc", inventory=inventory(people)), engine, SystemClock(), lambda _: None)
    real, scripted = both_ways(lab, (people[0], people[1]), tmp_path)
    assert real == scripted
    assert [page.startswith("keycloak:") for page in real] == [True, False, False], "its page, a question, and the end"


def inventory(people: tuple[Person, ...]) -> Inventory:
    return Inventory(peers=(LAPTOP, PHONE), people=people)
