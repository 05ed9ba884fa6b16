"""A person at a browser, without one: pages are fetched, links followed, and the form that is shown is filled in.

It knows no product: any page with a form is answered with the person's name and password, hidden fields as they are,
and the button that agrees. A page that lists providers is answered by the link of the person's own. It ends at a page
with neither, or at an address on this machine, where a client would wait for its code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address
from typing import Any
from urllib.parse import urljoin

import httpx

from labs.errors import ControlPlaneProblem, Refused

_TIMEOUT_S = 30.0
_MOST_PAGES = 12
_HERE = ("localhost", "127.0.0.1")
_WAITING = tuple(f"http://{host}" for host in _HERE)
_NAMES, _PASSWORDS = ("username", "login", "email"), ("password",)
_AWAY = (502, 503, 504)  # a proxy's word that nobody serves behind it, which is nobody's refusal
_DISAGREE = ("cancel", "deny", "reject", "decline", "no")


@dataclass(frozen=True, slots=True)
class Login:
    """Who sits at the browser. `provider` is what the provider is called on a page that lists several."""

    name: str
    password: str = field(repr=False)
    provider: str = ""


class LoginRefused(Refused):
    """The person was turned away; `why` holds the page's own words."""


@dataclass
class Page:
    """What a page shows: its text, its first form, and the links it has."""

    url: str
    status: int
    text: str = ""
    action: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def read(cls, response: httpx.Response) -> Page:
        page = cls(str(response.url), response.status_code)
        _Reader(page).feed(response.text)
        page.text = " ".join(page.text.split())
        return page

    @property
    def asks_who(self) -> bool:
        return any(name in self.fields for name in _PASSWORDS)

    def filled_in(self, login: Login) -> dict[str, str]:
        """The form as this person sends it."""
        sent = dict(self.fields)
        sent |= {name: login.name for name in _NAMES if name in sent and self.asks_who}
        sent |= {name: login.password for name in _PASSWORDS if name in sent}
        agreeing = [(name, value) for name, value in self.buttons if not _disagrees(name, value)]
        return sent | dict(agreeing[:1])

    def link_to(self, provider: str) -> str | None:
        """Where the page leads for a provider of this name."""
        return next((url for url, words in self.links if provider and words.endswith(f" {provider}")), None)


@dataclass
class Browser:
    """One person's browser, with its own cookies. `addresses` are the names it knows, `transport` the way there."""

    addresses: Mapping[str, IPv4Address]
    transport: httpx.BaseTransport

    def __post_init__(self) -> None:
        # A cookie without a domain is its own name's alone; http.cookiejar would send it to names below that too.
        policy = DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainStrictNonDomain)
        self._cookies = httpx.Cookies(CookieJar(policy))
        transport = LabNames(self.transport, self.addresses)
        self._client = httpx.Client(transport=transport, timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False)

    def sign_in(self, url: str, login: Login) -> Page:
        """From a URL that a client showed to the last page there is. Raises LoginRefused with that page's words."""
        page, asked = self._get(url), False
        for _ in range(_MOST_PAGES):
            if page.status in _AWAY:
                raise ControlPlaneProblem(f"A page did not come: {page.status}", where=page.url, why=page.text)
            if page.status >= 400:
                raise LoginRefused(f"{login.name} was turned away with {page.status}", where=page.url, why=page.text)
            if asked and page.asks_who:
                raise LoginRefused(f"{login.name} was not recognised", where=page.url, why=page.text)
            if page.action is not None:
                asked = asked or page.asks_who
                page = self._submit(page, login)
            elif (link := page.link_to(login.provider)) is not None:
                page = self._get(link)
            elif asked or page.url.startswith(_WAITING):
                return page
            else:
                # A browser that nobody has used yet is always asked: whoever is not has met no sign-in at all.
                raise LoginRefused(f"{login.name} was not asked to sign in", where=page.url, why=page.text[:400])
        raise ControlPlaneProblem(f"{login.name} was led through {_MOST_PAGES} pages", where=page.url, why=page.text)

    def post(self, url: str, form: Mapping[str, str]) -> Mapping[str, Any]:
        """A client's own call: the JSON that answers a form. Raises ControlPlaneProblem."""
        try:
            found: Mapping[str, Any] = self._client.post(url, data=dict(form)).raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise ControlPlaneProblem("A form was not accepted", where=url, why=str(error)) from error
        return found

    def _get(self, url: str) -> Page:
        return self._follow(self._client.build_request("GET", url))

    def _submit(self, page: Page, login: Login) -> Page:
        url = urljoin(page.url, page.action or "")
        return self._follow(self._client.build_request("POST", url, data=page.filled_in(login)))

    def _follow(self, request: httpx.Request) -> Page:
        """Redirects are followed by hand: one that leads to this machine is where a client would listen."""
        for _ in range(_MOST_PAGES):
            try:
                request.headers.pop("cookie", None)
                self._cookies.set_cookie_header(request)
                response = self._client.send(request)
                self._cookies.extract_cookies(response)
            except httpx.HTTPError as error:
                raise ControlPlaneProblem("A page did not come", where=str(request.url), why=str(error)) from error
            following = response.next_request
            if following is None:
                return Page.read(response)
            if following.url.host in _HERE:
                return Page(str(following.url), 200)
            request = following
        raise ControlPlaneProblem("A page led from one to the next without end", where=str(request.url))


class LabNames(httpx.BaseTransport):
    """Connects to the lab's own names at their addresses; certificates are still those of the names."""

    def __init__(self, inner: httpx.BaseTransport, addresses: Mapping[str, IPv4Address]) -> None:
        self._inner = inner
        self._addresses = addresses

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        address = self._addresses.get(request.url.host)
        if address is None:
            return self._inner.handle_request(request)
        extensions = {**request.extensions, "sni_hostname": request.url.host}
        url = request.url.copy_with(host=str(address))
        return self._inner.handle_request(
            httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)
        )


class _Reader(HTMLParser):
    """Takes the first form of a page, its links, and its words."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self._page = page
        self._in_form = self._closed = False
        self._silent = 0
        self._link: str | None = None
        self._words = ""

    def handle_starttag(self, tag: str, attributes: Iterable[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self._silent += tag in ("script", "style")
        if tag == "form" and self._page.action is None and given.get("method", "get").lower() == "post":
            self._page.action, self._in_form = given.get("action", ""), True
        elif tag in ("input", "button") and self._in_form:
            self._control(tag, given)
        elif tag == "a" and "href" in given:
            self._link, self._words = urljoin(self._page.url, given["href"]), ""

    def _control(self, tag: str, given: Mapping[str, str]) -> None:
        kind = given.get("type", "submit" if tag == "button" else "text").lower()
        if not (name := given.get("name")):
            return
        if kind == "submit":
            self._page.buttons.append((name, given.get("value", "")))
        elif kind not in ("checkbox", "radio", "button", "image", "reset"):
            self._page.fields[name] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")
        if tag == "form":
            self._in_form = False
        elif tag == "a" and self._link is not None:
            self._page.links.append((self._link, " ".join(self._words.split())))
            self._link = None

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        self._page.text += f" {data}"
        if self._link is not None:
            self._words += f" {data}"


def _disagrees(name: str, value: str) -> bool:
    return any(word in (name.lower(), value.lower()) for word in _DISAGREE)
