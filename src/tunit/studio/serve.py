"""Serve the studio: open its socket, print its address, answer until Ctrl-C."""

import ipaddress
import logging
import secrets
import socket
import webbrowser

import uvicorn

from tunit.errors import ConfigError, reason_of
from tunit.printing import remark, show
from tunit.studio.app import create_app
from tunit.studio.guard import is_loopback, rules_for
from tunit.studio.workspace import Workspace

EVERYWHERE = "0.0.0.0"  # all addresses of this machine, which "" means, too
END_WITHIN = 3  # at the end, the studio waits this many seconds for unfinished answers


class _Remarks(logging.Handler):
    """Prints the log as remarks on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one entry; a traceback keeps its lines."""
        for line in self.format(record).splitlines():
            remark(line, name="studio: ")


def serve(
    workspace: Workspace, host: str, port: int, *, ask_for_token: bool = False, open_browser: bool = False
) -> None:
    """Answer requests until Ctrl-C. Raises ConfigError if it is impossible to listen at this address."""
    host = host or EVERYWHERE
    listening = listen(host, port)
    port = listening.getsockname()[1]
    token = secrets.token_urlsafe(24) if ask_for_token or not is_loopback(host) else ""
    rules = rules_for(host, port, token, workspace.max_upload)
    address = f"http://{_name_of(host, listening)}:{port}/" + (f"?token={token}" if token else "")
    _log_as_remarks()
    show(f"The studio of {workspace.root} is open at {address}", "Ctrl-C ends it.")
    if open_browser:
        webbrowser.open(address)
    # Requests are not logged, because addresses contain the token. Headers of proxies are not trusted.
    config = uvicorn.Config(
        create_app(workspace, rules),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=200,
        timeout_graceful_shutdown=END_WITHIN,
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:  # the normal end of a studio
        show("The studio has ended.")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at this address; port 0 takes any free port. Raises ConfigError if that is impossible."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is not the name of a machine"
        raise ConfigError(
            f"the studio cannot listen at {host}, port {port} ({reason}): give another --port or --host"
        ) from None


def _name_of(host: str, listening: socket.socket) -> str:
    """The name under which a browser finds the studio: that of this machine, if it listens at all its addresses."""
    if ipaddress.ip_address(listening.getsockname()[0]).is_unspecified:
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _log_as_remarks() -> None:
    handler = _Remarks()
    for name in ("tunit.studio", "uvicorn.error"):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [handler], False
        log.setLevel(logging.WARNING)
