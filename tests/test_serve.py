"""The service as its clients meet it: a real server in a process of its own, on a free port."""

import asyncio
import contextlib
import http.client
import io
import json
import os
import re
import secrets
import signal
import socket
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from miase import cli
from miase.errors import ConfigError
from signals import speech_like, white

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")

from miase.service import uploads
from miase.service.folder import PREFIX, WorkFolder
from miase.service.settings import ServiceConfig
from miase.service.turns import FairQueue, Ticket
from miase.service.uploads import RefusedError, clean_name, receive_upload

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc")
PATIENCE = 30.0  # seconds for what should take one


class Server:
    """A running service, and a client of it."""

    def __init__(self, work_dir, *flags, token=None):
        self.work_dir, self.token = work_dir, token
        command = [sys.executable, "-m", "miase", "serve", "--port", "0", "--work-dir", work_dir, *flags]
        environment = os.environ | ({"MIASE_TOKEN": token} if token else {}) | {"PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert found, line + self.process.communicate()[0]
        self.port = int(found[1])

    def call(self, method, path, body=None, **headers):
        """Status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        if self.token and "Authorization" not in headers:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            connection.request(method, path, body, {name.replace("_", "-"): v for name, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get(self, path, **headers):
        return self.call("GET", path, **headers)

    def json(self, path):
        status, _, body = self.get(path)
        assert status == 200, body
        return json.loads(body)

    def post(self, path, data, name="a.wav", client="tests", headers=None, **fields):
        body, content_type = form(data, name, **fields)
        return self.call(
            "POST", path, body, **{"Content-Type": content_type, "X-Client": client, **(headers or {})}
        )

    def start_job(self, data, name="a.wav", client="tests", **fields):
        status, _, body = self.post("/v1/jobs", data, name, client, **fields)
        assert status == 202, body
        return json.loads(body)["id"]

    def events(self, job_id):
        """(event, job) of the whole stream."""
        status, headers, body = self.get(f"/v1/jobs/{job_id}/events")
        assert status == 200
        assert headers["Content-Type"].startswith("text/event-stream")
        found = re.findall(r"event: (\w+)\ndata: (.*)\n\n", body.decode())
        return [(kind, json.loads(data)) for kind, data in found]

    def finished(self, job_id):
        """The job once it has ended, with or without its scores."""
        wait_for(lambda: self.json(f"/v1/jobs/{job_id}")["state"] not in ("queued", "running"), "end")
        return self.json(f"/v1/jobs/{job_id}")

    def until(self, **wanted):
        """Wait until /healthz says so."""
        wait_for(lambda: wanted.items() <= self.json("/healthz").items(), f"{wanted}")

    def folder(self):
        (folder,) = self.work_dir.glob(f"{PREFIX}*")
        return folder

    def job_folders(self):
        return [path for path in self.folder().iterdir() if path.is_dir()]

    def until_empty(self):
        wait_for(lambda: not self.job_folders(), "an empty work folder")

    def metric(self, name):
        text = self.get("/metrics")[2].decode()
        return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)[1])

    def stop(self, number=signal.SIGTERM):
        """End it; gives its exit code and what it printed."""
        self.process.send_signal(number)
        printed = self.process.communicate(timeout=PATIENCE)[0]
        return self.process.returncode, printed


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"still no {what}"
        time.sleep(0.05)


def form(data, name="a.wav", **fields):
    """A multipart body and its content type."""
    boundary = secrets.token_hex(8)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    quoted = name.replace("\\", "\\\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n\r\n'
    body = b"".join([*parts, head.encode(), data, f"\r\n--{boundary}--\r\n".encode()])
    return body, f"multipart/form-data; boundary={boundary}"


def sound(seconds=1.0, rate=16000, n_channels=1, kind="WAV", subtype="PCM_16", seed=0):
    """The bytes of a noisy recording."""
    channels = [
        0.3 * speech_like(seconds, rate, seed + i) + 0.02 * white(seconds, rate, seed + i)
        for i in range(n_channels)
    ]
    stream = io.BytesIO()
    sf.write(stream, np.stack(channels, axis=1), rate, subtype, format=kind)
    return stream.getvalue()


def long_sound(minutes=8.0):
    """The bytes of a recording that takes seconds to enhance."""
    rate = 16000
    samples = np.tile(0.1 * white(1.0, rate), round(60 * minutes))
    stream = io.BytesIO()
    sf.write(stream, samples, rate, "PCM_16", format="WAV")
    return stream.getvalue()


def wav_header(n_channels=1, rate=16000, n_bytes=32000):
    """A WAV header that may lie."""
    layout = struct.pack("<HHIIHH", 1, n_channels, rate, 2 * rate * n_channels % 2**32, 2 * n_channels, 16)
    sizes = min(n_bytes + 36, 2**32 - 1), min(n_bytes, 2**32 - 1)
    return (
        b"RIFF"
        + struct.pack("<I", sizes[0])
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + layout
        + b"data"
        + struct.pack("<I", sizes[1])
    )


def error_of(body):
    """The sentence of a refusal."""
    (text,) = json.loads(body).values()
    assert "\n" not in text
    assert "/tmp" not in text
    return text


def command(source, target, *flags):
    """What `miase enhance` writes, with a worker's number of threads."""
    flags = ["--threads", "1", "--device", "cpu", "-q", *flags]
    assert cli.run(["enhance", str(source), "-o", str(target), *flags]) == 0
    return target.read_bytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Limits as they are, but for the longest upload."""
    flags = ["--threads", "1", "--device", "cpu", "--upload-mb", "20"]
    server = Server(tmp_path_factory.mktemp("work"), *flags)
    yield server
    code, printed = server.stop()
    assert code == 0
    assert printed == ""
    assert list(server.work_dir.iterdir()) == []


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A server with a token and with little room."""
    flags = ["--threads", "1", "--device", "cpu", "--queue", "2", "--jobs-per-client", "2"]
    flags += ["--head-seconds", "1", "--result-minutes", "0.02", "--minutes", "9", "--stall-seconds", "8"]
    server = Server(tmp_path_factory.mktemp("work"), *flags, token=secrets.token_urlsafe(24))
    yield server
    code, printed = server.stop(signal.SIGINT)
    assert code == 0
    assert printed == ""
    assert list(server.work_dir.iterdir()) == []


# what comes back


@pytest.mark.parametrize(
    ("how", "suffix", "fields", "flags"),
    [
        ({}, ".wav", {}, []),
        (
            {"rate": 44100, "n_channels": 2},
            ".wav",
            {"strength": 0.6, "shifts": 2},
            ["--strength", "0.6", "--shifts", "2"],
        ),
        ({"rate": 44100, "n_channels": 2, "kind": "FLAC", "subtype": "PCM_24"}, ".flac", {}, []),
        (
            {"rate": 44100, "subtype": "FLOAT"},
            ".wav",
            {"atten_lim": 12, "high_band": "drop", "format": "flac"},
            ["--atten-lim", "12", "--high-band", "drop", "--format", "flac"],
        ),
    ],
    ids=["wav", "stereo", "flac", "options"],
)
def test_a_result_is_to_the_bit_what_the_command_writes(server, tmp_path, how, suffix, fields, flags):
    source = tmp_path / f"a{suffix}"
    source.write_bytes(sound(**how))
    target = tmp_path / f"b.{fields.get('format', suffix[1:])}"
    expected = command(source, target, *flags)
    status, headers, body = server.post("/v1/enhance", source.read_bytes(), source.name, **fields)
    assert status == 200
    assert body == expected
    assert headers["Content-Disposition"] == f'attachment; filename="a_enhanced{target.suffix}"'
    server.until_empty()


def test_one_job_gives_every_strength_and_format(server, tmp_path):
    source = tmp_path / "a.flac"
    source.write_bytes(sound(rate=44100, n_channels=2, kind="FLAC"))
    job = server.start_job(source.read_bytes(), "a.flac", strength=0.3)
    server.finished(job)
    for query, target, flags in [
        ("", "0.flac", ["--strength", "0.3"]),
        ("?strength=1", "1.flac", []),
        ("?strength=0", "2.flac", ["--strength", "0"]),
        ("?strength=0.7&format=wav", "3.wav", ["--strength", "0.7", "--format", "wav"]),
        ("?strength=1&atten_lim=6", "4.flac", ["--atten-lim", "6"]),
    ]:
        status, _, body = server.get(f"/v1/jobs/{job}/result{query}")
        assert status == 200
        assert body == command(source, tmp_path / target, *flags), query
    assert server.call("DELETE", f"/v1/jobs/{job}")[0] == 204
    server.until_empty()


@pytest.mark.parametrize("suffix", [".ogg", ".mp3"])
def test_compressed_results_sound_like_the_commands(server, tmp_path, suffix):
    source = tmp_path / "a.wav"
    source.write_bytes(sound())
    command(source, tmp_path / f"b{suffix}")
    body = server.post("/v1/enhance", source.read_bytes(), format=suffix[1:])[2]
    # The bytes of Ogg differ: each stream has a random number.
    assert np.array_equal(sf.read(io.BytesIO(body))[0], sf.read(tmp_path / f"b{suffix}")[0])


def test_a_preview_holds_the_first_seconds(server):
    job = server.start_job(sound(3.0), preview_seconds=1)
    done = server.finished(job)
    assert done["preview"]
    assert done["seconds"] == 1.0
    samples, rate = sf.read(io.BytesIO(server.get(f"/v1/jobs/{job}/result")[2]))
    assert len(samples) == rate
    server.call("DELETE", f"/v1/jobs/{job}")


def test_a_job_from_upload_to_deletion(server):
    data = sound(1.0, 44100, 2)
    status, headers, body = server.post("/v1/jobs", data, "talk.wav")
    started = json.loads(body)
    assert status == 202
    assert headers["Location"] == f"/v1/jobs/{started['id']}"
    assert (started["name"], started["seconds"], started["sample_rate"], started["n_channels"]) == (
        "talk.wav",
        1.0,
        44100,
        2,
    )
    told = server.events(started["id"])
    assert {kind for kind, _ in told[:-2]} <= {"progress"}
    assert [kind for kind, _ in told[-2:]] == ["done", "done"]
    assert [job["scores_pending"] for _, job in told[-2:]] == [True, False]
    assert told[-1][1] == server.json(f"/v1/jobs/{started['id']}")
    assert told[-1][1]["progress"] == 1.0
    parts = {}
    for part in ("noisy", "estimate", "noise"):
        status, headers, body = server.get(f"/v1/jobs/{started['id']}/sound/{part}")
        assert (status, headers["Content-Type"]) == (200, "audio/wav")
        assert sf.info(io.BytesIO(body)).subtype == "PCM_16"
        parts[part] = sf.read(io.BytesIO(body), dtype="int16")[0].astype(int)
        ranged = server.get(f"/v1/jobs/{started['id']}/sound/{part}", Range="bytes=40-139")
        assert (ranged[0], ranged[2]) == (206, body[40:140])
    assert np.array_equal(parts["noisy"], sf.read(io.BytesIO(data), dtype="int16")[0])
    assert np.abs(parts["noisy"] - parts["estimate"] - parts["noise"]).max() <= 1  # rounded twice
    assert np.abs(parts["noise"]).max() > 100
    assert server.call("DELETE", f"/v1/jobs/{started['id']}")[0] == 204
    assert server.get(f"/v1/jobs/{started['id']}")[0] == 404
    server.until_empty()


def test_scores_come_with_the_evaluation_packages(server):
    pytest.importorskip("speechmos")
    pytest.importorskip("onnxruntime")
    job = server.start_job(sound(0.5))
    scores = server.events(job)[-1][1]["scores"]
    assert scores["noisy"].keys() == scores["estimate"].keys() == {"SIG", "BAK", "OVRL"}
    assert all(1 <= value <= 5 for value in (*scores["noisy"].values(), *scores["estimate"].values()))
    server.call("DELETE", f"/v1/jobs/{job}")


def test_an_archive_of_several_results(server):
    jobs = [server.start_job(sound(0.5, seed=seed), "talk.wav") for seed in (0, 1)]
    for job in jobs:
        server.finished(job)
    status, headers, body = server.get(f"/v1/jobs/archive?id={jobs[0]}&id={jobs[1]}&strength=0.5&format=flac")
    assert (status, headers["Content-Type"]) == (200, "application/zip")
    archive = zipfile.ZipFile(io.BytesIO(body))
    assert archive.testzip() is None
    assert archive.namelist() == ["talk_enhanced.flac", "talk_enhanced_2.flac"]
    for name, job in zip(archive.namelist(), jobs, strict=True):
        assert archive.read(name) == server.get(f"/v1/jobs/{job}/result?strength=0.5&format=flac")[2]
        server.call("DELETE", f"/v1/jobs/{job}")
    assert server.get(f"/v1/jobs/archive?id={jobs[0]}")[0] == 404
    high = server.start_job(sound(0.2, 96000))
    server.finished(high)
    status, _, body = server.get(f"/v1/jobs/archive?id={high}&format=mp3")
    assert status == 400
    assert "the result.mp3 cannot be written as MP3" in error_of(body)
    plain = server.start_job(sound(0.2), "plain.wav")
    server.finished(plain)
    status, _, body = server.get(f"/v1/jobs/archive?id={plain}&id={high}&format=mp3")
    assert status == 200
    archive = zipfile.ZipFile(io.BytesIO(body))
    written, failed = archive.namelist()
    assert (written, failed.endswith("_failed.txt")) == ("plain_enhanced.mp3", True)
    assert b"cannot be written as MP3" in archive.read(failed)
    for job in (high, plain):
        server.call("DELETE", f"/v1/jobs/{job}")


def test_what_the_service_tells_of_itself(server):
    model, *others = server.json("/v1/models")
    assert [other["default"] for other in others] == [False] * len(others)
    assert (model["name"], model["sample_rate"], model["default"]) == ("default", 16000, True)
    assert model["licence"].startswith("CC BY 4.0")
    limits = server.json("/v1/limits")
    assert limits["upload_mb"] == 20
    assert ".flac" in limits["formats"]
    (example,) = server.json("/v1/examples")
    status, _, body = server.get(f"/v1/examples/{example['name']}")
    assert status == 200
    assert sf.info(io.BytesIO(body)).duration == pytest.approx(example["seconds"], abs=0.05)
    assert server.metric("miase_workers") == 1


def test_openapi_documents_every_failure(narrow):
    document = narrow.json("/openapi.json")
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            for code, answer in route["responses"].items():
                if code >= "400":
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/Failure"}, (method, path, code)
            if path.startswith("/v1/"):
                assert {"401", "403"} <= route["responses"].keys()
                assert route["security"]


# what is refused


def lying(**header):
    return wav_header(**header) + sound(0.5)[44:]


@pytest.mark.parametrize(
    ("data", "name", "status", "words"),
    [
        (b"", "a.wav", 400, "is empty"),
        (b"<!doctype html><title>no</title>" * 20, "a.wav", 400, "is not a sound file"),
        (b"PK\x03\x04" + bytes(200), "a.zip", 400, "is not a sound file"),
        (lying(n_channels=0), "a.wav", 400, "a.wav"),
        (lying(rate=0), "a.wav", 400, "a.wav"),
        (lying(rate=2**31), "a.wav", 400, "a.wav"),
        (sound(0.5, n_channels=17), "a.wav", 413, "17 channels"),
        (sound(0.5, kind="FLAC")[:4000], "a.flac", 400, "truncated or damaged"),
        (sound(0.5, subtype="FLOAT")[:-400] + struct.pack("<f", float("nan")) * 100, "a.wav", 400, "NaN"),
        (lying()[:44] + bytes(32000), "a.wav", 400, "is silent"),
    ],
    ids=["empty", "html", "zip", "channels", "rate", "high", "many", "cut", "nan", "silent"],
)
def test_what_is_no_sound_is_refused_with_a_sentence(server, data, name, status, words):
    got, _, body = server.post("/v1/enhance", data, name)
    assert got == status
    assert words in error_of(body)
    assert name in error_of(body)
    server.until_empty()


def test_a_header_cannot_promise_more_than_there_is(server):
    status, _, body = server.post("/v1/enhance", lying(n_bytes=2**32))
    assert status == 200
    assert len(sf.read(io.BytesIO(body))[0]) == 8000
    server.until_empty()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"strength": 2}, "strength is 2.0; it must be from 0 to 1"),
        ({"strength": "nan"}, "strength is not a number"),
        ({"strength": "much"}, "strength is 'much'"),
        ({"atten_lim": -1}, "atten_lim is -1.0"),
        ({"atten_lim": "inf"}, "atten_lim is inf"),
        ({"high_band": "lift"}, "follow, keep, drop, hear"),
        ({"shifts": 2.5}, "shifts is 2.5; it must be a whole number from 1 to 8"),
        ({"shifts": 9}, "a whole number from 1 to 8"),
        ({"shifts": "inf"}, "a whole number from 1 to 8"),
        ({"format": "exe"}, "one of wav, flac"),
        ({"model": "../../etc"}, "there are default"),
        ({"preview_seconds": "-1"}, "preview_seconds"),
        ({"strenght": 1}, "did you mean 'strength'?"),
    ],
)
def test_options_that_are_not_allowed_are_named(server, fields, words):
    status, _, body = server.post("/v1/jobs", sound(0.2), **fields)
    assert status == 422
    assert words in error_of(body)
    server.until_empty()


def test_forms_that_are_none_are_refused(server):
    body, kind = form(sound(0.2))
    for status, sent, content_type, words in [
        (422, b"{}", "application/json", "multipart/form-data"),
        (422, b"", "", "multipart/form-data"),
        (400, body[:-20], kind, "ends too early"),
        (400, b"no boundary at all", kind, "cannot be read"),
        (422, body.replace(b'"file"', b'"sound"'), kind, "in the field 'sound'"),
        (422, body.replace(b'; filename="a.wav"', b"").replace(b'"file"', b'"model"'), kind, "1000 bytes"),
        (422, f"--{kind[30:]}--\r\n".encode(), kind, "no field 'file'"),
    ]:
        got, _, answer = server.call("POST", "/v1/enhance", sent, **{"Content-Type": content_type})
        assert got == status, answer
        assert words in error_of(answer)
    server.until_empty()


def test_a_form_has_one_file_and_few_parts(server):
    kind = "multipart/form-data; boundary=limit"
    part = '--limit\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n1\r\n'
    file = part.format("file", '; filename="a.wav"')
    for parts, words in [
        (file + file, "two files"),
        ("".join(part.format(f"x{i}", "") for i in range(40)), "32 parts"),
        (part.format("file", f'; filename="{"a" * 9000}"'), "header"),
    ]:
        body = f"{parts}--limit--\r\n".encode()
        status, _, answer = server.call("POST", "/v1/enhance", body, **{"Content-Type": kind})
        assert status == 400
        assert words in error_of(answer)
    server.until_empty()


@pytest.mark.parametrize("chunked", [False, True], ids=["stated", "chunked"])
def test_an_upload_beyond_the_limit_is_refused_while_it_comes(server, chunked):
    body, kind = form(bytes(1000))
    head = body[: body.index(b"\r\n\r\n") + 4]
    block = bytes(2**16)
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {2 * 10**9}"
        request = f"POST /v1/enhance HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n{length}\r\n\r\n"
        connection.sendall(request.encode())
        sent = 0
        connection.setblocking(False)
        answer = b""
        while not answer and sent < 10**9:
            with contextlib.suppress(BlockingIOError):
                answer = connection.recv(4096)
            data = head if not sent else block
            if chunked:
                data = f"{len(data):x}\r\n".encode() + data + b"\r\n"
            connection.setblocking(True)
            connection.sendall(data)
            connection.setblocking(False)
            sent += len(data)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 10**8
    server.until_empty()
    assert server.get("/healthz")[0] == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:80"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "localhost", "Origin": "http://localhost"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_pages_of_other_sites_are_refused(server, headers, status):
    assert server.get("/v1/limits", **headers)[0] == status
    got, _, body = server.post("/v1/jobs", b"", headers=headers)
    assert got == (403 if status == 403 else 400), body


def test_every_answer_says_what_a_browser_may_do(server):
    for path in ("/", "/v1/limits", "/v1/nothing", "/nothing"):
        headers = server.get(path)[1]
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "http" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in headers


def test_unknown_paths_and_methods_answer_in_json(server):
    assert "GET /v1/nothing" in error_of(server.get("/v1/nothing")[2])
    status, _, body = server.call("PUT", "/v1/limits")
    assert status == 405
    assert error_of(body)
    for method, path, allowed in [("PATCH", "/v1/jobs/x", "DELETE, GET"), ("GET", "/v1/jobs", "POST")]:
        status, headers, _ = server.call(method, path)
        assert (status, headers["Allow"]) == (405, allowed)
    status, _, body = server.get("/v1/jobs/archive")
    assert status == 422
    assert "id" in error_of(body)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..\\..\\boot.wav",
        "名" * 100 + ".wav",
        "a\r\nSet-Cookie: x=1.wav",
        '";x=".wav',
        ".",
    ],
    ids=["up", "backslash", "unicode", "newline", "quote", "dot"],
)
def test_names_are_harmless(server, name):
    before = {path for path in server.work_dir.parent.rglob("*") if server.folder() not in path.parents}
    job = server.start_job(sound(0.2), name)
    assert server.finished(job)["state"] == "done"
    status, headers, _ = server.get(f"/v1/jobs/{job}/result")
    assert status == 200
    assert "Set-Cookie" not in headers
    given = headers["Content-Disposition"]
    assert re.fullmatch(r"attachment; filename(=\"[^\"/\\]+\"|\*=utf-8''[\w.%~-]+)", given), given
    assert len(given) < 800
    (folder,) = server.job_folders()
    ours = {"upload", "upload.wav", "noise.f32"}
    wait_for(lambda: {path.name for path in folder.iterdir()} <= ours, "end of the download")
    assert folder.stat().st_mode & 0o077 == 0
    server.call("DELETE", f"/v1/jobs/{job}")
    after = {path for path in server.work_dir.parent.rglob("*") if server.folder() not in path.parents}
    assert after == before


def test_a_clean_name_is_short_and_has_no_path():
    assert clean_name("../../etc/passwd") == "passwd"
    assert clean_name("C:\\sounds\\talk.wav") == "talk.wav"
    assert clean_name("") == clean_name("..") == clean_name("\x00\u202e") == "recording"
    assert clean_name(" .hidden.wav") == "hidden.wav"
    long_name = clean_name("名" * 300 + ".flac")
    assert long_name.endswith(".flac")
    assert len(long_name.encode()) <= 200


# token, queue, time


def test_a_token_is_asked_for(narrow):
    for wrong in ("", "Bearer", "Bearer x", f"Basic {narrow.token}", f"Bearer {narrow.token}x"):
        for path in ("/v1/limits", "/metrics", "/v1/jobs/x"):
            status, headers, body = narrow.get(path, Authorization=wrong)
            assert status == 401
            assert headers["WWW-Authenticate"] == "Bearer"
            assert narrow.token not in error_of(body)
    assert narrow.get("/v1/limits")[0] == 200
    assert narrow.get("/healthz", Authorization="")[0] == 200
    assert narrow.get("/", Authorization="")[0] in (200, 404)


def test_a_full_queue_asks_to_come_again(narrow):
    data = long_sound()
    first = narrow.start_job(data, client="a")
    narrow.until(running=1)
    second = narrow.start_job(sound(0.2), client="a")
    status, headers, body = narrow.post("/v1/jobs", sound(0.2), client="a")
    assert status == 429
    assert int(headers["Retry-After"]) >= 1
    assert "of your jobs" in error_of(body)
    third = narrow.start_job(sound(0.2), client="b")
    assert narrow.json(f"/v1/jobs/{third}")["position"] == 1
    for path in ("/v1/jobs", "/v1/enhance"):
        status, headers, body = narrow.post(path, sound(0.2), client="c")
        assert status == 429
        assert int(headers["Retry-After"]) >= 1
        assert "the queue is full" in error_of(body)
    assert narrow.get(f"/v1/jobs/{first}/result")[0] == 409
    assert narrow.get(f"/v1/jobs/archive?id={first}")[0] == 409
    assert narrow.call("DELETE", f"/v1/jobs/{third}")[0] == 204
    assert narrow.call("DELETE", f"/v1/jobs/{first}")[0] == 204
    assert narrow.finished(second)["state"] == "done"


def test_a_sound_that_is_too_long_is_refused(narrow):
    status, _, body = narrow.post("/v1/jobs", long_sound(9.1))
    assert status == 413
    assert "lasts 9.1 minutes; up to 9 are allowed" in error_of(body)


def test_results_expire(narrow):
    job = narrow.start_job(sound(0.2))
    narrow.finished(job)
    wait_for(lambda: narrow.get(f"/v1/jobs/{job}")[0] == 404, "expiry")
    narrow.until_empty()


def test_a_head_that_trickles_is_cut_off(narrow):
    with socket.create_connection(("127.0.0.1", narrow.port), timeout=PATIENCE) as connection:
        start = time.monotonic()
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - start < PATIENCE:
                connection.sendall(b"X: 1\r\n")
                time.sleep(0.1)
        assert 0.9 < time.monotonic() - start < 5
    with socket.create_connection(("127.0.0.1", narrow.port), timeout=PATIENCE) as connection:
        assert connection.recv(1) == b""  # who says nothing is cut off, too


def test_an_upload_that_trickles_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "GRACE_SECONDS", 0.2)
    body, kind = form(bytes(10**6))

    async def trickle():
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": body[:100], "more_body": True}

    config = ServiceConfig(upload_kb_per_second=20)
    with pytest.raises(RefusedError, match="slower than 20 kB/s") as caught:
        asyncio.run(receive_upload(trickle, kind, None, tmp_path, config, lambda: 10**12))
    assert caught.value.status == 408


def test_clients_take_turns():
    async def check():
        queue, tickets = FairQueue(), {}
        for name in ("a1", "a2", "a3", "b1", "c1", "c2"):
            tickets[name] = Ticket(None, name[0])
            queue.put(tickets[name])
        assert queue.remove(tickets["a2"])
        assert not queue.remove(tickets["a2"])
        expected = ["a1", "b1", "c1", "a3", "c2"]
        assert [queue.position(tickets[name]) for name in expected] == [0, 1, 2, 3, 4]
        assert queue.position(tickets["a2"]) is None
        queue.put_back(await queue.take())
        taken = [await queue.take() for _ in expected]
        assert taken == [tickets[name] for name in expected]
        assert len(queue) == 0

    asyncio.run(check())


# what goes wrong


def test_a_running_job_is_cancelled_at_once(server):
    job = server.start_job(long_sound())
    server.until(running=1)
    start = time.monotonic()
    assert server.call("DELETE", f"/v1/jobs/{job}")[0] == 204
    assert time.monotonic() - start < 2.5
    assert server.job_folders() == []
    server.until(running=0, workers=1)
    assert server.get(f"/v1/jobs/{job}/events")[0] == 404


def test_those_who_listen_hear_of_the_cancellation(server):
    job = server.start_job(long_sound())
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("GET", f"/v1/jobs/{job}/events")
    stream = connection.getresponse()
    server.until(running=1)
    server.call("DELETE", f"/v1/jobs/{job}")
    assert b"event: cancelled" in stream.read()
    connection.close()


def test_a_client_that_goes_away_cancels_its_job(server):
    body, kind = form(long_sound())
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        head = f"POST /v1/enhance HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        server.until(running=1)
    server.until(running=0, queued=0)
    server.until_empty()


def test_a_client_that_goes_away_during_its_upload_leaves_nothing(server):
    body, kind = form(bytes(10**6))
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:500_000])
        wait_for(server.job_folders, "upload")
    server.until_empty()


def processes(server):
    """Ids of the server's processes, the largest first."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()

    def size(number):
        return int(Path(f"/proc/{number}/statm").read_text().split()[1])

    return sorted(map(int, children), key=size, reverse=True)


@LINUX
def test_a_killed_worker_loses_only_its_job(server):
    restarts = 'miase_worker_restarts_total{kind="enhance"}'
    before = server.metric(restarts)
    lost = server.start_job(long_sound())
    server.until(running=1)
    kept = server.start_job(sound(0.2))
    os.kill(processes(server)[0], signal.SIGKILL)
    job = server.finished(lost)
    assert job["state"] == "failed"
    assert "the worker process died" in job["error"]
    assert server.finished(kept)["state"] == "done"
    assert server.metric(restarts) == before + 1
    status, _, body = server.get(f"/v1/jobs/{lost}/result")
    assert status == 409
    assert "has failed" in error_of(body)
    for job_id in (lost, kept):
        server.call("DELETE", f"/v1/jobs/{job_id}")
    server.until_empty()


@LINUX
def test_a_worker_that_does_not_listen_is_replaced(server):
    job = server.start_job(long_sound())
    server.until(running=1)
    os.kill(processes(server)[0], signal.SIGSTOP)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("GET", f"/v1/jobs/{job}/events")
    stream = connection.getresponse()
    start = time.monotonic()
    assert server.call("DELETE", f"/v1/jobs/{job}")[0] == 204
    assert time.monotonic() - start < 4
    assert b"event: cancelled" in stream.read()
    connection.close()
    assert server.job_folders() == []
    server.until(workers=1)


@LINUX
def test_a_worker_without_progress_is_replaced(narrow):
    job = narrow.start_job(long_sound())
    narrow.until(running=1)
    os.kill(processes(narrow)[0], signal.SIGSTOP)
    ended = narrow.finished(job)
    assert ended["state"] == "failed"
    assert "no progress for 8 s" in ended["error"]
    narrow.until(workers=1)
    narrow.until_empty()


@LINUX
def test_a_killed_worker_of_a_waiting_request_is_told(server):
    body, kind = form(long_sound())
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("POST", "/v1/enhance", body, {"Content-Type": kind})
    server.until(running=1)
    os.kill(processes(server)[0], signal.SIGKILL)
    answer = connection.getresponse()
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert "the worker process died" in error_of(answer.read())
    connection.close()
    server.until(workers=1)
    server.until_empty()


@LINUX
def test_a_worker_that_is_killed_while_it_waits_loses_nothing(server):
    for number in processes(server):
        status = Path(f"/proc/{number}/stat")
        if b"spawn_main" in Path(f"/proc/{number}/cmdline").read_bytes():
            os.kill(number, signal.SIGKILL)
            wait_for(lambda status=status: ") Z " in status.read_text(), "death")
    assert server.post("/v1/enhance", sound(0.2))[0] == 200
    assert server.events(server.start_job(sound(0.2)))[-1][1]["scores"]
    server.until(workers=1)


@LINUX
def test_nothing_is_left_of_a_crashed_service(tmp_path):
    crashed = Server(tmp_path, "--threads", "1", "--device", "cpu")
    crashed.start_job(long_sound())
    crashed.until(running=1)
    workers = processes(crashed)
    crashed.stop(signal.SIGKILL)
    (left,) = tmp_path.iterdir()
    assert list(left.glob("*/upload.wav"))
    wait_for(lambda: not any(Path(f"/proc/{number}").exists() for number in workers), "end of its workers")
    other = WorkFolder(tmp_path)  # sweeps
    assert list(tmp_path.iterdir()) == [other.path]
    third = WorkFolder(tmp_path)  # leaves what is in use
    assert set(tmp_path.iterdir()) == {other.path, third.path}
    other.remove()
    third.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_that_is_asked_to_end_again_and_again_leaves_nothing(tmp_path, number):
    server = Server(tmp_path, "--threads", "1", "--device", "cpu")
    server.start_job(long_sound())
    server.until(running=1)
    while server.process.poll() is None:
        server.process.send_signal(number)
        time.sleep(0.02)
    server.process.communicate()
    assert server.process.returncode in (0, -number)  # the last one may come when all is done
    assert list(tmp_path.iterdir()) == []


def test_folders_of_others_are_left_alone(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    parent = tmp_path / "parent"
    parent.mkdir()
    (parent / f"{PREFIX}link").symlink_to(outside)
    starting = parent / f"{PREFIX}starting"  # one that has no lock yet
    starting.mkdir()
    WorkFolder(parent).remove()
    assert outside.is_dir()
    assert {path.name for path in parent.iterdir()} == {f"{PREFIX}link", f"{PREFIX}starting"}


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 126 MB, where this user may mount one."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting is not allowed")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@LINUX
def test_a_full_disk_is_told_and_cleaned_up(small_disk):
    server = Server(small_disk, "--threads", "1", "--device", "cpu")
    ballast = small_disk / "ballast"
    data = long_sound(4)  # 7.7 MB; what is removed takes 15 MB
    ballast.write_bytes(bytes(45 * 10**6))
    small = io.BytesIO()
    sf.write(small, np.zeros(8 * 60 * 16000), 16000, format="FLAC")
    status, _, body = server.post("/v1/jobs", small.getvalue(), "a.flac")  # 31 MB of samples
    assert status == 507
    assert "no room for the samples of a.flac" in error_of(body)
    ballast.write_bytes(bytes(60 * 10**6))
    status, _, body = server.post("/v1/jobs", data)
    assert status == 507
    assert "the disk of the service is full" in error_of(body)
    server.until_empty()
    ballast.unlink()
    job = server.start_job(data)
    ballast.write_bytes(bytes(108 * 10**6))
    ended = server.finished(job)
    assert ended["state"] == "failed"
    assert "No space left" in ended["error"]
    server.until_empty()
    ballast.unlink()
    assert server.post("/v1/enhance", sound(0.2))[0] == 200
    assert server.stop()[0] == 0
    assert list(small_disk.iterdir()) == []


def test_an_upload_that_fills_the_disk_is_refused(tmp_path, monkeypatch):
    def full(file, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploads, "_write", full)
    body, kind = form(bytes(10**6))

    async def whole():
        return {"type": "http.request", "body": body, "more_body": False}

    with pytest.raises(RefusedError) as caught:
        asyncio.run(receive_upload(whole, kind, None, tmp_path, ServiceConfig(), lambda: 10**12))
    assert caught.value.status == 507


# start


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--host", "0.0.0.0"], "give a token"),
        (["--host", "example.org"], "give a token"),
        (["--host", "0.0.0.0", "--token", "short"], "16 or more"),
        (["--upload-mb", "0"], "upload_mb is 0.0; it must be above 0"),
        (["--port", "70000"], "port is 70000"),
        (["--queue", "0"], "queue is 0"),
        (["--minutes", "nan"], "minutes is nan"),
    ],
)
def test_settings_that_are_not_allowed_are_refused_in_a_line(capsys, monkeypatch, flags, words):
    monkeypatch.delenv("MIASE_TOKEN", raising=False)
    assert cli.run(["serve", *flags]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert words in printed.err


def test_a_service_that_cannot_start_says_why(capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert cli.run(["serve", "--port", port]) == 1
    assert "cannot be bound to" in capsys.readouterr().err
    flags = ["--port", "0", "--work-dir", str(tmp_path / "work")]
    assert cli.run(["serve", *flags, "-m", "default", "-m", "other/default"]) == 2
    assert "two models have one name" in capsys.readouterr().err
    flags += ["--model", str(tmp_path)]
    assert cli.run(["serve", *flags]) == 1
    assert "holds no model" in capsys.readouterr().err
    assert list((tmp_path / "work").iterdir()) == []


def test_a_token_is_not_shown():
    config = ServiceConfig(host="0.0.0.0", token="t" * 24)
    assert "tttt" not in repr(config)
    with pytest.raises(ConfigError) as caught:
        ServiceConfig(token="very secret")
    assert "secret token" not in str(caught.value)
    assert "very" not in str(caught.value)


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert ServiceConfig().worker_threads == 0  # as `miase enhance`, whose sums are rounded the same way then
    assert ServiceConfig(workers=3).worker_threads == 2
    assert ServiceConfig(workers=16).worker_threads == 1
    assert ServiceConfig(workers=2, threads=5).worker_threads == 5


def test_serve_names_what_is_not_installed(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.run(["serve"]) == 2
    assert "pip install 'miase[web]'" in capsys.readouterr().err
