"""The people of a scenario, put where they are known before anybody signs in."""

from __future__ import annotations

from labs.controlplanes.base import Context
from labs.controlplanes.identity.keycloak import FIRST_REALM
from labs.model import Inventory


def populate(context: Context, inventory: Inventory) -> None:
    """Make the realms, their settings and the people at them. Raises ControlPlaneProblem."""
    keycloak = context.keycloak()
    asked = {provider.name: provider for provider in inventory.providers}
    realms = dict.fromkeys([*asked, *(realm for person in inventory.people for realm in person.at)])
    for realm in realms:
        if realm != FIRST_REALM:
            keycloak.add_realm(realm)
        if realm in asked and (lasts_s := asked[realm].tokens_last_s) is not None:
            keycloak.set_token_lifetime(realm, lasts_s)
    for person in inventory.people:
        for realm in person.at:
            keycloak.add_person(realm, person, context.secrets[f"person {person.name}"])
