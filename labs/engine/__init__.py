"""The container engine behind one Protocol. This package is the only one that imports `docker`."""

from labs.engine.protocol import (
    ContainerInfo,
    Engine,
    EngineInfo,
    ExecResult,
    ImageInfo,
    NetworkInfo,
    OnPull,
    PullProgress,
    State,
    VolumeInfo,
)
from labs.engine.pulling import registry_of

__all__ = [
    "ContainerInfo",
    "Engine",
    "EngineInfo",
    "ExecResult",
    "ImageInfo",
    "NetworkInfo",
    "OnPull",
    "PullProgress",
    "State",
    "VolumeInfo",
    "registry_of",
]
