"""What an operator does for each verb: KIND SCOPE ACTION, as the journal records it; {…} is filled in as it is done.

A verb that is not here is no action of the operator's. Tests compare this with recorded journals.
"""

from __future__ import annotations

from collections.abc import Mapping

_APPROVE = "api route POST /api/v1/node/{id}/approve_routes"
_ADVERTISE = "command route tailscale set --advertise-routes={prefixes}"
_ACCEPT = "command consumer tailscale set --accept-routes"
_ADVERTISE_EXIT = "command route tailscale set --advertise-exit-node={yes}"
_CHOOSE_EXIT = "command consumer tailscale set --exit-node={address} --exit-node-allow-lan-access={yes}"
_POLICY = "api policy PUT /api/v1/policy"
_RECORDS = "edit name headscale: /etc/headscale/extra-records.json"
_SPLIT = ("edit name headscale: /etc/headscale/config.yaml", "restart lab restart headscale")
_SETTING = ("edit lab headscale: /etc/headscale/config.yaml", "restart lab restart headscale")
_NO_NODE = "api peer DELETE /api/v1/node/{id}"
_NO_USER = "api user DELETE /api/v1/user/{id}"
_SIGN_IN = "command peer tailscale up --login-server={url} --hostname={name} --timeout={time} --force-reauth{settings}"
_KEY = "api user POST /api/v1/preauthkey"
_JOIN = "command peer tailscale up --login-server={url} --auth-key={file} --hostname={name} --timeout={time}"

ACTIONS: Mapping[str, tuple[str, ...]] = {
    "publish-route": (_ADVERTISE, _APPROVE, _ACCEPT),
    "withdraw-route": (_APPROVE, _ADVERTISE),
    "advertise-routes": (_ADVERTISE,),
    "approve-routes": (_APPROVE,),
    "accept-routes": (_ACCEPT,),
    "auto-approve": (_POLICY,),
    "offer-exit": (_ADVERTISE_EXIT, _APPROVE),
    "withdraw-exit": (_APPROVE, _ADVERTISE_EXIT),
    "choose-exit": (_CHOOSE_EXIT,),
    "leave-exit": (_CHOOSE_EXIT,),
    "set-record": (_RECORDS,),
    "remove-record": (_RECORDS,),
    "split-dns": _SPLIT,
    "drop-split-dns": _SPLIT,
    "change-settings": _SETTING,
    "add-provider": _SETTING,
    "switch-provider": _SETTING,
    "restrict-sign-in": _SETTING,
    "sign-in": (_SIGN_IN,),
    "remove-user": (_NO_USER,),
    "remove-former-self": (_NO_NODE, _NO_USER),
    "allow-provider-group": (_POLICY,),
    "deny-all": (_POLICY,),
    "allow": (_POLICY,),
    "revoke": (_POLICY,),
    "allow-exit": (_POLICY,),
    "set-group": (_POLICY,),
    "make-key": (_KEY,),
    "join": (_KEY, _JOIN),
    "remove-peer": (_NO_NODE,),
    "rename-peer": ("api peer POST /api/v1/node/{id}/rename/{name}",),
    "expire-peer": ("api peer POST /api/v1/node/{id}/expire",),
}
