"""The hint that names the nearest valid word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, valid: Iterable[str], otherwise: str = "") -> str:
    """'did you mean X?', or the whole short list, or `otherwise`."""
    words = sorted(valid)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"one of: {', '.join(words)}" if 0 < len(words) <= 12 else otherwise
