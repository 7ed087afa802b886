"""The token of a joined cluster, which Ray itself sends only where RAY_AUTH_MODE says so."""

import logging
import os

from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled

MODE = "RAY_AUTH_MODE"

Metadata = tuple[tuple[str, str], ...]


def shown_token() -> Metadata:
    """This machine's token as a call of gRPC carries it, empty where there is none. From now on Ray
    sends it too, unless RAY_AUTH_MODE forbids it."""
    logging.getLogger("ray").setLevel(logging.ERROR)  # it would warn of what is wished for
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    headers = get_auth_headers_if_auth_enabled({})
    return tuple((key.lower(), value) for key, value in headers.items())


def refusal(address: str, token: Metadata) -> str:
    """A sentence on a cluster that wants a token, and does not take this one."""
    mode = os.environ.get(MODE, "token")
    if token:
        why = "refuses the one of this machine"
    elif mode.lower() != "token":
        why = f"{MODE}={mode} keeps it back: unset that"
    else:
        why = "there is none here"
    return (
        f"the Ray cluster at {address} wants a token, and {why}; its head has it in "
        "~/.ray/auth_token: copy it to the same place here, or name a file in RAY_AUTH_TOKEN_PATH"
    )
