"""The container engine behind one Protocol. This package is the only one that imports `docker`."""

from labs.engine.protocol import (
    ContainerInfo,
    Engine,
    EngineInfo,
    ExecResult,
    ImageInfo,
    NetworkInfo,
    State,
    VolumeInfo,
)

__all__ = [
    "ContainerInfo",
    "Engine",
    "EngineInfo",
    "ExecResult",
    "ImageInfo",
    "NetworkInfo",
    "State",
    "VolumeInfo",
]
