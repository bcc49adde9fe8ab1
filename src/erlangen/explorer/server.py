"""The explorer's server: an address of this machine, what a page may do there, and who may ask for it."""

from __future__ import annotations

import importlib.util
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

from erlangen.errors import ErlangenError, MissingExtraError
from erlangen.explorer.page import Page
from erlangen.explorer.session import Exploration
from erlangen.measure.report import AuditReport

PATIENCE = 60.0
"""Seconds that a page may be silent, as on a machine that trains something, before it counts as closed."""

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # NiceGUI writes its page as scripts and templates
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing from other places, and no place inside of other pages."""

HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


def explore(
    *reports: AuditReport,
    classes: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    allow_remote: bool = False,
    show: bool = True,
) -> None:
    """Open a page on this machine where samples move through the group and the models' answers follow; until Ctrl-C.

    It opens at the sample on which the first model does worst, and at the element where it does so.

    Args:
        reports: what `erlangen.audit` returned for one or several models, audited on the same data, elements and seed.
        classes: names of the classes, for integer labels.
        host: address to listen on; only this machine can reach the default.
        port: port, or 0 for a free one.
        allow_remote: allow a `host` that other machines can reach. Whoever reaches the page sees the data.
        show: open the browser.

    Raises:
        MissingExtraError: NiceGUI is not installed (extra ``explore``).
        SymmetryError, DataError: reports that do not belong together, or that hold no model and data.
        ErlangenError: a host other than this machine without `allow_remote`, or a port that is taken.
    """
    Exploration(reports, classes)  # whatever is wrong with the reports is said now, not in the browser
    port = check_address(host, port, allow_remote=allow_remote)
    from nicegui import app, core, ui

    if not any(m.cls is _Guard for m in app.user_middleware):
        app.add_middleware(_Guard)
    if not allow_remote:
        # A page elsewhere that points its own name at this machine is refused.
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        if not any(m.cls is TrustedHostMiddleware for m in app.user_middleware):
            app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]", host])
    print(f"explorer: http://{host}:{port}/  (Ctrl-C stops it)", flush=True)
    core.sio.eio.cors_allowed_origins = None  # pages of other sites cannot open a connection
    ui.run(
        lambda: Page(Exploration(reports, classes)).build(),
        host=host,
        port=port,
        title="erlangen explorer",
        reload=False,
        show=show,
        dark=None,
        reconnect_timeout=PATIENCE,
        show_welcome_message=False,
    )


def check_address(host: str = "127.0.0.1", port: int = 0, *, allow_remote: bool = False) -> int:
    """The port that `explore` would listen on: to be asked before what it shows is trained.

    >>> check_address() > 0
    True

    Args:
        host, port, allow_remote: as for `explore`.

    Raises:
        MissingExtraError, ErlangenError: as `explore`.
    """
    if not allow_remote and not _is_here(host):
        raise ErlangenError(
            f"host = {host!r} can be reached from other machines; keep 127.0.0.1, or pass allow_remote=True (--allow-remote) if "
            "everybody who reaches it may see the data"
        )
    if importlib.util.find_spec("nicegui") is None:
        raise MissingExtraError("nicegui", "explore", "the explorer")
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except (OSError, OverflowError) as error:
        raise ErlangenError(
            f"host = {host!r}, port = {port}: cannot listen there ({error}); choose another port"
        ) from error


def _is_here(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Guard:
    """What answers by HTTP, with `HEADERS`; web sockets go through as they are."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self.app(scope, receive, guarded if scope["type"] == "http" else send)
