"""curl: answers, their headers, and connections that are used again."""

import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from email.message import Message
from email.parser import Parser
from email.utils import parsedate_to_datetime
from pathlib import Path

from harness import check
from programs import output_of
from server import Server

# Larger than what a server reads before it answers, and than what curl sends without asking.
UPLOAD_BYTES = 4 << 20


@dataclass(frozen=True)
class Answer:
    status_line: str
    headers: Message
    body: str

    @property
    def status(self) -> int:
        return int(self.status_line.split()[1])


async def curl(*arguments: str) -> Answer:
    output = await output_of("curl", "--silent", "--show-error", "--include", *arguments)
    head, _, body = output.partition("\r\n\r\n")
    status_line, _, headers = head.partition("\r\n")
    return Answer(status_line, Parser().parsestr(headers), body)


def expect_status(answer: Answer, *statuses: int) -> None:
    assert answer.status in statuses, f"{answer.status_line}, not {statuses}: {answer.body}"


def expect_allow(answer: Answer) -> None:
    allowed = answer.headers["Allow"] or ""
    assert "GET" in allowed, f"{answer.status_line} with Allow: {allowed!r}"


@check("curl: GET / has Date, ETag, Content-Length and a type")
async def _(server: Server) -> str:
    answer = await curl(server.url)
    expect_status(answer, 200)
    headers = answer.headers
    missing = {"Date", "ETag", "Content-Length", "Content-Type"} - set(headers.keys())
    assert not missing, f"without {sorted(missing)}"
    assert headers["Content-Type"] == "text/html; charset=utf-8", headers["Content-Type"]
    assert int(headers["Content-Length"]) == len(answer.body), headers["Content-Length"]
    assert headers["ETag"].removeprefix("W/").startswith('"'), headers["ETag"]
    age = datetime.now(timezone.utc) - parsedate_to_datetime(headers["Date"])
    assert abs(age.total_seconds()) < 5, f"Date: {headers['Date']}"
    return f"{answer.status_line}, ETag {headers['ETag']}, Date {headers['Date']}"


@check("curl: each path answers 200")
async def _(server: Server) -> str:
    types = []
    for path in ["/", "/page.css", "/page.js", "/dump", "/dump.json"]:
        answer = await curl(server.url + path)
        expect_status(answer, 200)
        types.append(f"{path} {answer.headers['Content-Type']}")
    return ", ".join(types)


@check("curl: HEAD / has the headers of GET and no body")
async def _(server: Server) -> str:
    get, head = await curl(server.url), await curl("--head", server.url)
    expect_status(head, 200)
    for name in ["Content-Length", "Content-Type", "ETag"]:
        values = get.headers[name], head.headers[name]
        assert values[0] == values[1], f"{name} of GET and HEAD: {values}"
    assert head.body == "", head.body
    return f"{head.status_line}, Content-Length {head.headers['Content-Length']}"


@check("curl: --etag-compare gives 304")
async def _(server: Server) -> str:
    with tempfile.TemporaryDirectory() as folder:
        etag = str(Path(folder, "etag"))
        await curl("--etag-save", etag, server.url)
        answer = await curl("--etag-compare", etag, server.url)
        other = await curl("--header", 'If-None-Match: "other"', server.url)
    expect_status(answer, 304)
    assert answer.body == "", answer.body
    expect_status(other, 200)
    return f"{answer.status_line}; with another tag {other.status_line}"


@check("curl: POST / with a body gives 405 with Allow")
async def _(server: Server) -> str:
    answer = await curl("--data", "x" * 10_000, server.url)
    expect_status(answer, 405)
    expect_allow(answer)
    return f"{answer.status_line}, Allow: {answer.headers['Allow']}"


@check("curl: an unknown method gives 501")
async def _(server: Server) -> str:
    answer = await curl("--request", "FROBNICATE", server.url)
    expect_status(answer, 501)
    return answer.status_line


@check("curl: OPTIONS lists the methods")
async def _(server: Server) -> str:
    answers = [
        await curl("--request", "OPTIONS", *target, server.url)
        for target in [(), ("--request-target", "*")]
    ]
    for answer in answers:
        expect_status(answer, 200, 204, 405)
        expect_allow(answer)
    return f"/ {answers[0].status_line}, * {answers[1].status_line}"


@check("curl: --http2 gets its answer over HTTP/1.1")
async def _(server: Server) -> str:
    answer = await curl("--http2", server.url)
    expect_status(answer, 200)
    assert answer.status_line.startswith("HTTP/1.1"), answer.status_line
    return answer.status_line


@check("curl: -x sends an absolute target, which gives 200")
async def _(server: Server) -> str:
    answer = await curl("--proxy", server.url, "--noproxy", "", server.url)
    expect_status(answer, 200)
    return answer.status_line


@check("curl: Expect: 100-continue with a large upload gets its final status at once")
async def _(server: Server) -> str:
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(UPLOAD_BYTES)
        output = await output_of(
            "curl", "--silent", "--show-error", "--output", "-", "--data-binary", f"@{file.name}",
            "--expect100-timeout", "10", "--header", "Expect: 100-continue",
            "--write-out", "\n%{http_code} %{size_upload} %{time_total}", server.url,
        )
    status, uploaded, seconds = output.split()[-3:]
    assert status == "405", f"status {status} instead of 405: {output}"
    assert float(uploaded) == 0, f"curl sent {uploaded} bytes of the body"
    assert float(seconds) < 5, f"the answer took {seconds} s"
    return f"status {status}, {uploaded} bytes of the body sent, {seconds} s"


@check("curl: requests use one connection")
async def _(server: Server) -> str:
    output = await output_of(
        "curl", "--silent", "--show-error", "--write-out", "%{stderr}%{num_connects} ",
        *["--output", "/dev/null"] * 3, server.url, server.url + "/dump", server.url + "/page.js",
    )
    assert output.split() == ["1", "0", "0"], f"connections made for each request: {output}"
    return f"connections made for each request: {output}"
