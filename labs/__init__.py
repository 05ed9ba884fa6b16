"""Throwaway Headscale and NetBird labs from the real software, and the scenarios that compare them."""

__version__ = "0.1.0"
