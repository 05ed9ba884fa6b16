"""The Compose reader: the real topologies, every form of every key, and nothing silently ignored."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
import yaml

from labs import resources
from labs.compose import OperatorCounts, access, count, needs, read
from labs.compose.schema import NetworkSpec, ServiceSpec
from labs.compose.unread import UNREAD
from labs.errors import FileProblem
from labs.model import (
    Access,
    Attachment,
    Container,
    File,
    Needed,
    Network,
    Port,
    Product,
    Ready,
    Service,
    Topology,
    VolumeMount,
)

WORDS = "insecure-lab-only"
FOLDERS = sorted(file.parent for file in resources.path("compose").glob("*/compose.yaml"))
FILE = """\
name: t
services:
  web:
    image: web:1
    networks: {{control: }}
{keys}
  other: {{image: other:1, networks: [control]}}
networks:
  control:
    ipam: {{config: [{{subnet: "${{CONTROL_SUBNET:-172.30.99.0/24}}"}}]}}
{network}
volumes: {{data: }}
configs: {{conf: {{file: conf.yaml}}}}
secrets: {{token: {{file: token}}}}
x-lab:
  product: netbird
  control: control
  subnets: {{CONTROL_SUBNET: control}}
"""


def topology(folder: Path, *keys: str, network: str = "", variables: dict[str, str] | None = None) -> Topology:
    """A small topology whose service `web` also has these keys."""
    text = FILE.format(keys="\n".join(f"    {key}" for key in keys), network=f"    {network}")
    (folder / "compose.yaml").write_text(text)
    (folder / "conf.yaml").write_text("# a comment\n\nkey: value\n")
    (folder / "token").write_text("secret\n")
    return read(folder, variables or {})


def web(folder: Path, *keys: str) -> Service:
    return topology(folder, *keys).service("web")


PLAIN = Container("web", "web:1", attachments=(Attachment("control", None, ("web",)),))
CONF, TOKEN = b"# a comment\n\nkey: value\n", b"secret\n"
# Every key of a service in every form: what it is in the model.
FORMS: list[tuple[str, Container | Service]] = [
    ("command: serve --name 'a b'", replace(PLAIN, command=("serve", "--name", "a b"))),
    ("command: [serve, a b]", replace(PLAIN, command=("serve", "a b"))),
    ("command: []", replace(PLAIN, command=())),
    ("entrypoint: /bin/x -v", replace(PLAIN, entrypoint=("/bin/x", "-v"))),
    ("environment: {A: b=c, ON: true, N: 1}", replace(PLAIN, environment={"A": "b=c", "ON": "true", "N": "1"})),
    ("environment: [A=b=c, E=]", replace(PLAIN, environment={"A": "b=c", "E": ""})),
    ("configs: [conf]", replace(PLAIN, files=(File("/conf", CONF, 0o644),))),
    (
        "configs: [{source: conf, target: /etc/c.yaml, mode: 0440}]",
        replace(PLAIN, files=(File("/etc/c.yaml", CONF, 0o440),)),
    ),
    ("secrets: [token]", replace(PLAIN, files=(File("/run/secrets/token", TOKEN, 0o600),))),
    (
        "secrets: [{source: token, target: t, mode: 0o400}]",
        replace(PLAIN, files=(File("/run/secrets/t", TOKEN, 0o400),)),
    ),
    ("volumes: [data:/data]", replace(PLAIN, volumes=(VolumeMount("data", "/data"),))),
    (
        "volumes: [{type: volume, source: data, target: /data}]",
        replace(PLAIN, volumes=(VolumeMount("data", "/data"),)),
    ),
    ("tmpfs: /run", replace(PLAIN, tmpfs={"/run": ""})),
    ("tmpfs: [/run, '/cache:size=1m']", replace(PLAIN, tmpfs={"/run": "", "/cache": "size=1m"})),
    ("ports: ['80']", Service(PLAIN, ports=(Port(80),))),
    ("ports: ['127.0.0.1::80/udp']", Service(PLAIN, ports=(Port(80, "udp"),))),
    (
        "ports: ['8080:80', '127.0.0.2:1:2']",
        Service(PLAIN, ports=(Port(80, "tcp", 8080), Port(2, "tcp", 1, "127.0.0.2"))),
    ),
    (
        "ports: [{target: 80, published: 8080, host_ip: 127.0.0.2, protocol: udp}, {target: 1}]",
        Service(PLAIN, ports=(Port(80, "udp", 8080, "127.0.0.2"), Port(1))),
    ),
    ("depends_on: {other: {condition: service_healthy}}", Service(PLAIN, waits_for=("other",))),
    ("depends_on: {other: {condition: service_started}}", Service(PLAIN)),
    ("depends_on: [other]", Service(PLAIN)),
    ("cap_add: [NET_ADMIN]", replace(PLAIN, cap_add=("NET_ADMIN",))),
    ("cap_drop: [ALL]", replace(PLAIN, cap_drop=("ALL",))),
    ("devices: [/dev/net/tun]", replace(PLAIN, devices=("/dev/net/tun",))),
    ("sysctls: {net.ipv4.ip_forward: 1}", replace(PLAIN, sysctls={"net.ipv4.ip_forward": "1"})),
    ("sysctls: [net.ipv4.ip_forward=1]", replace(PLAIN, sysctls={"net.ipv4.ip_forward": "1"})),
    ("read_only: true", replace(PLAIN, read_only=True)),
    ("security_opt: ['no-new-privileges:true']", replace(PLAIN, security_opt=("no-new-privileges:true",))),
    ("user: 1000:1000", replace(PLAIN, user="1000:1000")),
    ("mem_limit: 750m", replace(PLAIN, mem_limit_bytes=750 << 20)),
    ("mem_limit: 1gb", replace(PLAIN, mem_limit_bytes=1 << 30)),
    ("mem_limit: 4096", replace(PLAIN, mem_limit_bytes=4096)),
    ("labels: {a: b}", replace(PLAIN, labels={"a": "b"})),
    ("labels: [a=b]", replace(PLAIN, labels={"a": "b"})),
    ("hostname: www", replace(PLAIN, hostname="www")),
    ("x-lab: {ready: {http: 80, path: /up}}", Service(PLAIN, Ready("http", 80, "/up"))),
    ("x-lab: {ready: {http: 80}}", Service(PLAIN, Ready("http", 80, "/"))),
    ("x-lab: {ready: {grpc: 80}}", Service(PLAIN, Ready("grpc", 80))),
    ("x-lab: {ready: {tcp: 80}}", Service(PLAIN, Ready("tcp", 80))),
    ("x-lab: {stand-in: the dashboard}", Service(PLAIN, stand_in="the dashboard")),
]
# Read, so that real Compose may have them, and without effect on a lab: documented in docs/topologies.md.
WITHOUT_EFFECT = {"healthcheck"}
ELSEWHERE = {"image", "networks"}


@pytest.mark.parametrize(("key", "wanted"), FORMS, ids=[key for key, _ in FORMS])
def test_every_form_of_every_key(key: str, wanted: Container | Service, tmp_path: Path) -> None:
    assert web(tmp_path, key) == (wanted if isinstance(wanted, Service) else Service(wanted))


def test_the_table_above_has_every_key_of_a_service() -> None:
    shown = {key.partition(":")[0] for key, _ in FORMS}
    fields = {field.alias or name for name, field in ServiceSpec.model_fields.items()}
    assert shown | WITHOUT_EFFECT | ELSEWHERE == fields


def test_what_is_read_without_effect(tmp_path: Path) -> None:
    check = "healthcheck: {test: [CMD, x], interval: 1h, timeout: 3s, retries: 3, start_period: 1s, disable: false}"
    plain = topology(tmp_path)
    assert topology(tmp_path, check, "x-mine: {any: [thing]}") == plain
    assert topology(tmp_path, network="internal: true") == plain
    assert topology(tmp_path, network="driver_opts: {com.docker.network.bridge.name: x}") == plain
    assert set(NetworkSpec.model_fields) == {"ipam", "internal", "driver_opts"}


def test_x_keys_are_anyones_but_not_inside_ours(tmp_path: Path) -> None:
    assert web(tmp_path, "environment: {x-a: kept}").container.environment == {"x-a": "kept"}
    with pytest.raises(FileProblem, match="not understood") as refused:
        topology(tmp_path, network="x-lab: {a: b}")
    assert refused.value.why == "there is no key x-lab here"
    with pytest.raises(FileProblem, match="not understood"):
        web(tmp_path, "x-lab: {x-a: b}")


@pytest.mark.parametrize("key", sorted(UNREAD))
def test_what_compose_has_besides_is_refused_by_name(key: str, tmp_path: Path) -> None:
    with pytest.raises(FileProblem) as refused:
        web(tmp_path, f"{key}: x")
    assert refused.value.where == f"{tmp_path.name}/compose.yaml:6:5 services.web.{key}"
    assert (refused.value.why, refused.value.hint) == (f"the toolkit does not read {key}", UNREAD[key])


def test_no_key_is_both_read_and_refused() -> None:
    assert UNREAD.keys().isdisjoint(ServiceSpec.model_fields)


def test_places_on_networks(tmp_path: Path) -> None:
    text = FILE.replace("{{control: }}", "{{control: {{ipv4_address: 172.30.99.7, aliases: [www]}}}}")
    (tmp_path / "compose.yaml").write_text(text.format(keys="", network=""))
    service = read(tmp_path, {}).service("web")
    assert service.container.attachments == (Attachment("control", IPv4Address("172.30.99.7"), ("web", "www")),)
    with pytest.raises(FileProblem, match=r"172\.30\.99\.7 is no address of control"):
        read(tmp_path, {"CONTROL_SUBNET": "10.0.0.0/24"})


def test_networks_have_the_prefix_that_was_filled_in(tmp_path: Path) -> None:
    assert topology(tmp_path).networks == (Network("control", IPv4Network("172.30.99.0/24")),)
    chosen = topology(tmp_path, variables={"CONTROL_SUBNET": "10.200.1.0/24"})
    assert chosen.networks == (Network("control", IPv4Network("10.200.1.0/24")),)


def test_a_required_variable_is_no_obstacle_before_its_value_is_there(tmp_path: Path) -> None:
    topology(tmp_path, "environment: {TOKEN: '${TOKEN:?from the provider}'}", variables={"TOKEN": "x"})
    assert needs(tmp_path).variables == {"TOKEN": "", "CONTROL_SUBNET": "172.30.99.0/24"}
    assert count(tmp_path).settings == 1


def test_counts_leave_out_what_only_the_lab_needs(tmp_path: Path) -> None:
    topology(tmp_path, "environment: {A: 1, B: 2}", "x-lab: {only: [B]}", "ports: ['80', 81/udp]", "x-other: 1")
    counts = count(tmp_path)
    first, second = counts.images
    assert counts == OperatorCounts(
        images=counts.images,
        stand_ins={},
        lab_only={first: ("B",)},
        ports=2,
        secrets=1,
        volumes=1,
        config_files=1,
        config_lines=1,
        settings=1,
    )
    assert second != first


def test_headscale() -> None:
    folder = resources.path("compose") / "headscale"
    variables = {"HEADSCALE_IMAGE": "h:1", "HEADSCALE_ADDRESS": "10.1.2.2", "CONTROL_SUBNET": "10.1.2.0/24"}
    found = read(folder, variables)
    wanted = Container(
        name="headscale",
        image="h:1",
        command=("serve",),
        environment={"HEADSCALE_SERVER_URL": "http://10.1.2.2:8080", "HEADSCALE_DERP_SERVER_IPV4": "10.1.2.2"},
        attachments=(Attachment("control", IPv4Address("10.1.2.2"), ("headscale",)),),
        files=(
            File("/etc/headscale/config.yaml", (folder / "config.yaml").read_bytes()),
            File("/etc/headscale/extra-records.json", b"[]\n"),
        ),
        volumes=(VolumeMount("data", "/var/lib/headscale"),),
        tmpfs={"/var/run/headscale": ""},
        cap_drop=("ALL",),
        security_opt=("no-new-privileges:true",),
    )
    assert found == Topology(
        name="headscale",
        product=Product.HEADSCALE,
        services=(Service(wanted, Ready("http", 8080, "/health"), (Port(8080), Port(3478, "udp"))),),
        networks=(Network("control", IPv4Network("10.1.2.0/24")),),
        volumes=("data",),
    )
    images = {"headscale": "headscale/headscale:0.29.3"}
    assert count(folder) == OperatorCounts(images, {}, {}, 2, 0, 1, 2, 52, 2)
    wants = needs(folder)
    assert (wants.subnets, wants.secrets) == ({"CONTROL_SUBNET": "control"}, {})
    assert wants.addresses == {"HEADSCALE_ADDRESS": ("control", 2)}


def test_netbird() -> None:
    folder = resources.path("compose") / "netbird"
    secrets = {"NETBIRD_RELAY_SECRET": "r", "NETBIRD_STORE_KEY": "s"}
    found = read(folder, secrets)
    services = {service.name: service for service in found.services}
    assert {name: service.ready for name, service in services.items()} == {
        "management": Ready("http", 80, "/api/instance"),
        "signal": Ready("grpc", 80),
        "relay": Ready("http", 9000, "/health"),
    }
    assert [service.ports for service in services.values()] == [(Port(80),), (Port(80),), (Port(80), Port(3478, "udp"))]
    management, relay = services["management"].container, services["relay"].container
    assert management.environment == secrets | {"NB_DISABLE_GEOLOCATION": "true", "NB_SETUP_PAT_ENABLED": "true"}
    assert management.files == (File("/etc/netbird/management.json", (folder / "management.json").read_bytes()),)
    assert management.volumes == (VolumeMount("management", "/var/lib/netbird"),)
    assert "--disable-anonymous-metrics=true" in (management.command or ())
    assert {"NB_AUTH_SECRET": "r", "NB_STUN_PORTS": "3478"}.items() <= relay.environment.items()
    assert found.secrets == secrets
    images = {name: f"netbirdio/{name}:0.77.1" for name in ("management", "signal", "relay")}
    lab_only = {"management": ("NB_DISABLE_GEOLOCATION", "NB_SETUP_PAT_ENABLED")}
    assert count(folder) == OperatorCounts(images, {}, lab_only, 4, 2, 1, 1, 35, 8)
    chosen = count(folder, {"NETBIRD_SIGNAL_IMAGE": "elsewhere/signal:1"})
    assert chosen.images["signal"] == "elsewhere/signal:1"
    assert needs(folder).secrets == {"NETBIRD_RELAY_SECRET": "token", "NETBIRD_STORE_KEY": "base64-32"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_topology_keeps_the_rules_of_the_house(folder: Path) -> None:
    wants, found = needs(folder), read(folder, {})
    for variable, kind in wants.secrets.items():
        default = wants.variables[variable]
        words = base64.b64decode(default, validate=True) if kind == "base64-32" else default.encode()
        assert words.startswith(WORDS.encode()), variable
        assert kind != "base64-32" or len(words) == 32
    for service in found.services:
        container = service.container
        assert service.ready, f"{service.name} does not say when it serves"
        # The official dashboard writes its own files as root when it starts.
        assert container.cap_drop == ("ALL",) or service.name == "dashboard"
        # The official images' binaries carry this capability, and do not start without it.
        assert container.cap_add == (("NET_BIND_SERVICE",) if service.name in ("proxy", "coturn") else ())
        assert "no-new-privileges:true" in container.security_opt
        assert {port.host_ip for port in service.ports} <= {"127.0.0.1"}
        assert {port.published for port in service.ports} <= {None}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_real_compose_knows_when_a_service_that_is_waited_for_is_healthy(folder: Path) -> None:
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    for service in services.values():
        waited = [name for name, how in service.get("depends_on", {}).items() if how["condition"] == "service_healthy"]
        assert [name for name in waited if "healthcheck" not in services[name]] == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_topology_says_how_it_is_spoken_to_and_what_it_takes(folder: Path) -> None:
    said, wants = access(folder), needs(folder)
    services = {service.name for service in read(folder, {}).services}
    assert said.parts["control-plane"] == said.api
    assert {said.api, *said.parts.values(), *said.names.values()} <= services
    assert (said.provider is None) == (said.issuers == "")
    assert said.joins.startswith("https:") == (said.authority is not None), "a certificate of the lab's own is trusted"
    assert wants.needed is not None
    assert 64 << 20 <= wants.needed.memory_bytes <= 4 << 30
    assert 128 << 20 <= wants.needed.disk_bytes <= 8 << 30


@pytest.mark.parametrize(
    "file", sorted(resources.path("compose").glob("*/*.json")), ids=lambda f: f"{f.parent.name}-{f.name}"
)
def test_lines_of_json_count_what_is_said_and_not_how_it_is_laid_out(file: Path) -> None:
    """One value a line everywhere, so that no topology counts fewer lines of the same configuration."""
    text = file.read_text()
    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"


def test_how_a_topology_with_a_provider_is_spoken_to() -> None:
    assert access(resources.path("compose") / "netbird-external-idp") == Access(
        api="management",
        api_port=80,
        joins="https://netbird.test",
        parts={"control-plane": "management", "signal": "signal", "relay": "relay"},
        names={
            "netbird.test": "proxy",
            "id.netbird.test": "proxy",
            **{name: name for name in ("proxy", "dashboard", "management", "signal", "relay", "coturn")},
            **{name: name for name in ("keycloak", "postgres")},
        },
        provider="keycloak",
        issuers="https://id.netbird.test",
        signs_in="provider",
        authority=("proxy", "/data/caddy/pki/authorities/local/root.crt"),
    )


def test_a_file_that_does_not_say_how_it_is_spoken_to(tmp_path: Path) -> None:
    topology(tmp_path)
    with pytest.raises(FileProblem, match="Nothing says how the services are spoken to") as refused:
        access(tmp_path)
    assert "access: {api: SERVICE:PORT" in refused.value.hint


def test_what_a_topology_takes_of_the_machine(tmp_path: Path) -> None:
    topology(tmp_path)
    assert needs(tmp_path).needed is None, "nobody has measured it"
    with (tmp_path / "compose.yaml").open("a") as file:
        file.write("  needed: {memory: 1200m, disk: 2g}\n")
    assert needs(tmp_path).needed == Needed(1200 << 20, 2 << 30)


def test_content_is_filled_in_and_counted_like_a_file(tmp_path: Path) -> None:
    content = "'# a comment\n\n      word: ${{WORD:-unset}}\n\n      price: 5$$'"
    text = FILE.replace("{{file: conf.yaml}}", "{{content: " + content + "}}").format(
        keys="    configs: [conf]", network=""
    )
    (tmp_path / "compose.yaml").write_text(text)
    (tmp_path / "token").write_text("secret\n")
    (file,) = read(tmp_path, {"WORD": "w-1"}).service("web").container.files
    assert file == File("/conf", b"# a comment\nword: w-1\nprice: 5$", 0o644)
    assert needs(tmp_path).variables["WORD"] == "unset"
    counts = count(tmp_path)
    assert (counts.config_files, counts.config_lines) == (1, 2)


@pytest.mark.parametrize("name", ["netbird-combined", "netbird-quickstart"])
def test_a_server_that_fills_in_nothing_gets_its_secrets_from_compose(name: str) -> None:
    secrets = {"NETBIRD_RELAY_SECRET": "r-1", "NETBIRD_STORE_KEY": "s-1"}
    server = read(resources.path("compose") / name, secrets).service("netbird-server").container
    (config,) = server.files
    document = yaml.safe_load(config.content)["server"]
    assert (document["authSecret"], document["store"]["encryptionKey"]) == ("r-1", "s-1")
    assert WORDS.encode() not in config.content


def test_variants_fill_in_other_values_and_are_told_apart() -> None:
    folder = resources.path("compose") / "netbird-external-idp"
    assert needs(folder).variants == {"2g": {"KEYCLOAK_MEMORY": "2g"}}
    small, large = (read(folder, variables).service("keycloak") for variables in ({}, needs(folder).variants["2g"]))
    assert large == replace(small, container=replace(small.container, mem_limit_bytes=2 << 30)), "and nothing else"


def test_reading_needs_no_engine_and_starts_nothing() -> None:
    program = (
        "import sys, labs.compose as c, labs.resources as r\n"
        "c.read(r.path('compose') / 'netbird', {}); c.count(r.path('compose') / 'netbird')\n"
        "print(sorted({'docker', 'subprocess', 'labs.engine'} & sys.modules.keys()))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
