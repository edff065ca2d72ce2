"""Pictures from the web, for those who ask for it: only http and https, only named hosts, only public addresses.

A name is resolved once, every address it has is checked, and the checked address itself is dialled, so that a second
answer of the name server changes nothing. Redirects go through the same door. Nothing is taken from the environment:
no proxies, no credentials. One picture at a time, blocking; bytes are kept only in the folder that the recipe names.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import socket
import ssl
import tempfile
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urljoin, urlsplit

from vitrail.contracts.errors import MediaError
from vitrail.media.config import FetchConfig
from vitrail.media.connection import Connection, Deadline, connect

LONGEST_URL = 4096
"""Characters of an address."""

PORTS = {"http": 80, "https": 443}

REDIRECTS = (301, 302, 303, 307, 308)

NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "192.0.0.0/24", "192.88.99.0/24")
)
"""NAT64, 6to4, Teredo and protocol assignments: `ipaddress` calls them global, yet they lead to any IPv4 address."""

HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*|[0-9a-f:.]+")

Resolve = Callable[[str, int], Sequence[str]]
Dial = Callable[[str, int, float], socket.socket]


class FetchError(MediaError):
    """A picture was not fetched.

    kind: "malformed" addresses, those "refused" by a rule, and those that "failed" on the way.
    retryable: whether the same address may work later.
    """

    def __init__(
        self, message: str, kind: Literal["malformed", "refused", "failed"], *, retryable: bool = False
    ) -> None:
        super().__init__(message)
        self.kind, self.retryable = kind, retryable


def resolved(host: str, port: int) -> list[str]:
    """Every address of a name, as numbers. Raises OSError for a name that has none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


def dialled(address: str, port: int, seconds: float) -> socket.socket:
    """A connection to an address given as numbers: no name is looked up here. Raises OSError."""
    return socket.create_connection((address, port), seconds)


@dataclass(frozen=True)
class Network:
    """How names become addresses, and addresses connections; tests use their own instead."""

    resolve: Resolve = resolved
    dial: Dial = dialled


PUBLIC = Network()
"""The machine's own."""


@dataclass(frozen=True)
class Address:
    """A checked URL, in the parts that are sent. host: in lower case, in ASCII (punycode), without a dot at its end."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Host and, where it is not the scheme's own, port."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == PORTS[self.scheme] else f"{name}:{self.port}"


def fetched(url: str, config: FetchConfig, network: Network = PUBLIC) -> bytes:
    """The bytes behind an address; whether they are a picture is for `image.load` to find out.

    Raises FetchError, a MediaError of one line: for an address that is not allowed, for a host with any address that is
    not public, for more than `max_bytes` bytes (decompressed), after `seconds` in all, for more than `redirects`
    redirects, for any status but 200, and for a body that breaks off.
    """
    kept = (
        None if config.keep is None else Path(config.keep) / hashlib.sha256(url.encode("utf-8", "replace")).hexdigest()
    )
    if kept is not None and kept.is_file():
        parsed(url, config)  # what is no longer allowed is not served from the folder either
        return kept.read_bytes()
    deadline = Deadline(config.seconds)
    data = _followed(url, config, network, deadline)
    if kept is not None:
        _keep(kept, data)
    return data


def _followed(url: str, config: FetchConfig, network: Network, deadline: Deadline) -> bytes:
    first = here = url
    for _ in range(config.redirects + 1):
        address = parsed(here, config)
        answer = _asked(address, config, network, deadline, shown(first))
        if isinstance(answer, bytes):
            return answer
        try:
            here = urljoin(here, answer)
        except ValueError as error:
            raise FetchError(f"{shown(first)} leads to an address that cannot be read", "malformed") from error
        if address.scheme == "https" and here[:5].lower() == "http:":
            raise FetchError(f"{shown(first)} leads from https to http, which is not followed", "refused")
    raise FetchError(f"{shown(first)} leads through more than the {config.redirects} redirects allowed", "refused")


def parsed(url: str, config: FetchConfig) -> Address:
    """Takes an address apart, and checks all of it that needs no network. Raises FetchError.

    Anything that two readers could understand differently is refused: blanks, control characters, backslashes, names
    and passwords before the host, fragments.
    """
    said = shown(url)
    if len(url) > LONGEST_URL:
        raise FetchError(f"{said} has {len(url):,} characters, more than the {LONGEST_URL:,} allowed", "malformed")
    scheme, colon, rest = url.partition("://")
    if not colon or scheme.lower() not in PORTS:
        raise FetchError(f"{said} is not fetched: only http:// and https:// addresses are", "refused")
    if not url.isprintable() or any(sign in url for sign in ' \\#<>"^`{|}') or not rest:
        raise FetchError(f"{said} holds signs that an address must not have", "malformed")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii").lower().removesuffix(".")
    except ValueError as error:  # UnicodeError is one
        raise FetchError(f"{said} cannot be read: {' '.join(str(error).split())}", "malformed") from error
    if "@" in parts.netloc or not HOST.fullmatch(host):
        raise FetchError(f"{said} must name a host, and nothing before it", "malformed")
    allowed = {name.encode("idna").decode("ascii").lower().removesuffix(".") for name in config.hosts if name != "*"}
    if host not in allowed and "*" not in config.hosts:
        raise FetchError(f"{said} is not fetched: '{host}' is not among the hosts of `fetch.hosts`", "refused")
    known: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
    port = PORTS[known] if port is None else port
    if port not in config.ports:
        raise FetchError(f"{said} is not fetched: port {port} is not among `fetch.ports`", "refused")
    query = f"?{parts.query}" if parts.query else ""
    return Address(known, host, port, quote((parts.path or "/") + query, safe="/?&=%:;,@!$'()*+~[]-._"))


def is_public(address: str) -> bool:
    """Whether an address, as numbers, belongs to the public network: no machine of one's own, no way round to one."""
    try:
        number = ipaddress.ip_address(address)
    except ValueError:  # a scope (fe80::1%eth0), or no address at all
        return False
    if isinstance(number, ipaddress.IPv6Address) and number.ipv4_mapped is not None:
        number = number.ipv4_mapped
    special = number.is_multicast or number.is_reserved or number.is_unspecified or number.is_loopback
    local = number.is_link_local or number.is_private or not number.is_global
    return not special and not local and not any(number in network for network in NOT_PUBLIC)


def _asked(address: Address, config: FetchConfig, network: Network, deadline: Deadline, said: str) -> bytes | str:
    """One request: the body, or where a redirect leads."""
    try:
        numbers = _looked_up(address, network, deadline, said)
        if not numbers or not all(is_public(number) for number in numbers):
            raise FetchError(f"{said} is not fetched: '{address.host}' has an address that is not public", "refused")
        with connect(network.dial, numbers, address.port, address.scheme, address.host, deadline) as connection:
            return _answer(connection, address, config, said)
    except TimeoutError as error:
        raise FetchError(f"{said} took longer than {config.seconds:g} s", "failed", retryable=True) from error
    except (OSError, HTTPException, ValueError, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        later = not isinstance(error, ssl.SSLError)
        raise FetchError(f"{said} could not be fetched: {reason[:200]}", "failed", retryable=later) from error


def _answer(connection: Connection, address: Address, config: FetchConfig, said: str) -> bytes | str:
    connection.send(
        f"GET {address.target} HTTP/1.1\r\nHost: {address.authority}\r\nUser-Agent: vitrail\r\n"
        "Accept: image/*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n".encode("ascii")
    )
    answer = connection.answer()
    if answer.status in REDIRECTS and (location := answer.getheader("Location")) is not None:
        return location
    if answer.status != 200:
        later = answer.status >= 500 or answer.status in (408, 425, 429)
        raise FetchError(f"{said} was answered with status {answer.status}", "failed", retryable=later)
    return _body(answer, config.max_bytes, said)


def _body(answer: HTTPResponse, most: int, said: str) -> bytes:
    too_long = FetchError(f"{said} holds more than the {most:,} bytes allowed", "refused")
    if answer.length is not None and answer.length > most:
        raise too_long
    coding = (answer.getheader("Content-Encoding") or "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip", "deflate"):
        raise FetchError(f"{said} is compressed in a way that is not read: {coding[:40]!a}", "failed")
    unpack = None if coding == "identity" else zlib.decompressobj(zlib.MAX_WBITS | 32)
    found, sent = bytearray(), 0
    while block := answer.read(64 * 1024):
        sent += len(block)
        while block:
            found += block if unpack is None else unpack.decompress(block, most + 1 - len(found))
            if max(len(found), sent) > most:
                raise too_long
            block = b"" if unpack is None else unpack.unconsumed_tail
        if unpack is not None and unpack.eof:  # whatever is behind it is nobody's
            return bytes(found)
    if answer.length or unpack is not None:
        raise FetchError(f"{said} broke off after {len(found):,} bytes", "failed", retryable=True)
    return bytes(found)


def _looked_up(address: Address, network: Network, deadline: Deadline, said: str) -> Sequence[str]:
    """The host's addresses. The system's own look-up knows no deadline, so it runs beside us and may be left behind."""
    found: list[Sequence[str] | Exception] = []

    def ask() -> None:
        try:
            found.append(network.resolve(address.host, address.port))
        except (OSError, ValueError) as error:
            found.append(error)

    thread = threading.Thread(target=ask, name="vitrail-resolve", daemon=True)
    thread.start()
    thread.join(deadline.left())
    if not found:
        raise FetchError(f"{said}: looking up '{address.host}' took too long", "failed", retryable=True)
    (answer,) = found
    if isinstance(answer, Exception):
        raise FetchError(f"{said}: there is no address for '{address.host}'", "failed", retryable=True) from answer
    return answer


def _keep(path: Path, data: bytes) -> None:
    """Whole or not at all, also with several processes at it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            (whole := Path(folder) / path.name).write_bytes(data)
            os.replace(whole, path)
    except OSError as error:
        raise MediaError(f"fetched pictures cannot be kept in '{path.parent}': {error.strerror}") from error


def shown(url: str) -> str:
    """How a message names an address: on one line, not too long, without its query, which may hold a key."""
    name = url.partition("?")[0]
    name = name if name.isprintable() else ascii(name)[1:-1]
    return f"picture '{name if len(name) <= 120 else name[:120] + ' ...'}'"
