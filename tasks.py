"""The commands, for `invoke` and `./inv`."""

from labs.commands import namespace as namespace
