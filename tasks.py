"""The commands, for `invoke` and `./inv`."""

from labs.commands import namespace

__all__ = ["namespace"]
