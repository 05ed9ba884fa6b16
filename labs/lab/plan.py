"""Everything that is decided before the first container: topology, images, who takes part, under which name."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Network
from pathlib import Path

from labs import compose, resources
from labs.errors import UsageError
from labs.images import is_the_real_thing, official_recipe
from labs.model import Access, File, Inventory, Product, Topology
from labs.words import nearest

_NAME = re.compile(r"[a-z][a-z0-9-]{0,29}")
_FOLDER = re.compile(r"[a-z0-9-]+")
_CLIENT_VARIABLES = {Product.HEADSCALE: "TAILSCALE_IMAGE", Product.NETBIRD: "NETBIRD_IMAGE"}
TOOLBOX_VARIABLE = "TOOLBOX_IMAGE"
_DNS_VARIABLE = "COREDNS_IMAGE"


@dataclass(frozen=True)
class Plan:
    """A lab to be. `images` maps the variables of `image_variables` to references the engine has."""

    name: str
    topology_name: str
    inventory: Inventory
    images: Mapping[str, str]

    @property
    def folder(self) -> Path:
        return topology_folder(self.topology_name)

    @cached_property
    def needs(self) -> compose.Needs:
        return compose.needs(self.folder)

    @property
    def product(self) -> Product:
        return self.needs.product

    @property
    def control(self) -> str:
        return self.needs.control

    @property
    def access(self) -> Access:
        return access_of(self.topology_name)

    @property
    def control_networks(self) -> tuple[str, ...]:
        """The topology's own networks, which need a prefix each."""
        return tuple(self.needs.subnets.values())

    @property
    def client_image(self) -> str:
        return self.images[_CLIENT_VARIABLES[self.product]]

    @property
    def toolbox_image(self) -> str:
        return self.images[TOOLBOX_VARIABLE]

    @cached_property
    def toolbox_files(self) -> tuple[File, ...]:
        """What a plain machine's container still needs: an official busybox serves nothing by itself."""
        mirrored = official_recipe(self.toolbox_image)
        brought = mirrored.brought_files if mirrored else ()
        return tuple(File(file.path, file.content.encode(), file.mode) for file in brought)

    @property
    def dns_image(self) -> str:
        return self.images[_DNS_VARIABLE]

    @cached_property
    def owner(self) -> str:
        """Tells this checkout's labs from another's."""
        return hashlib.sha256(str(resources.path("compose").resolve()).encode()).hexdigest()[:12]

    @cached_property
    def settings(self) -> str:
        """Changes with anything that would make another lab."""
        files = sorted(self.folder.iterdir())
        digest = hashlib.sha256()
        for part in (self.topology_name, repr(self.inventory), repr(sorted(self.images.items()))):
            digest.update(part.encode() + b"\0")
        for file in files:
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
        return digest.hexdigest()[:12]

    def topology(self, subnets: Mapping[str, IPv4Network]) -> Topology:
        """The topology on these prefixes (by network name), with its images and with fresh secrets."""
        needs = self.needs
        variables = {**self.images, **_variant_of(self.topology_name)[1]}
        variables |= {variable: str(subnets[network]) for variable, network in needs.subnets.items()}
        variables |= {variable: str(subnets[net][offset]) for variable, (net, offset) in needs.addresses.items()}
        variables |= {variable: _secret(kind) for variable, kind in needs.secrets.items()}
        return _without_stand_ins(compose.read(self.folder, variables))


def _without_stand_ins(topology: Topology) -> Topology:
    """Where a stand-in can only be built, the official image is the real thing."""
    return replace(
        topology,
        services=tuple(
            replace(service, stand_in=None)
            if service.stand_in and is_the_real_thing(service.container.image)
            else service
            for service in topology.services
        ),
    )


def image_variables(topology: str, inventory: Inventory) -> tuple[str, ...]:
    """The image variables a lab needs: its services', its clients' if it has peers, and its hosts'."""
    needs = compose.needs(topology_folder(topology))
    names = [name for name in needs.variables if name.endswith("_IMAGE")]
    names += [_CLIENT_VARIABLES[needs.product]] if inventory.peers else []
    names += [TOOLBOX_VARIABLE] if inventory.needs_toolbox else []
    names += [_DNS_VARIABLE] if any(host.serves == "dns" for host in inventory.hosts) else []
    return tuple(names)


def every_image_variable(names: Iterable[str]) -> tuple[str, ...]:
    """The image variables of all labs that these topologies can be: with peers, plain hosts, and a site's resolver."""
    found = {TOOLBOX_VARIABLE, _DNS_VARIABLE}
    for name in names:
        needs = needs_of(name)
        found |= {_CLIENT_VARIABLES[needs.product], *(v for v in needs.variables if v.endswith("_IMAGE"))}
    return tuple(sorted(found))


def topologies() -> tuple[str, ...]:
    """The names of all topologies: each folder's, and FOLDER-VARIANT for the variants that its file names."""
    return tuple(sorted(_known()))


def topology_folder(name: str) -> Path:
    """Raises UsageError with the nearest topology there is."""
    return _variant_of(name)[0]


def needs_of(topology: str) -> compose.Needs:
    """What a topology's file asks of a lab and of the machine; a variant may need more. Raises UsageError."""
    return compose.needs(topology_folder(topology))


def product_of(topology: str) -> Product:
    """Which product a topology runs. Raises UsageError."""
    return needs_of(topology).product


def access_of(topology: str) -> Access:
    """How a topology is spoken to. Raises UsageError."""
    return compose.access(topology_folder(topology))


def _known() -> dict[str, tuple[Path, Mapping[str, str]]]:
    """Folder and variables of each topology. A file is read only where it may have variants."""
    found: dict[str, tuple[Path, Mapping[str, str]]] = {}
    for file in resources.path("compose").glob("*/compose.yaml"):
        folder = file.parent
        found[folder.name] = (folder, {})
        variants = compose.needs(folder).variants if "\n  variants:" in file.read_text() else {}
        found |= {f"{folder.name}-{variant}": (folder, values) for variant, values in variants.items()}
    return found


def _variant_of(name: str) -> tuple[Path, Mapping[str, str]]:
    folder = resources.path("compose") / name
    # The plain name is by far the most frequent, and needs no look at the others.
    if _FOLDER.fullmatch(name) and (folder / "compose.yaml").is_file():
        return folder, {}
    known = _known()
    if name not in known:
        raise UsageError(f"There is no topology called {name}", hint=nearest(name, known))
    return known[name]


def checked_name(name: str) -> str:
    """A lab's name as given. Raises UsageError unless it can be part of a container's name."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a lab's name",
            hint="lower-case letters, digits and hyphens, at most 30, a letter first",
        )
    return name


def _secret(kind: str) -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode() if kind == "base64-32" else secrets.token_urlsafe(24)
