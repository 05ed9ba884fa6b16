"""What an operator does for each verb: KIND SCOPE ACTION, as the journal records it; {…} is filled in as it is done.

A verb that is not here is no action of the operator's. Tests compare this with recorded journals.
"""

from __future__ import annotations

from collections.abc import Mapping

_GROUP = "api route POST /api/groups"
_NO_GROUP = "api route DELETE /api/groups/{id}"
_ROUTER = "api route POST /api/networks/{id}/routers"
_NO_ROUTER = "api route DELETE /api/networks/{id}/routers/{id}"
_RESOURCE = ("api route POST /api/networks", _ROUTER, "api route POST /api/networks/{id}/resources")
_NO_RESOURCE = ("api route DELETE /api/policies/{id}", "api route DELETE /api/networks/{id}")
_OPEN = "api route POST /api/policies"
_ROUTE = "api route POST /api/routes"
_NO_ROUTE = "api route DELETE /api/routes/{id}"
_POLICY = "api policy POST /api/policies"
_NO_POLICY = "api policy DELETE /api/policies/{id}"
_NO_PEER = "api peer DELETE /api/peers/{id}"
_NO_USER = "api user DELETE /api/users/{id}"
_PROVIDER = "api lab POST /api/identity-providers"
_SIGN_IN = "command peer timeout {time} netbird up --no-browser --management-url={url} --hostname={name}"
_KEY = "api user POST /api/setup-keys"
_JOIN = "command peer timeout {time} netbird up --management-url={url} --setup-key-file={file} --hostname={name}"

ACTIONS: Mapping[str, tuple[str, ...]] = {
    "publish-route": (_GROUP, *_RESOURCE, _OPEN, _ROUTE),
    "withdraw-route": (_NO_ROUTER, *_NO_RESOURCE, _NO_ROUTE, _NO_GROUP),
    "add-resource": _RESOURCE,
    "allow-resource": (_OPEN,),
    "remove-resource": _NO_RESOURCE,
    "offer-exit": (_GROUP, _ROUTE),
    "withdraw-exit": (_NO_ROUTE, _NO_GROUP),
    "choose-exit": ("command consumer netbird networks select -a {name}",),
    "leave-exit": ("command consumer netbird networks deselect {name}",),
    "set-record": (
        "api name POST /api/dns/zones",
        "api name POST /api/dns/zones/{id}/records",
        "api name PUT /api/dns/zones/{id}/records/{id}",
    ),
    "remove-record": ("api name DELETE /api/dns/zones/{id}/records/{id}",),
    "split-dns": ("api name POST /api/dns/nameservers",),
    "drop-split-dns": ("api name DELETE /api/dns/nameservers/{id}",),
    "change-settings": ("api lab PUT /api/accounts/{id}",),
    "deny-all": (_NO_POLICY,),
    "allow": ("api policy POST /api/groups", "api policy PUT /api/users/{id}", _POLICY),
    "revoke": (_NO_POLICY,),
    "allow-exit": (_POLICY,),
    "set-group": ("api policy POST /api/groups", "api policy PUT /api/groups/{id}"),
    "make-key": (_KEY,),
    "join": (_KEY, _JOIN),
    "sign-in": (_NO_PEER, "command peer netbird down", _SIGN_IN),
    "add-local-user": ("api user POST /api/users",),
    "invite-user": ("api user POST /api/users/invites",),
    "approve-user": ("api user POST /api/users/{id}/approve",),
    "remove-user": (_NO_USER,),
    "remove-former-self": (_NO_USER,),
    "add-provider": (_PROVIDER,),
    "switch-provider": (_PROVIDER, "api lab DELETE /api/identity-providers/{id}"),
    "allow-provider-group": ("api lab PUT /api/accounts/{id}", _POLICY),
    "remove-peer": (_NO_PEER,),
    "rename-peer": ("api peer PUT /api/peers/{id}",),
}
