"""A person at a browser: the pages of Keycloak, Headscale and NetBird as they are, without a network."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from urllib.parse import parse_qs

import httpx
import pytest

from labs.controlplanes.identity import Browser, Login, LoginRefused, Page
from labs.controlplanes.identity.browser import LabNames
from labs.errors import ControlPlaneProblem

ANNA = Login("anna", "secret", "company")
Handler = Callable[[httpx.Request], httpx.Response]

KEYCLOAK = """<html><title>Sign in</title><form id="kc-form-login" method="post"
  action="http://idp/login?session=1&amp;tab=2"><input name="username" type="text">
  <input name="password" type="password"><input type="hidden" name="credentialId">
  <input type="checkbox" name="rememberMe"><button name="login" type="submit">Go</button></form></html>"""
CONFIRM = """<form action="/register/confirm/key-1" method="POST"><input type="hidden" name="csrf" value="token-1">
  <button type="submit">Confirm</button></form>"""
DEVICE = """<form method="post" action="/oauth2/device/auth/verify_code">
  <input type="text" name="user_code" value="AB-CD">
  <button type="submit">Continue</button></form>"""
CHOICE = """<a href="/oauth2/auth/local">Continue with Email</a> <a href="/oauth2/auth/x?state=1">
  <span></span><span>Continue with company</span></a>"""
LOCAL = """<script>document.write('<form method="post">')</script><form method="post" action="/oauth2/auth/local/login">
  <input name="login"><input name="password" type="password"></form>"""
CONSENT = """<form action="/consent" method="post"><input type="submit" name="cancel" value="No">
  <input type="submit" name="accept" value="Yes"></form>"""


def page(text: str, status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, text=text, headers={"content-type": "text/html", **headers})


def to(url: str, **headers: str) -> httpx.Response:
    return httpx.Response(302, headers={"location": url, **headers})


def form(request: httpx.Request) -> dict[str, list[str]]:
    return parse_qs(request.content.decode(), keep_blank_values=True)


def browser(answers: dict[str, Handler | httpx.Response], asked: list[httpx.Request]) -> Browser:
    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        found = answers[f"{request.method} {request.url.host}{request.url.path}"]
        return found if isinstance(found, httpx.Response) else found(request)

    return Browser({}, transport=httpx.MockTransport(answer))


def test_headscale_by_keycloak() -> None:
    asked: list[httpx.Request] = []
    answers: dict[str, Handler | httpx.Response] = {
        "GET hs/register/key-1": to("http://idp/auth?x=1", **{"set-cookie": "state=s; Path=/oidc/callback"}),
        "GET idp/auth": page(KEYCLOAK),
        "POST idp/login": to("http://hs/oidc/callback?code=c"),
        "GET hs/oidc/callback": page(CONFIRM),
        "POST hs/register/confirm/key-1": page("<p>Signed in</p>"),
    }
    last = browser(answers, asked).sign_in("http://hs/register/key-1", ANNA)
    assert last.text == "Signed in"
    assert form(asked[2]) == {"username": ["anna"], "password": ["secret"], "credentialId": [""], "login": [""]}
    assert str(asked[2].url) == "http://idp/login?session=1&tab=2"
    assert asked[3].headers["cookie"] == "state=s"
    assert form(asked[4]) == {"csrf": ["token-1"]}


def test_netbird_by_a_provider_that_is_chosen() -> None:
    asked: list[httpx.Request] = []
    answers: dict[str, Handler | httpx.Response] = {
        "GET nb/oauth2/device": page(DEVICE),
        "POST nb/oauth2/device/auth/verify_code": to("/oauth2/auth?state=1"),
        "GET nb/oauth2/auth": page(CHOICE),
        "GET nb/oauth2/auth/x": to("http://idp/auth"),
        "GET idp/auth": page(KEYCLOAK),
        "POST idp/login": page(CONSENT),
        "POST idp/consent": page("<p>You can close this</p>"),
    }
    assert browser(answers, asked).sign_in("http://nb/oauth2/device?user_code=AB-CD", ANNA).text == "You can close this"
    assert form(asked[1]) == {"user_code": ["AB-CD"]}
    assert form(asked[-1]) == {"accept": ["Yes"]}, "the button that agrees"


def test_a_local_users_password_page_and_a_code_for_this_machine() -> None:
    asked: list[httpx.Request] = []
    answers: dict[str, Handler | httpx.Response] = {
        "GET nb/oauth2/auth/local": page(LOCAL),
        "POST nb/oauth2/auth/local/login": to("http://localhost:53000/?code=c&state=s"),
    }
    last = browser(answers, asked).sign_in("http://nb/oauth2/auth/local", Login("bert@corp.test", "secret"))
    assert last.url == "http://localhost:53000/?code=c&state=s"
    assert form(asked[1]) == {"login": ["bert@corp.test"], "password": ["secret"]}


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (page("<h1>Error</h1><style>p{}</style><p>not authorized</p>", 401), "turned away with 401"),
        (page(KEYCLOAK), "not recognised"),
    ],
    ids=["refused", "wrong password"],
)
def test_whoever_is_turned_away_reads_why(after: httpx.Response, words: str) -> None:
    answers: dict[str, Handler | httpx.Response] = {"GET idp/auth": page(KEYCLOAK), "POST idp/login": after}
    with pytest.raises(LoginRefused, match=words) as refused:
        browser(answers, []).sign_in("http://idp/auth", ANNA)
    assert (
        refused.value.why
        == Page.read(httpx.Response(200, text=after.text, request=httpx.Request("GET", "http://x"))).text
    )
    assert "p{}" not in refused.value.why


def test_a_page_that_asks_nobody_signs_nobody_in() -> None:
    answers: dict[str, Handler | httpx.Response] = {"GET hs/register/key-1": page("<p>headscale auth register</p>")}
    with pytest.raises(LoginRefused, match="was not asked to sign in"):
        browser(answers, []).sign_in("http://hs/register/key-1", ANNA)


def test_a_provider_that_the_page_does_not_offer() -> None:
    answers: dict[str, Handler | httpx.Response] = {"GET nb/auth": page(CHOICE)}
    with pytest.raises(LoginRefused, match="was not asked"):
        browser(answers, []).sign_in("http://nb/auth", Login("otto", "secret", "partner"))


def test_pages_without_end_are_left() -> None:
    around: dict[str, Handler | httpx.Response] = {"GET a/1": to("/1")}
    with pytest.raises(ControlPlaneProblem, match="without end"):
        browser(around, []).sign_in("http://a/1", ANNA)
    forms: dict[str, Handler | httpx.Response] = {"GET a/1": page(CONSENT), "POST a/consent": page(CONSENT)}
    with pytest.raises(ControlPlaneProblem, match="12 pages"):
        browser(forms, []).sign_in("http://a/1", ANNA)


def test_a_server_that_is_away_is_no_refusal() -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    with pytest.raises(ControlPlaneProblem, match="A page did not come") as problem:
        browser({"GET a/1": away}, []).sign_in("http://a/1", ANNA)
    assert not isinstance(problem.value, LoginRefused)


def test_names_of_the_lab_are_found_at_their_addresses_and_certified_as_names() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    transport = LabNames(httpx.MockTransport(answer), {"id.netbird.test": IPv4Address("10.1.2.3")})
    with httpx.Client(transport=transport) as client:
        reply = client.get("https://id.netbird.test/realms/company?x=1")
        client.get("https://elsewhere.test/")
    assert str(seen[0].url) == "https://10.1.2.3/realms/company?x=1"
    assert seen[0].headers["host"] == "id.netbird.test"
    assert seen[0].extensions["sni_hostname"] == "id.netbird.test"
    assert str(reply.url) == "https://id.netbird.test/realms/company?x=1", "cookies belong to the name"
    assert str(seen[1].url) == "https://elsewhere.test/"


def test_a_browser_knows_the_labs_names_and_whose_cookies_are_whose() -> None:
    """The cookie of one name is not sent to another, though both are served at one address."""
    asked: list[httpx.Request] = []
    pages: dict[str, httpx.Response] = {
        "nb.test/device": to("https://id.nb.test/auth", **{"set-cookie": "session=nb; Path=/"}),
        "id.nb.test/auth": page(KEYCLOAK.replace("http://idp/login?session=1&amp;tab=2", "/login")),
        "id.nb.test/login": to("https://nb.test/done"),
        "nb.test/done": page("<p>Signed in</p>"),
    }

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return pages[f"{request.headers['host']}{request.url.path}"]

    proxy = IPv4Address("10.1.2.3")
    known = Browser({"nb.test": proxy, "id.nb.test": proxy}, transport=httpx.MockTransport(answer))
    assert known.sign_in("https://nb.test/device", ANNA).url == "https://nb.test/done"
    assert {request.url.host for request in asked} == {"10.1.2.3"}
    assert [request.extensions["sni_hostname"] for request in asked] == [
        "nb.test",
        "id.nb.test",
        "id.nb.test",
        "nb.test",
    ]
    assert [request.headers.get("cookie") for request in asked] == [None, None, None, "session=nb"]


def test_each_browser_is_a_new_one() -> None:
    asked: list[httpx.Request] = []
    answers: dict[str, Handler | httpx.Response] = {
        "GET idp/auth": lambda _: page(KEYCLOAK, **{"set-cookie": "session=anna"}),
        "POST idp/login": page("<p>Signed in</p>"),
    }
    for _ in range(2):
        browser(answers, asked).sign_in("http://idp/auth", ANNA)
    assert [request.headers.get("cookie") for request in asked] == [None, "session=anna"] * 2


def test_the_first_form_that_is_sent_is_filled_in_and_no_other() -> None:
    """A search box (GET) and a second form are no sign-in; what has no name or is not checked is not sent."""
    text = """<form action="/search"><input name="q"></form>
      <form method="post" action="?step=2">
      <input name="username" value="somebody"><input type="password" name="password">
      <input name="nameless-no-more" value="&lt;kept&gt;"><input type="text" value="nameless">
      <input type="radio" name="plan" value="a"><input type="submit" name="deny" value="Deny">
      <button name="go">Go</button><button name="later">Later</button></form>
      <form method="post" action="/register"><input name="email"></form>"""
    asked: list[httpx.Request] = []
    answers: dict[str, Handler | httpx.Response] = {"GET idp/auth": page(text), "POST idp/auth": page("<p>In</p>")}
    assert browser(answers, asked).sign_in("http://idp/auth?step=1", ANNA).text == "In"
    assert str(asked[1].url) == "http://idp/auth?step=2"
    assert form(asked[1]) == {
        "username": ["anna"],
        "password": ["secret"],
        "nameless-no-more": ["<kept>"],
        "go": [""],
    }


def test_a_name_is_typed_only_where_a_password_is_asked_too() -> None:
    """A field of that name on another page is shown filled in, as the code of a device is."""
    asked: list[httpx.Request] = []
    profile = """<form method="post" action="/ok"><input name="email" value="shown@corp.test"></form>"""
    answers: dict[str, Handler | httpx.Response] = {
        "GET idp/auth": page(KEYCLOAK),
        "POST idp/login": page(profile),
        "POST idp/ok": page("<p>In</p>"),
    }
    browser(answers, asked).sign_in("http://idp/auth", ANNA)
    assert form(asked[-1]) == {"email": ["shown@corp.test"]}


@pytest.mark.parametrize("status", [400, 403, 404])
def test_whoever_is_refused_before_being_asked_reads_why_too(status: int) -> None:
    answers: dict[str, Handler | httpx.Response] = {"GET idp/auth": page("<p>Client not found</p>", status)}
    with pytest.raises(LoginRefused, match=f"anna was turned away with {status}") as refused:
        browser(answers, []).sign_in("http://idp/auth", ANNA)
    assert (refused.value.where, refused.value.why) == ("http://idp/auth", "Client not found")
    assert "secret" not in f"{refused.value} {ANNA}"


def test_a_code_is_exchanged_as_a_form() -> None:
    asked: list[httpx.Request] = []
    answers: dict[str, Handler | httpx.Response] = {
        "POST nb/token": httpx.Response(200, json={"access_token": "jwt"}),
        "POST nb/other": httpx.Response(400, json={"error": "invalid_grant"}),
    }
    one = browser(answers, asked)
    assert one.post("http://nb/token", {"code": "c", "redirect_uri": "http://localhost:53000/"}) == {
        "access_token": "jwt"
    }
    assert form(asked[0]) == {"code": ["c"], "redirect_uri": ["http://localhost:53000/"]}
    with pytest.raises(ControlPlaneProblem, match="A form was not accepted") as problem:
        one.post("http://nb/other", {})
    assert problem.value.where == "http://nb/other"
    assert "400" in problem.value.why
    answers["POST nb/page"] = page("<p>Sorry</p>")
    with pytest.raises(ControlPlaneProblem, match="A form was not accepted"):
        one.post("http://nb/page", {})


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_that_finds_nobody_behind_it_refuses_nobody(status: int) -> None:
    with pytest.raises(ControlPlaneProblem, match="A page did not come") as problem:
        browser({"GET idp/auth": page("Bad Gateway", status)}, []).sign_in("http://idp/auth", ANNA)
    assert not isinstance(problem.value, LoginRefused)
