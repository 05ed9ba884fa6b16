"""How fast a lab could come up: the same containers by raw SDK calls, and the products' own join commands.

Imports nothing from `labs`. Prints `joined SECONDS` when the last join command has returned, counted
from the start of this process, and then removes what it made. Example:

    python bench/floor.py netbird --peers 3 --workers 8 --images images.json
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import os
import random
import secrets
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import docker

LABEL = "org.mesh-labs.floor"
COMPOSE = Path(__file__).parent.parent / "compose"
_CLIENT = {"CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"], "Devices": ["/dev/net/tun"]}
_SERVER = {"CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges:true"]}


@dataclass(frozen=True)
class Spec:
    """One container, as both products' floors need it."""

    name: str
    image: str
    cmd: Sequence[str] | None = None
    entrypoint: Sequence[str] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    host: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    volume: str = ""
    address: str = ""


def body(spec: Spec, network: str, volume: str) -> dict[str, Any]:
    """The Engine API's ContainerCreate body for a container on one network."""
    devices = [
        {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rwm"}
        for path in spec.host.get("Devices", ())
    ]
    host = {**spec.host, "Devices": devices, "NetworkMode": network}
    if spec.volume:
        host["Binds"] = [f"{volume}:{spec.volume}"]
    endpoint = {"IPAMConfig": {"IPv4Address": spec.address} if spec.address else {}, "Aliases": [spec.name]}
    return {
        "Image": spec.image,
        "Cmd": spec.cmd,
        "Entrypoint": spec.entrypoint,
        "Env": [f"{key}={value}" for key, value in spec.env.items()],
        "Hostname": spec.name if spec.name.startswith("peer") else "",
        "Labels": {LABEL: volume},
        "HostConfig": host,
        "NetworkingConfig": {"EndpointsConfig": {network: endpoint}},
    }


def headscale_services(images: Mapping[str, str], subnet: IPv4Network) -> list[Spec]:
    address = str(subnet[2])
    return [
        Spec(
            name="headscale",
            image=images["HEADSCALE_IMAGE"],
            cmd=["serve"],
            env={"HEADSCALE_SERVER_URL": f"http://{address}:8080", "HEADSCALE_DERP_SERVER_IPV4": address},
            host={**_SERVER, "Tmpfs": {"/var/run/headscale": ""}},
            files={
                "etc/headscale/config.yaml": (COMPOSE / "headscale/config.yaml").read_bytes(),
                "etc/headscale/extra-records.json": b"[]\n",
            },
            volume="/var/lib/headscale",
            address=address,
        )
    ]


def netbird_services(images: Mapping[str, str]) -> list[Spec]:
    secret = secrets.token_urlsafe(24)
    return [
        Spec(
            name="management",
            image=images["NETBIRD_MANAGEMENT_IMAGE"],
            cmd=[
                "--port=80",
                "--log-file=console",
                "--log-level=info",
                "--disable-anonymous-metrics=true",
                "--single-account-mode-domain=netbird.selfhosted",
                "--dns-domain=netbird.selfhosted",
                "--idp-sign-key-refresh-enabled",
            ],
            env={
                "NETBIRD_RELAY_SECRET": secret,
                "NETBIRD_STORE_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
                "NB_DISABLE_GEOLOCATION": "true",
                "NB_SETUP_PAT_ENABLED": "true",
            },
            host=_SERVER,
            files={"etc/netbird/management.json": (COMPOSE / "netbird/management.json").read_bytes()},
            volume="/var/lib/netbird",
        ),
        Spec(
            name="signal",
            image=images["NETBIRD_SIGNAL_IMAGE"],
            cmd=["--port=80", "--log-file=console", "--log-level=info"],
            host=_SERVER,
        ),
        Spec(
            name="relay",
            image=images["NETBIRD_RELAY_IMAGE"],
            env={
                "NB_LOG_LEVEL": "info",
                "NB_LISTEN_ADDRESS": ":80",
                "NB_EXPOSED_ADDRESS": "rel://relay:80",
                "NB_AUTH_SECRET": secret,
                "NB_ENABLE_STUN": "true",
                "NB_STUN_PORTS": "3478",
            },
            host=_SERVER,
        ),
    ]


def peer(product: str, number: int, images: Mapping[str, str]) -> Spec:
    if product == "headscale":
        sysctls = {
            "net.ipv4.ip_forward": "1",
            "net.ipv6.conf.all.disable_ipv6": "0",
            "net.ipv6.conf.all.forwarding": "1",
        }
        return Spec(
            name=f"peer-{number}",
            image=images["TAILSCALE_IMAGE"],
            entrypoint=["tailscaled"],
            cmd=["--tun=tailscale0", "--statedir=/var/lib/tailscale", "--no-logs-no-support"],
            env={"TS_DEBUG_USE_DERP_HTTP": "true", "TS_DEBUG_FIREWALL_MODE": "nftables"},
            host={**_CLIENT, "CapAdd": ["NET_ADMIN", "NET_RAW"], "Sysctls": sysctls},
        )
    return Spec(
        name=f"peer-{number}",
        image=images["NETBIRD_IMAGE"],
        entrypoint=["netbird"],
        cmd=["service", "run"],
        env={
            "NB_LOG_FILE": "console",
            "NB_WG_KERNEL_DISABLED": "true",
            "NB_RELAY_TRANSPORT": "ws",
            "NB_DISABLE_NAT_MAPPER": "true",
        },
        host={
            **_CLIENT,
            "CapAdd": ["NET_ADMIN", "NET_RAW"],
            "Sysctls": {
                "net.ipv4.ip_forward": "1",
                "net.ipv4.conf.all.src_valid_mark": "1",
                "net.ipv4.conf.all.rp_filter": "2",
            },
        },
    )


class Floor:
    """One bring-up. Everything that can overlap does; a task waits only for tasks submitted before it."""

    def __init__(self, product: str, peers: int, workers: int, images: Mapping[str, str]) -> None:
        self.product, self.peers, self.images = product, peers, images
        self.run = f"floor-{secrets.token_hex(4)}"
        self.api: Any = docker.APIClient(base_url=os.environ.get("DOCKER_HOST"), version="auto", max_pool_size=64)
        self.pool = ThreadPoolExecutor(workers)

    def up(self) -> None:
        self.subnet, self.network = self._make_network()
        self.api.create_volume(self.run, labels={LABEL: self.run})
        if self.product == "headscale":
            services = headscale_services(self.images, self.subnet)
            admit: Callable[[Sequence[Future[str]]], str] = self._admit_to_headscale
        else:
            services = netbird_services(self.images)
            admit = self._admit_to_netbird
        started = [self.pool.submit(self._start, spec) for spec in services]
        key = self.pool.submit(admit, started)
        joins = [self.pool.submit(self._join, number, key) for number in range(1, self.peers + 1)]
        for task in (*started, key, *joins):
            task.result()

    def remove(self) -> None:
        """Everything with this run's label."""
        self.pool.shutdown(cancel_futures=True)
        marks = {"label": f"{LABEL}={self.run}"}
        with ThreadPoolExecutor(8) as pool:
            found = self.api.containers(all=True, filters=marks)
            list(pool.map(lambda one: self.api.remove_container(one["Id"], force=True, v=True), found))
        for network in self.api.networks(filters=marks):
            self.api.remove_network(network["Id"])
        for volume in self.api.volumes(filters=marks)["Volumes"] or ():
            self.api.remove_volume(volume["Name"])
        self.api.close()

    def _make_network(self) -> tuple[IPv4Network, str]:
        """A random prefix far from Docker's own; a taken one is the engine's to refuse, and another is tried."""
        while True:
            subnet = IPv4Network(
                (int(IPv4Network("10.64.0.0/10")[0]) + (random.SystemRandom().randrange(1 << 14) << 8), 24)
            )
            _, upper = subnet.subnets()
            pool = docker.types.IPAMPool(subnet=str(subnet), iprange=str(upper), gateway=str(subnet[1]))
            config = docker.types.IPAMConfig(pool_configs=[pool])
            try:
                made = self.api.create_network(
                    self.run, driver="bridge", ipam=config, internal=True, labels={LABEL: self.run}
                )
            except docker.errors.APIError as error:
                if "overlap" not in str(error):
                    raise
                continue
            return subnet, str(made["Id"])

    def _start(self, spec: Spec) -> str:
        made: str = self.api.create_container_from_config(
            body(spec, self.network, self.run), f"{self.run}-{spec.name}"
        )["Id"]
        if spec.files:
            self.api.put_archive(made, "/", archive(spec.files))
        self.api.start(made)
        return made

    def _join(self, number: int, key: Future[str]) -> None:
        container = self._start(peer(self.product, number, self.images))
        name = f"peer-{number}"
        if self.product == "headscale":
            socket = "/var/run/tailscale/tailscaled.sock"
            self._exec(container, ["sh", "-c", f"until [ -S {socket} ]; do sleep 0.05; done"])
            url = f"http://{self.subnet[2]}:8080"
            join = ["tailscale", "up", f"--login-server={url}", f"--auth-key={key.result()}", f"--hostname={name}"]
        else:
            live = "netbird status --check live >/dev/null 2>&1"
            self._exec(container, ["sh", "-c", f"until {live}; do sleep 0.05; done"])
            url = "http://management"
            join = ["netbird", "up", f"--management-url={url}", f"--setup-key={key.result()}", f"--hostname={name}"]
        self._exec(container, join)

    def _admit_to_headscale(self, started: Sequence[Future[str]]) -> str:
        address = f"{self.subnet[2]}:8080"
        until_answers(address, "/health")
        created = self._exec(started[0].result(), ["headscale", "apikeys", "create", "-e", "1h", "-o", "json"])
        token = f"Bearer {json.loads(created)}"
        user = post(address, "/api/v1/user", {"name": "alice"}, token)["user"]["id"]
        expiration = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        wanted = {"user": user, "reusable": True, "expiration": expiration}
        return str(post(address, "/api/v1/preauthkey", wanted, token)["preAuthKey"]["key"])

    def _admit_to_netbird(self, started: Sequence[Future[str]]) -> str:
        networks = self.api.inspect_container(started[0].result())["NetworkSettings"]["Networks"]
        address = f"{next(iter(networks.values()))['IPAddress']}:80"
        until_answers(address, "/api/instance")
        owner = {"email": "owner@lab.test", "name": "Owner", "password": f"{secrets.token_urlsafe(16)}aA1!"}
        setup = post(address, "/api/setup", {**owner, "create_pat": True, "pat_expire_in": 1})
        key = {"name": "floor", "type": "reusable", "expires_in": 86400, "auto_groups": [], "usage_limit": 0}
        return str(post(address, "/api/setup-keys", key, f"Token {setup['personal_access_token']}")["key"])

    def _exec(self, container: str, argv: Sequence[str]) -> str:
        run = self.api.exec_create(container, list(argv))["Id"]
        output: bytes = self.api.exec_start(run)
        if code := self.api.exec_inspect(run)["ExitCode"]:
            raise SystemExit(f"{argv[0]} ended with {code}: {output.decode(errors='replace')[-300:]}")
        return output.decode()


def archive(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def request(address: str, method: str, path: str, content: object, token: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        headers = {"Content-Type": "application/json", **({"Authorization": token} if token else {})}
        connection.request(method, path, json.dumps(content) if content is not None else None, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def post(address: str, path: str, content: object, token: str = "") -> Any:
    status, answer = request(address, "POST", path, content, token)
    if status >= 400:
        raise SystemExit(f"POST {path}: {status} {answer[:300]!r}")
    return json.loads(answer)


def until_answers(address: str, path: str) -> None:
    deadline_s = time.monotonic() + 60
    while True:
        try:
            if request(address, "GET", path, None, "")[0] == 200:
                return
        except OSError:
            pass
        if time.monotonic() > deadline_s:
            raise SystemExit(f"{address}{path} did not answer within 60 s")
        time.sleep(0.02)


def since_process_start_s() -> float:
    """Seconds since the kernel started this process, the interpreter's own start included (proc(5), field 22)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("product", choices=("headscale", "netbird"))
    parser.add_argument("--peers", type=int, default=3)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--images", type=Path, required=True, help="JSON: image variable to reference")
    options = parser.parse_args()
    floor = Floor(options.product, options.peers, options.workers, json.loads(options.images.read_text()))
    try:
        floor.up()
        print(f"joined {since_process_start_s():.3f}", flush=True)
    finally:
        floor.remove()


if __name__ == "__main__":
    main()
