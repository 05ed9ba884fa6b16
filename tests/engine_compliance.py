"""What every Engine does, asked of the fake by tests/unit and of a real engine by tests/live.

Subclasses give the fixtures `engine` and `image` (an image whose default command keeps running,
with busybox `sh`, `cat` and `sleep`), and `labels`, which mark everything made here.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from labs.engine import Engine, PullProgress, State
from labs.errors import AddressInUse, EngineProblem, NotFound, RegistryUnreachable
from labs.model import Attachment, Container, File, Network, VolumeMount

SOON_S = 30.0


class EngineCompliance:
    @pytest.fixture
    def labels(self, engine: Engine) -> Iterator[dict[str, str]]:
        marks = {"org.mesh-labs.compliance": secrets.token_hex(4)}
        yield marks
        for container in engine.containers(marks):
            engine.remove(container.id)
        for network in engine.networks(marks):
            engine.remove_network(network.id)
        for volume in engine.volumes(marks):
            engine.remove_volume(volume.name)

    @pytest.fixture
    def subnet(self, engine: Engine) -> IPv4Network:
        taken = [subnet for network in engine.networks() for subnet in network.subnets]
        candidates = (IPv4Network(f"10.{200 + secrets.randbelow(40)}.{third}.0/24") for third in range(256))
        return next(subnet for subnet in candidates if not any(subnet.overlaps(other) for other in taken))

    @pytest.fixture
    def network(self, engine: Engine, subnet: IPv4Network, labels: dict[str, str]) -> str:
        return engine.create_network(Network("net", subnet), self.name(), labels).id

    def name(self) -> str:
        return f"mesh-labs-compliance-{secrets.token_hex(4)}"

    def spec(self, image: str, labels: dict[str, str], *attachments: Attachment) -> Container:
        return Container("thing", image, command=("sleep", "600"), labels=labels, attachments=attachments)

    def make(self, engine: Engine, spec: Container, network: str) -> str:
        return engine.create(spec, self.name(), {"net": network}, {})

    def test_it_is_an_engine_and_says_which(self, engine: Engine) -> None:
        assert isinstance(engine, Engine)
        assert engine.info().cpus >= 1
        assert engine.info().architecture in ("amd64", "arm64")

    def test_a_container_is_created_started_and_found_by_label(
        self, engine: Engine, image: str, labels: dict[str, str], network: str, subnet: IPv4Network
    ) -> None:
        spec = self.spec(image, {**labels, "org.mesh-labs.role": "peer"}, Attachment("net", subnet[7]))
        made = self.make(engine, spec, network)
        assert engine.inspect(made).state is State.CREATED
        engine.start(made)
        (found,) = engine.containers({**labels, "org.mesh-labs.role": ""})
        assert (found.id, found.state) == (made, State.RUNNING)
        assert list(found.addresses.values()) == [subnet[7]]
        assert engine.containers({**labels, "org.mesh-labs.role": "host"}) == ()

    def test_an_address_is_chosen_when_none_is_asked_for(
        self, engine: Engine, image: str, labels: dict[str, str], network: str, subnet: IPv4Network
    ) -> None:
        made = self.make(engine, self.spec(image, labels, Attachment("net")), network)
        engine.start(made)
        (address,) = engine.inspect(made).addresses.values()
        _, upper = subnet.subnets()
        assert address in upper, "the lower half is for fixed addresses"

    def test_a_second_network_can_be_joined_and_left(
        self, engine: Engine, image: str, labels: dict[str, str], network: str
    ) -> None:
        made = self.make(engine, self.spec(image, labels), network)
        engine.start(made)
        assert engine.inspect(made).addresses == {}

    def test_connect_and_disconnect(
        self, engine: Engine, image: str, labels: dict[str, str], network: str, subnet: IPv4Network
    ) -> None:
        other = IPv4Network((int(subnet.network_address) + 0x100, 24))
        second = engine.create_network(Network("two", other), self.name(), labels)
        made = self.make(engine, self.spec(image, labels, Attachment("net")), network)
        engine.connect(made, second.id, Attachment("two", other[9]))
        engine.start(made)
        assert engine.inspect(made).addresses[second.name] == other[9]
        engine.disconnect(made, second.id)
        assert second.name not in engine.inspect(made).addresses

    def test_overlapping_addresses_are_refused(
        self, engine: Engine, labels: dict[str, str], network: str, subnet: IPv4Network
    ) -> None:
        assert network
        with pytest.raises(AddressInUse):
            engine.create_network(Network("again", subnet), self.name(), labels)

    def test_networks_list_their_subnets(
        self, engine: Engine, labels: dict[str, str], network: str, subnet: IPv4Network
    ) -> None:
        (found,) = engine.networks(labels)
        assert (found.id, found.subnets) == (network, (subnet,))
        assert found in engine.networks()

    def test_a_network_in_use_cannot_be_removed(
        self, engine: Engine, image: str, labels: dict[str, str], network: str
    ) -> None:
        made = self.make(engine, self.spec(image, labels, Attachment("net")), network)
        engine.start(made)
        with pytest.raises(EngineProblem):
            engine.remove_network(network)

    def test_volumes(self, engine: Engine, image: str, labels: dict[str, str], network: str) -> None:
        volume = engine.create_volume(self.name(), labels)
        spec = replace(self.spec(image, labels, Attachment("net")), volumes=(VolumeMount("data", "/data"),))
        engine.create(spec, self.name(), {"net": network}, {"data": volume.name})
        assert [found.name for found in engine.volumes(labels)] == [volume.name]

    def test_what_is_not_there(self, engine: Engine, image: str, labels: dict[str, str], network: str) -> None:
        with pytest.raises(NotFound):
            engine.image("mesh-labs/no-such-image:1")
        with pytest.raises(NotFound):
            self.make(engine, self.spec("mesh-labs/no-such-image:1", labels), network)
        with pytest.raises(NotFound):
            engine.inspect("0" * 64)
        with pytest.raises(NotFound):
            engine.start("0" * 64)
        assert engine.containers(labels) == ()
        assert image

    def test_an_image_gets_another_name_and_loses_it(self, engine: Engine, image: str) -> None:
        name = f"{self.name()}:1"
        engine.tag_image(image, name)
        assert engine.image(name).id == engine.image(image).id
        engine.remove_image(name)
        with pytest.raises(NotFound):
            engine.image(name)
        with pytest.raises(NotFound):
            engine.tag_image("mesh-labs/no-such-image:1", name)

    def test_a_saved_image_comes_back_with_its_labels(self, engine: Engine, image: str) -> None:
        name = f"{self.name()}:1"
        engine.tag_image(image, name)
        before = engine.image(name)
        pieces = list(engine.save_images([name]))
        engine.remove_image(name)
        for _ in range(2):
            engine.load_images(pieces)
            assert engine.image(name) == before
        engine.remove_image(name)
        with pytest.raises(NotFound):
            list(engine.save_images([name]))

    def test_a_registry_that_is_not_there_is_named(self, engine: Engine) -> None:
        seen: list[PullProgress] = []
        with pytest.raises(RegistryUnreachable, match=r"cannot reach 127\.0\.0\.1:1"):
            engine.pull_image("127.0.0.1:1/any/image:1", seen.append, 30.0)
        assert not seen

    def test_removing_what_is_gone_is_fine(
        self, engine: Engine, image: str, labels: dict[str, str], network: str
    ) -> None:
        made = self.make(engine, self.spec(image, labels), network)
        engine.remove(made)
        engine.remove(made)
        engine.remove_network(network)
        engine.remove_network(network)
        engine.remove_volume("mesh-labs-no-such-volume")

    def test_a_stream_is_a_commands_input_and_output(
        self, engine: Engine, image: str, labels: dict[str, str], network: str
    ) -> None:
        made = self.make(engine, self.spec(image, labels), network)
        with pytest.raises(EngineProblem):
            engine.pipe(made, ["cat"])
        engine.start(made)
        with engine.pipe(made, ["cat"]) as stream:
            stream.settimeout(SOON_S)
            for text in (b"one\n", b"two\n"):
                stream.sendall(text)
                assert stream.recv(100) == text
        with engine.pipe(made, ["echo", "bye"]) as stream:
            stream.settimeout(SOON_S)
            assert stream.recv(100) == b"bye\n"
            assert stream.recv(1) == b"", "it ends with the command"

    def test_stop_pause_and_stats(self, engine: Engine, image: str, labels: dict[str, str], network: str) -> None:
        made = self.make(engine, self.spec(image, labels, Attachment("net")), network)
        with pytest.raises(NotFound):
            engine.stats(made)
        engine.start(made)
        assert engine.stats(made)["memory_stats"]
        engine.pause(made)
        assert engine.inspect(made).state is State.PAUSED
        engine.unpause(made)
        engine.stop(made, grace_s=0)
        stopped = engine.inspect(made)
        assert (stopped.state, stopped.addresses) == (State.EXITED, {})
        with pytest.raises(NotFound):
            engine.stats(made)

    def test_exec_needs_a_running_container(
        self, engine: Engine, image: str, labels: dict[str, str], network: str
    ) -> None:
        made = self.make(engine, self.spec(image, labels), network)
        with pytest.raises(EngineProblem):
            engine.exec(made, ["true"])

    def test_a_command_that_is_not_there_gives_127_or_126(
        self, engine: Engine, image: str, labels: dict[str, str], network: str
    ) -> None:
        made = self.make(engine, self.spec(image, labels), network)
        engine.start(made)
        assert engine.exec(made, ["/no/such/binary"]).exit_code in (126, 127)

    def test_files_can_be_copied_in_before_and_after_the_start(
        self, engine: Engine, image: str, labels: dict[str, str], network: str
    ) -> None:
        spec = replace(self.spec(image, labels), files=(File("/etc/deep/er/one", b"1", 0o600),))
        made = self.make(engine, spec, network)
        engine.start(made)
        engine.copy_in(made, [File("/tmp/two", b"2")])  # noqa: S108 - inside the container

    def test_an_address_outside_the_subnet_never_appears(
        self, engine: Engine, image: str, labels: dict[str, str], network: str, subnet: IPv4Network
    ) -> None:
        first = self.make(engine, self.spec(image, labels, Attachment("net")), network)
        second = self.make(engine, self.spec(image, labels, Attachment("net")), network)
        engine.start(first)
        engine.start(second)
        seen: list[IPv4Address] = [ip for c in engine.containers(labels) for ip in c.addresses.values()]
        assert len(set(seen)) == 2
        assert all(ip in subnet for ip in seen)
