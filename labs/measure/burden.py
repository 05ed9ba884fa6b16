"""What an operator has to look after, counted in real files and images."""

from __future__ import annotations

from collections.abc import Mapping

from labs import compose
from labs.controlplanes import Context, control_plane
from labs.engine import Engine
from labs.images import is_the_real_thing
from labs.journal import Journal
from labs.lab.plan import product_of, topology_folder
from labs.model import Peer, Settings
from labs.results import Burden
from labs.timing import SystemClock


def burden(engine: Engine, topology: str, images: Mapping[str, str]) -> Burden:
    """`images` as a Plan takes them. Raises NotFound when one of them is not there yet."""
    counts = compose.count(topology_folder(topology), images)
    return Burden(
        topology=topology,
        services=tuple(counts.images),
        stand_ins={name: what for name, what in counts.stand_ins.items() if not is_the_real_thing(counts.images[name])},
        published_ports=counts.ports,
        secrets=counts.secrets,
        volumes=counts.volumes,
        config_files=counts.config_files,
        config_lines=counts.config_lines,
        settings=counts.settings,
        image_bytes={name: engine.image(reference).size_bytes for name, reference in counts.images.items()},
    )


def deviations(engine: Engine, topology: str) -> tuple[str, ...]:
    """What the lab sets otherwise than an operator would: read from the topology's file and the peers' containers."""
    counts = compose.count(topology_folder(topology))
    clock = SystemClock()
    driver = control_plane(product_of(topology), Context(engine, clock, Journal(clock.now), {}, ""))
    peer = driver.peer_container(Peer("any", "any"), "any", Settings())
    services = [f"{name}: {key} is set" for name, keys in counts.lab_only.items() for key in keys]
    return (*services, *(f"peers: {key}={value}" for key, value in sorted(peer.environment.items())))
