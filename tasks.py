"""Lets Invoke itself find the commands in a checkout; `./inv` and `labs` do not need this file."""

from labs.commands import namespace

__all__ = ["namespace"]
