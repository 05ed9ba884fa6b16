"""What engines say about a pull: each wording that is known, and what it is taken for."""

from __future__ import annotations

import json

import pytest

from labs.engine import PullProgress, registry_of
from labs.engine.pulling import follow, problem
from labs.errors import ImageProblem, LabsError, NoSpace, RegistryUnreachable

HUB = "netbirdio/management:0.77.1"
OWN = "127.0.0.1:5000/netbirdio/management:0.77.1"

LIMIT = "docker.io lets nobody pull more from here for a while"
PROCESSOR = "There is no such image for this engine's processor"
DENIED = "docker.io does not give us that image, or has none of that name"
UNKNOWN = "docker.io has no image of that name and tag"
UNREACHABLE = "The engine cannot reach docker.io"
UNTRUSTED = "The engine does not trust docker.io"

# By engine: Docker with its own image store, Docker with containerd's, Podman.
SAID = [
    # docker
    (
        (
            "toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and "
            "upgrading: https://www.docker.com/increase-rate-limit"
        ),
        LIMIT,
    ),
    (
        (
            "error pulling image configuration: download failed after attempts=1: toomanyrequests: You have reached "
            "your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"
        ),
        LIMIT,
    ),
    ("error parsing HTTP 429 response body: invalid character 's' looking for beginning of value: \"slow\"", LIMIT),
    ("no matching manifest for linux/arm64/v8 in the manifest list entries", PROCESSOR),
    ('image operating system "windows" cannot be used on this platform', PROCESSOR),
    (
        (
            "pull access denied for netbirdio/management, repository does not exist or may require 'docker login': "
            "denied: requested access to the resource is denied"
        ),
        DENIED,
    ),
    ('Get "http://127.0.0.1:5000/v2/netbirdio/management/manifests/0.77.1": no basic auth credentials', DENIED),
    ("unauthorized: authentication required", DENIED),
    ("manifest for netbirdio/management:0.77.1 not found: manifest unknown: manifest unknown", UNKNOWN),
    ('Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host', UNREACHABLE),
    (
        (
            "Get https://registry-1.docker.io/v2/: dial tcp: lookup registry-1.docker.io on [::1]:53: read udp "
            "[::1]:42089->[::1]:53: read: connection refused"
        ),
        UNREACHABLE,
    ),
    (
        (
            'Get "https://registry-1.docker.io/v2/": net/http: request canceled while waiting for connection '
            "(Client.Timeout exceeded while awaiting headers)"
        ),
        UNREACHABLE,
    ),
    ('Get "https://registry-1.docker.io/v2/": EOF', UNREACHABLE),
    ("received unexpected HTTP status: 503 Service Unavailable", UNREACHABLE),
    ('Get "https://registry.example/v2/": x509: certificate signed by unknown authority', UNTRUSTED),
    ('Get "https://10.0.0.9:5000/v2/": http: server gave HTTP response to HTTPS client', UNTRUSTED),
    # containerd
    (
        (
            "failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/"
            "library/rust/manifests/sha256:de6e: 429 Too Many Requests - Server message: toomanyrequests: You have "
            "reached your pull rate limit. You may increase the limit by authenticating and upgrading: "
            "https://www.docker.com/increase-rate-limit"
        ),
        LIMIT,
    ),
    (
        (
            'failed to resolve reference "docker.io/library/nginx:latest": unexpected status from HEAD request to '
            "https://registry-1.docker.io/v2/library/nginx/manifests/latest: 429 Too Many Requests"
        ),
        LIMIT,
    ),
    ("failed to authorize: failed to fetch oauth token: unexpected status: 429 Too Many Requests", LIMIT),
    (
        (
            "no matching manifest for linux/arm64/v8 in the manifest list entries: no match for platform in manifest: "
            "not found"
        ),
        PROCESSOR,
    ),
    (
        "pull access denied for netbirdio/management, repository does not exist or may require 'docker login'",
        DENIED,
    ),
    (
        (
            "pull access denied, repository does not exist or may require authorization: server message: "
            "insufficient_scope: authorization failed"
        ),
        DENIED,
    ),
    (
        (
            'failed to resolve reference "docker.io/netbirdio/management:0.77.1": '
            "docker.io/netbirdio/management:0.77.1: not found"
        ),
        UNKNOWN,
    ),
    (
        (
            'failed to resolve reference "docker.io/netbirdio/management:0.77.1": failed to do request: Head '
            '"https://registry-1.docker.io/v2/netbirdio/management/manifests/0.77.1": dial tcp: lookup '
            "registry-1.docker.io on 10.0.0.2:53: no such host"
        ),
        UNREACHABLE,
    ),
    (
        (
            'failed to resolve reference "docker.io/netbirdio/management:0.77.1": failed to do request: Head '
            '"https://registry.example/v2/": tls: failed to verify certificate: x509: certificate has expired'
        ),
        UNTRUSTED,
    ),
    # podman
    (
        (
            "initializing source docker://netbirdio/management:0.77.1: reading manifest 0.77.1 in "
            "docker.io/netbirdio/management: manifest unknown"
        ),
        UNKNOWN,
    ),
    (
        'choosing an image from manifest list docker://x: no image found in manifest list for architecture "arm"',
        PROCESSOR,
    ),
]


@pytest.mark.parametrize(("text", "what"), SAID, ids=range(len(SAID)))
def test_each_wording_is_taken_for_what_it_is(text: str, what: str) -> None:
    found = problem(text, HUB)
    assert isinstance(found, ImageProblem)
    assert isinstance(found, RegistryUnreachable) == (what is UNREACHABLE)
    assert (found.what, found.where, found.why) == (what, HUB, text)
    assert found.hint


def test_what_nobody_has_said_before_is_passed_on() -> None:
    found = problem("the moon is in the wrong house", HUB)
    assert (found.what, found.why) == ("The image could not be pulled", "the moon is in the wrong house")


def test_a_full_disk() -> None:
    text = "failed to register layer: write /usr/bin/x: no space left on device"
    assert isinstance(problem(text, HUB), NoSpace)


def test_the_hint_names_the_registry_to_log_in_to() -> None:
    denied = "unauthorized: authentication required"
    assert problem(denied, HUB).hint == "docker login"
    assert problem(denied, OWN).hint == "docker login 127.0.0.1:5000"
    assert "MESH_LABS_MIRROR" in problem("toomanyrequests: x", HUB).hint


@pytest.mark.parametrize(
    ("reference", "registry"),
    [
        ("caddy:2.11.9", "docker.io"),
        ("netbirdio/relay:0.77.1", "docker.io"),
        ("quay.io/keycloak/keycloak:26.4.0", "quay.io"),
        ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000"),
        ("localhost/a:1", "localhost"),
        ("mesh-labs/toolbox:1-abc", "docker.io"),
    ],
)
def test_a_references_registry(reference: str, registry: str) -> None:
    assert registry_of(reference) == registry


def lines(*messages: dict[str, object]) -> list[bytes]:
    return [json.dumps(message).encode() for message in messages] + [b""]


def test_progress_adds_up_the_layers() -> None:
    seen: list[PullProgress] = []
    told = lines(
        {"status": "Pulling from netbirdio/management", "id": "0.77.1"},
        {"status": "Pulling fs layer", "progressDetail": {}, "id": "a"},
        {"status": "Already exists", "progressDetail": {}, "id": "b"},
        {"status": "Downloading", "progressDetail": {"current": 10, "total": 40}, "id": "a"},
        {"status": "Download complete", "progressDetail": {}, "id": "a"},
        {"status": "Extracting", "progressDetail": {"current": 20, "total": 40}, "id": "a"},
        {"status": "Pull complete", "progressDetail": {}, "id": "a"},
        {"status": "Digest: sha256:1"},
        {"status": "Status: Downloaded newer image for x"},
    )
    follow(told, HUB, seen.append)
    assert seen == [
        PullProgress(1, 0, 0, 0),
        PullProgress(2, 1, 0, 0),
        PullProgress(2, 1, 10, 40),
        PullProgress(2, 1, 40, 40),
        PullProgress(2, 1, 40, 40),
        PullProgress(2, 2, 40, 40),
    ]


def test_an_error_in_the_middle_ends_the_pull() -> None:
    told = lines(
        {"status": "Pulling from x", "id": "1"},
        {"errorDetail": {"message": "toomanyrequests: later"}, "error": "toomanyrequests: later"},
    )
    with pytest.raises(LabsError, match="lets nobody pull more"):
        follow(told, HUB, lambda _: None)
