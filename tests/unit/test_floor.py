"""The floor's container bodies, and the figures of `inv bench.up`; the floor knows nothing of labs."""

from __future__ import annotations

import importlib.util
import io
import sys
import tarfile
from ipaddress import IPv4Network
from pathlib import Path
from types import ModuleType

import pytest

from labs.commands.bench import UpBenchmark

FLOOR = Path(__file__).parents[2] / "bench" / "floor.py"


@pytest.fixture(scope="module")
def floor() -> ModuleType:
    spec = importlib.util.spec_from_file_location("floor", FLOOR)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["floor"] = module
    spec.loader.exec_module(module)
    return module


def test_it_imports_nothing_from_labs() -> None:
    lines = [line.strip() for line in FLOOR.read_text().splitlines()]
    assert not [line for line in lines if line.startswith(("import labs", "from labs"))]


def test_a_body_has_one_network_a_label_and_a_device(floor: ModuleType) -> None:
    spec = floor.Spec("peer-1", "x:1", host={"Devices": ["/dev/net/tun"], "CapAdd": ["NET_ADMIN"]}, address="10.0.0.2")
    body = floor.body(spec, "net", "run")
    assert body["Labels"] == {floor.LABEL: "run"}
    assert body["HostConfig"]["Devices"][0]["PathInContainer"] == "/dev/net/tun"
    assert body["HostConfig"]["NetworkMode"] == "net"
    assert body["NetworkingConfig"]["EndpointsConfig"]["net"]["IPAMConfig"] == {"IPv4Address": "10.0.0.2"}
    assert "Binds" not in body["HostConfig"]


def test_files_and_volumes_go_along(floor: ModuleType) -> None:
    images = {"HEADSCALE_IMAGE": "h:1"}
    (headscale,) = floor.headscale_services(images, IPv4Network("10.1.2.0/24"))
    assert headscale.env["HEADSCALE_SERVER_URL"] == "http://10.1.2.2:8080"
    assert floor.body(headscale, "net", "run")["HostConfig"]["Binds"] == ["run:/var/lib/headscale"]
    with tarfile.open(fileobj=io.BytesIO(floor.archive(headscale.files))) as tar:
        assert tar.getnames() == ["etc/headscale/config.yaml", "etc/headscale/extra-records.json"]


def test_the_median_is_of_the_ratios_pair_by_pair() -> None:
    pairs = ((1.0, 1.2), (2.0, 2.2), (1.0, 3.0))
    result = UpBenchmark("headscale", 3, 2, {2: (1.0,)}, 2, pairs)
    assert [round(ratio, 3) for ratio in result.ratios] == [1.2, 1.1, 3.0]
    assert round(result.median_ratio, 3) == 1.2
