"""Which requests are allowed: a gate that every request passes before it reaches a page.

Pages of other sites in the user's browser can send requests to this machine, too. So the studio answers only to its
own host names (against DNS rebinding), refuses requests from other sites, and lets the browser run only its own
scripts.
"""

import hashlib
import hmac
import ipaddress
import socket
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tunit.printing import escape
from tunit.studio.frame import open_to_others
from tunit.studio.refusals import refusal

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
SAFE = ("GET", "HEAD")
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Rules:
    """The rules by which the gate judges requests."""

    names: frozenset[str] = frozenset(_LOCAL)  # allowed host names in the Host header
    addresses: bool = False  # allow any IP address as well: DNS rebinding needs a name
    token: str = ""  # required to see anything; "" requires none
    most_bytes: int = 64_000_000  # of a request's body
    port: int = 0  # part of the cookie's name: browsers share cookies between ports, but studios must not

    def knows(self, host: str) -> bool:
        """Whether a Host header holds an allowed name of the studio."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.addresses

    @property
    def cookie(self) -> str:
        """The cookie's name."""
        return f"tunit-studio-{self.port}"

    @property
    def proof(self) -> str:
        """The cookie's value: a hash of the token, from which the token cannot be recovered."""
        return hashlib.blake2b(self.token.encode(), key=b"studio cookie", digest_size=32).hexdigest()


def is_loopback(host: str) -> bool:
    """Whether an address can be reached only from this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def rules_for(host: str, port: int, token: str, most_bytes: int) -> Rules:
    """The rules of a studio that listens at `host`."""
    names = {*_LOCAL, host.lower()}
    if not is_loopback(host):
        own = socket.gethostname().lower()
        names |= {own, f"{own}.local"}
    return Rules(frozenset(names), not is_loopback(host), token, most_bytes, port)


@dataclass
class Guard:
    """The gate, as ASGI middleware."""

    app: ASGIApp
    rules: Rules = field(default_factory=Rules)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it with an error."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # the studio has no web sockets
            return
        headers = Headers(scope=scope)
        open_to_others.set(self.rules.addresses)

        async def send_guarded(message: Message) -> None:
            """As `send`; the answer also gets the headers that protect the page."""
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    out.setdefault(name, value)
                # no-cache: the button Back may show a page as it was left, but whenever the page is opened anew, the
                # browser asks the studio. no-store: it keeps nothing.
                out.setdefault("cache-control", "private, no-cache" if answer is None else "no-store")
            await send(message)

        answer = self._answer(scope, headers)
        if answer is not None:
            await answer(scope, receive, send_guarded)
            return
        await self.app(scope, _bounded(receive, self.rules.most_bytes), send_guarded)

    def _answer(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer that refuses a request, or that sets the cookie; None if the request may pass."""
        as_page = "text/html" in headers.get("accept", "")
        if not self.rules.knows(headers.get("host", "")):
            return refusal(
                421,
                "the studio does not answer to this host name: open the address that `tunit studio` printed",
                as_page,
            )
        if not _from_own_pages(scope["method"], headers):
            return refusal(403, "this request came from another site: open the studio itself", as_page)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self.rules.most_bytes:
            return refusal(413, _too_large(self.rules.most_bytes), as_page)
        return self._let_in(scope, headers, as_page) if self.rules.token else None

    def _let_in(self, scope: Scope, headers: Headers, as_page: bool) -> Response | None:
        cookies = cookie_parser(headers.get("cookie", ""))
        if _equal(cookies.get(self.rules.cookie, ""), self.rules.proof):
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["method"] in SAFE and _equal(given, self.rules.token):
            # Answer with a page, not a redirect: after a link from another site, browsers send a SameSite=Strict
            # cookie only if a page of the studio makes the next request.
            address = escape(scope["path"] if scope["path"].startswith("/") else "/")
            if address.startswith("//"):
                address = "/"
            page = HTMLResponse(
                f'<!doctype html><title>tunit studio</title><meta http-equiv="refresh" content="0;url={address}">'
                f'<a href="{address}">Open the studio</a>'
            )
            page.set_cookie(self.rules.cookie, self.rules.proof, httponly=True, samesite="strict")
            return page
        sentence = "this studio requires its token: open the whole address that `tunit studio` printed"
        return refusal(401, sentence, as_page)


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


def _from_own_pages(method: str, headers: Headers) -> bool:
    """Whether a request comes from a page of the studio, or from no page. Links to the studio may come from anywhere.

    Browsers send the origin in Sec-Fetch-Site and, except for GET, in Origin. Other programs send neither, but they
    have no cookies of a user either.
    """
    site = headers.get("sec-fetch-site", "")
    if site not in ("", "same-origin", "none"):
        is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return method in SAFE and is_link
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""
    except ValueError:
        return False


def _too_large(most: int) -> str:
    return f"this upload has more than {most / 1e6:,.0f} MB: take a smaller file, or start with --max-upload"


def _bounded(receive: Receive, most: int) -> Receive:
    """`receive` with a limit on the body's bytes. They are counted, because a sender need not declare their
    number.
    """
    taken = 0

    async def receive_bounded() -> Message:
        """As `receive`, up to the limit; then it raises."""
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise HTTPException(413, _too_large(most))
        return message

    return receive_bounded
