"""Pictures from the web, numbered by kind of attack. Every server is on this machine; no name is looked up outside it.

What tests set is who answers for a name, and where a connection to a public address leads: to our own server.
Which addresses count as public is never loosened.
"""

from __future__ import annotations

import contextlib
import gzip
import http.server
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.contracts.errors import MediaError
from vitrail.media import fetch, image
from vitrail.media.config import FetchConfig
from vitrail.media.fetch import FetchError, Network, fetched, is_public
from vitrail.media.intake import data_of, is_data_url

PUBLIC, PUBLIC6 = "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
CONFIG = FetchConfig(hosts=("good.test",), seconds=5.0)


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 4), (1, 2, 3)).save(file, "PNG")
    return file.getvalue()


PICTURE = picture()
Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


class Web:
    """A server on this machine, the names that lead to it, and what was asked of both."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str]] = []
        self.names: dict[str, Sequence[str]] = {"good.test": [PUBLIC], "other.test": [PUBLIC]}
        self.dialled: list[str] = []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                web.asked.append((self.headers["Host"], self.path))
                self.close_connection = True
                with contextlib.suppress(OSError):  # the other side has heard enough
                    web.answers.get(self.path.partition("?")[0], not_found)(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def resolve(self, host: str, port: int) -> Sequence[str]:
        if host not in self.names:
            raise socket.gaierror("no such name")
        return self.names[host]

    def dial(self, address: str, port: int, seconds: float) -> socket.socket:
        self.dialled.append(address)
        return socket.create_connection(("127.0.0.1", self.port), seconds)

    @property
    def network(self) -> Network:
        return Network(self.resolve, self.dial)


def sent(data: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Length": str(len(data)), **headers}.items():
            if value:
                handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def not_found(handler: http.server.BaseHTTPRequestHandler) -> None:
    sent(b"nothing here", 404)(handler)


def to(url: str, status: int = 302) -> Answer:
    return sent(b"", status, Location=url)


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    made.answers["/a.png"] = sent(PICTURE)
    yield made
    made.close()


def refusal(url: str, config: FetchConfig = CONFIG, network: Network | None = None) -> FetchError:
    with pytest.raises(FetchError) as caught:
        fetched(url, config, network or Network(lambda *_: pytest.fail("looked up"), lambda *_: pytest.fail("dialled")))
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500
    assert isinstance(caught.value, MediaError)
    return caught.value


def refused(url: str, config: FetchConfig = CONFIG, network: Network | None = None) -> str:
    return refusal(url, config, network).kind


ANY = replace(CONFIG, hosts=("*",))


def test_a_picture_is_fetched(web: Web) -> None:
    data = fetched("http://good.test/a.png?size=4", CONFIG, web.network)
    assert np.array_equal(image.load(data), np.full((4, 6, 3), (1, 2, 3)))
    assert web.asked == [("good.test", "/a.png?size=4")]
    assert web.dialled == [PUBLIC]


def test_letters_of_any_alphabet_in_a_path_are_sent_as_percent_signs(web: Web) -> None:
    web.answers["/%E5%9B%BE/b%20c.png"] = sent(PICTURE)
    assert fetched("http://good.test/图/b%20c.png", CONFIG, web.network) == PICTURE


def test_row_1_this_machine(web: Web) -> None:
    """With the machine's own network: the server is there and hears nothing."""
    config = replace(ANY, ports=(web.port,))
    assert refused(f"http://127.0.0.1:{web.port}/a.png", config, fetch.PUBLIC) == "refused"
    assert web.asked == []


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "localhost",
        "localhost.",
    ],
)
def test_row_2_this_machine_by_other_names(web: Web, host: str) -> None:
    config = replace(ANY, ports=(web.port,))
    assert refused(f"http://{host}:{web.port}/a.png", config, Network(dial=web.dial)) in ("refused", "failed")
    assert web.dialled == []


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::ffff:169.254.169.254",
        "::a9fe:a9fe",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "127.0.0.53",
        "0.0.0.0",
        "192.0.0.8",
        "192.88.99.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd12::1",
        "ff02::1",
        "2001:db8::1",
        "no address",
    ],
)
def test_row_3_addresses_that_are_not_public(web: Web, address: str) -> None:
    web.names["good.test"] = [address]
    assert not is_public(address)
    assert refused("http://good.test/a.png", CONFIG, web.network) == "refused"
    assert web.dialled == []


def test_addresses_that_are_public() -> None:
    assert is_public(PUBLIC)
    assert is_public(PUBLIC6)
    assert is_public("::ffff:93.184.215.14")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://inside.test/a.png", "refused"),
        ("//inside.test/a.png", "refused"),
        ("file:///etc/passwd", "refused"),
        ("ftp://good.test/a.png", "refused"),
        ("http://other.test/a.png", "refused"),
        ("http://good.test:22/a.png", "refused"),
        ("http://user@good.test/a.png", "malformed"),
        ("http://[bad/a.png", "malformed"),
    ],
)
def test_row_4_redirects_are_checked(web: Web, url: str, kind: str) -> None:
    web.names["inside.test"] = ["127.0.0.1"]
    web.answers["/from"] = to(url)
    config = replace(CONFIG, hosts=("good.test", "inside.test"))
    assert refused("http://good.test/from", config, web.network) == kind
    assert web.asked == [("good.test", "/from")]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_row_4_three_redirects_are_followed(web: Web, status: int) -> None:
    web.answers |= {"/0": to("/1", status), "/1": to("http://good.test/2"), "/2": to("a.png")}
    assert fetched("http://good.test/0", CONFIG, web.network) == PICTURE


def test_row_4_twenty_are_not(web: Web) -> None:
    web.answers |= {f"/{step}": to(f"/{step + 1}") for step in range(20)}
    assert "more than the 3 redirects" in str(refusal("http://good.test/0", CONFIG, web.network))
    assert len(web.asked) == 4


def test_row_5_the_checked_address_is_the_one_that_is_dialled(web: Web) -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    network = Network(lambda *_: next(answers), web.dial)
    assert fetched("http://good.test/a.png", CONFIG, network) == PICTURE
    assert web.dialled == [PUBLIC]
    assert refused("http://good.test/a.png", CONFIG, network) == "refused"
    assert web.dialled == [PUBLIC]


def test_row_6_one_private_address_among_public_ones(web: Web) -> None:
    for names in ([PUBLIC, "10.0.0.1"], ["10.0.0.1", PUBLIC], []):
        web.names["good.test"] = names
        assert refused("http://good.test/a.png", CONFIG, web.network) == "refused"
    assert web.dialled == []


@pytest.mark.parametrize(
    "url",
    [
        "http://good.test\\@127.0.0.1/",
        "http://good.test@127.0.0.1/",
        "http://user:word@good.test/",
        "http://127.0.0.1#@good.test/",
        "http://good.test/a\r\nHost: x",
        "http://good.test/a b",
        "http://good.test/\ta",
        "http://good.test/a\u2028b",
        "http://good.test/a#b",
        "http://",
        "http:///a.png",
        "http://good.test:0x50/",
        "http://good.test:99999/",
        "http://[fe80::1%25eth0]/",
        "http://a..b/",
        "http://good.test/\ud83d",
        "http://good。test:80:80/",
    ],
)
def test_row_7_addresses_that_can_be_read_in_two_ways(url: str) -> None:
    assert refused(url, ANY) == "malformed"


@pytest.mark.parametrize("url", ["ht\ttp://good.test/", " http://good.test/", "http:good.test", "http:/good.test"])
def test_row_7_schemes_that_are_almost_right(url: str) -> None:
    assert refused(url, ANY) == "refused"


@pytest.mark.parametrize(
    "host",
    ["good.test.evil.test", "evilgood.test", "sub.good.test", "g\u043e\u043ed.test", "good-test", "xn--good.test"],
)
def test_row_8_only_the_very_host_is_allowed(host: str) -> None:
    assert refused(f"http://{host}/a.png") == "refused"


@pytest.mark.parametrize("host", ["GOOD.test", "good.test.", "good.test:80", "GOOD.TEST.:80"])
def test_row_8_its_other_spellings_are(web: Web, host: str) -> None:
    assert fetched(f"http://{host}/a.png", CONFIG, web.network) == PICTURE
    assert web.asked == [("good.test", "/a.png")]


def test_row_8_names_of_other_alphabets(web: Web) -> None:
    web.names["xn--bcher-kva.test"] = [PUBLIC]
    for allowed in ("bücher.test", "xn--bcher-kva.test", "BÜCHER.test"):
        for asked in ("bücher.test", "xn--bcher-kva.test"):
            assert fetched(f"http://{asked}/a.png", replace(CONFIG, hosts=(allowed,)), web.network) == PICTURE
    assert set(web.asked) == {("xn--bcher-kva.test", "/a.png")}


def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"a" * 65536)


def endless_chunks(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"10000\r\n" + b"a" * 65536 + b"\r\n")


TOO_LONG = {
    "endless": endless,
    "endless chunks": endless_chunks,
    "announced": sent(b"", Content_Length="99999999999"),
    "gzip bomb": sent(gzip.compress(bytes(20_000_000), 9), Content_Encoding="gzip"),
    "one byte more": sent(b"a" * 100_001),
}


@pytest.mark.parametrize("case", TOO_LONG)
def test_row_9_bodies_without_end(web: Web, case: str) -> None:
    web.answers["/long"] = TOO_LONG[case]
    error = refusal("http://good.test/long", replace(CONFIG, max_bytes=100_000), web.network)
    assert "more than the 100,000 bytes allowed" in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        sent(PICTURE, Content_Length=str(len(PICTURE) + 9)),
        sent(PICTURE[:20], Content_Length="", Transfer_Encoding="chunked"),
        sent(gzip.compress(PICTURE)[:40], Content_Encoding="gzip"),
        sent(PICTURE, Content_Encoding="gzip"),
        sent(PICTURE, Content_Encoding="br"),
        lambda handler: handler.wfile.write(b"no HTTP at all\r\n\r\n"),
        lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n"),
        lambda handler: handler.wfile.write(b""),
    ],
    ids=["longer", "chunks", "half of a gzip", "no gzip", "brotli", "no HTTP", "headers", "nothing"],
)
def test_row_9_answers_that_are_not_what_they_say(web: Web, answer: Answer) -> None:
    web.answers["/bad"] = answer
    assert refused("http://good.test/bad", CONFIG, web.network) == "failed"


def test_compressed_answers_are_unpacked(web: Web) -> None:
    web.answers["/a"] = sent(gzip.compress(PICTURE) + b"and more", Content_Encoding="gzip")
    assert fetched("http://good.test/a", CONFIG, web.network) == PICTURE


def dribbling(handler: http.server.BaseHTTPRequestHandler) -> None:
    sent(b"", Content_Length="1000")(handler)
    for _ in range(100):
        handler.wfile.write(b"a")
        handler.wfile.flush()
        time.sleep(0.05)


def dribbling_headers(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    for _ in range(100):
        handler.wfile.write(b"a")
        time.sleep(0.05)


@pytest.mark.parametrize("answer", [dribbling, dribbling_headers])
def test_row_10_the_deadline_is_for_all_of_it(web: Web, answer: Answer) -> None:
    web.answers["/slow"] = answer
    error = refusal("http://good.test/slow", replace(CONFIG, seconds=0.4), web.network)
    assert str(error).endswith("took longer than 0.4 s")
    assert error.retryable


def test_row_10_names_that_are_slow_to_look_up() -> None:
    over = threading.Event()
    network = Network(lambda *_: [PUBLIC] if over.wait(20) else [], lambda *_: pytest.fail("dialled"))
    error = refusal("http://good.test/a.png", replace(CONFIG, seconds=0.2), network)
    over.set()
    assert "took too long" in str(error)


@pytest.mark.parametrize(("status", "retryable"), [(404, False), (403, False), (500, True), (503, True), (429, True)])
def test_row_11_errors_of_the_server(web: Web, status: int, retryable: bool) -> None:
    web.answers["/bad"] = sent(b"<html>", status)
    error = refusal("http://good.test/bad", CONFIG, web.network)
    assert (error.kind, error.retryable) == ("failed", retryable)
    assert f"status {status}" in str(error)


def test_row_11_names_that_do_not_exist_and_servers_that_do_not_answer(web: Web) -> None:
    assert "no address for 'gone.test'" in str(refusal("http://gone.test/", ANY, web.network))
    closed = Network(web.resolve, lambda *_: (_ for _ in ()).throw(ConnectionRefusedError(111, "Connection refused")))
    error = refusal("http://good.test/a.png", CONFIG, closed)
    assert error.retryable
    assert "Connection refused" in str(error)


def test_the_next_address_is_tried(web: Web) -> None:
    web.names["good.test"] = [PUBLIC6, PUBLIC]

    def dial(address: str, port: int, seconds: float) -> socket.socket:
        if ":" in address:
            raise OSError("Network is unreachable")
        return web.dial(address, port, seconds)

    assert fetched("http://good.test/a.png", CONFIG, Network(web.resolve, dial)) == PICTURE


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "/etc/passwd",
        "../../a.png",
        "\\\\server\\share\\a.png",
        "ftp://good.test/a.png",
        "gopher://good.test/",
        "javascript:alert(1)",
        "data:text/html,<p>",
        "",
    ],
)
def test_rows_12_and_14_only_http_and_https(url: str) -> None:
    assert refused(url, ANY) == "refused"


def test_row_14_an_address_of_ten_megabytes() -> None:
    assert refused("http://good.test/" + "a" * 10_000_000) == "malformed"


def test_proxies_of_the_environment_are_not_asked(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetched("http://good.test/a.png", CONFIG, web.network) == PICTURE


def test_https_names_the_host_and_wants_its_certificate() -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            line, _ = server.accept()
            with line:
                heard.append(line.recv(4096))
                line.sendall(b"no TLS here\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        address = server.getsockname()
        network = Network(lambda *_: [PUBLIC], lambda *_: socket.create_connection(address, 5))
        error = refusal("https://good.test/a.png", CONFIG, network)
        thread.join()
    assert error.kind == "failed"
    assert not error.retryable
    assert b"good.test" in heard[0]  # the server's name, in the greeting
    assert b"GET" not in heard[0]


def test_from_https_no_way_leads_to_http(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_asked", lambda *_: "http://good.test/a.png")
    assert "from https to http" in str(refusal("https://good.test/b.png", CONFIG, web.network))


def test_pictures_are_kept_only_where_the_recipe_says(web: Web, tmp_path: Path) -> None:
    config = replace(CONFIG, keep=str(tmp_path / "kept"))
    for _ in range(2):
        assert fetched("http://good.test/a.png", config, web.network) == PICTURE
    assert len(web.asked) == 1
    (file,) = (tmp_path / "kept").iterdir()
    assert file.read_bytes() == PICTURE
    assert refused("http://good.test/a.png", replace(config, hosts=("other.test",))) == "refused"


def test_a_key_in_an_address_is_not_shown(web: Web) -> None:
    assert "secret" not in str(refusal("http://good.test/gone?key=secret", CONFIG, web.network))


@pytest.mark.parametrize(
    "settings",
    [
        {"hosts": ()},
        {"hosts": ("*.good.test",)},
        {"hosts": ("http://good.test",)},
        {"hosts": ("good.test:80",)},
        {"hosts": ("a..b",)},
        {"ports": (0,)},
        {"ports": ()},
        {"seconds": 0.0},
        {"max_bytes": 0},
        {"redirects": 11},
    ],
)
def test_settings_that_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"host|ports|seconds|redirects"):
        replace(CONFIG, **settings)  # type: ignore[arg-type]


# Data URLs

GOOD = {
    "data:image/png;base64,aGVsbG8=": b"hello",
    "DATA:image/PNG;BASE64,aGVsbG8=": b"hello",
    "data:image/png;name=a.png;base64,aGVsbG8=": b"hello",
    "data:;base64,aGVsbG8=": b"hello",
    "data:application/octet-stream;base64,aGVsbG8=": b"hello",
}
BAD = {
    "data:image/png;base64": "must be",
    "data:": "must be",
    "image/png;base64,aGVsbG8=": "must be",
    "data:image/png," + "a": "does not say",
    "data:image/png;base64;a=b,aGVsbG8=": "does not say",
    "data:,": "does not say",
    "data:text/html;base64,aGVsbG8=": "of type 'text/html'",
    "data:image/png;base64,####": "not base64",
    "data:image/png;base64,aGVsbG8": "not base64",
    "data:image/png;base64,aGVsbG8==": "not base64",
    "data:image/png;base64,aGVs\nbG8=": "not base64",
    "data:image/png;base64,aGVs bG8=": "not base64",
    "data:image/png;base64,aGVsbG8=aGVsbG8=": "not base64",
    "data:image/png;base64,aGVsbG8%3D": "not base64",
    "data:image/png;base64,-_-_": "not base64",
    "data:image/png;base64,é": "not base64",
    "data:image/png;base64,": "empty",
    "data:image/png;base64," + "A" * 400: "more than the 200 bytes",
    "data:image/png;" + "a" * 300 + ";base64,aGVsbG8=": "must be",
}


@pytest.mark.parametrize("url", GOOD)
def test_row_15_data_urls(url: str) -> None:
    assert is_data_url(url)
    assert data_of(url) == GOOD[url]


@pytest.mark.parametrize("url", BAD)
def test_row_15_data_urls_that_are_refused(url: str) -> None:
    with pytest.raises(MediaError) as caught:
        data_of(url, most_bytes=200)
    assert BAD[url] in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert "aGVs" not in str(caught.value)


def test_row_15_the_bytes_say_what_a_picture_is() -> None:
    import base64

    url = "data:image/jpeg;base64," + base64.b64encode(PICTURE).decode()
    assert image.load(data_of(url)).shape == (4, 6, 3)
