"""Signing in as a person does, and the identity provider that people are kept in."""

from labs.controlplanes.identity.browser import Browser, Login, LoginRefused, Page
from labs.controlplanes.identity.keycloak import Keycloak

__all__ = ["Browser", "Keycloak", "Login", "LoginRefused", "Page"]
