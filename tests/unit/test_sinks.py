"""What becomes of log lines on their way to a file and to a listener."""

from __future__ import annotations

import fcntl
import json
import logging
import multiprocessing
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock import sinks, telemetry
from penstock.sinks import DROPPED, ROOM, FileSink, UdpSink, fit
from tests.laws.stores.records import an_outcome


@pytest.fixture(autouse=True)
def the_log_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    telemetry.configure("INFO", "text")
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(10)
        yield listening


def lines_of(folder: Path) -> list[str]:
    return [line for path in folder.iterdir() for line in path.read_text(encoding="utf-8").splitlines()]


def dropped(kind: str) -> float:
    return DROPPED.values.get((kind,), 0)


def test_a_line_that_has_room_is_sent_as_it_is() -> None:
    line = json.dumps({"message": "x" * 1000}).encode()
    assert fit(line) is line


@pytest.mark.parametrize("text", ["x", "é", "😀", "\n", '"'])
@pytest.mark.parametrize("field", ["message", "exception", "extra"])
def test_a_line_that_is_too_long_stays_json_and_says_that_it_was_cut(text: str, field: str) -> None:
    line = json.dumps({"time": "now", "message": "short", field: text * 9000}, ensure_ascii=False).encode()
    short = fit(line)
    assert len(short) <= ROOM
    told = json.loads(short)
    assert told["time"] == "now"
    assert told["cut"] is True
    assert told[field].startswith(text)
    assert told[field].endswith("…")


@pytest.mark.parametrize(
    "document",
    [
        {"time": "now", "many": {str(number): "x" * 100 for number in range(500)}},
        {"time": "now", "list": ["x" * 10_000] * 10},
        {"time": "now", **{f"field{number}": "é" * 500 for number in range(200)}},
        {"n" * 9000: "x"},
    ],
)
def test_whatever_makes_a_line_too_long_it_has_room_in_the_end(document: dict[str, object]) -> None:
    short = fit(json.dumps(document).encode())
    assert len(short) <= ROOM
    assert json.loads(short)["cut"] is True


def test_no_letter_of_a_text_is_cut_in_two() -> None:
    for begin in range(4):
        short = fit(b"." * begin + "😀".encode() * 2000)
        assert len(short) <= ROOM
        assert short.decode().endswith("…")


def test_records_and_outcomes_arrive_at_a_listener_one_a_datagram(
    listener: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    telemetry.configure("INFO", "json", [UdpSink(*listener.getsockname())])
    logging.getLogger("penstock").warning("hello")
    telemetry.tell([an_outcome(request_id="req_1"), an_outcome(request_id="req_2")])
    came = [listener.recv(4096).decode() for _ in range(3)]
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in came)
    assert json.loads(came[0])["message"] == "hello"
    assert [json.loads(line)["request_id"] for line in came[1:]] == ["req_1", "req_2"]
    assert "".join(came) == capfd.readouterr().err


def test_lines_wait_for_a_name_to_be_found(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    found, tries = socket.getaddrinfo, []

    def late(host: str, port: int, **options: int) -> object:
        tries.append(host)
        if len(tries) < 3:
            raise socket.gaierror("not yet")
        return found("127.0.0.1", port, **options)

    monkeypatch.setattr(sinks, "RETRY", 0.3)
    monkeypatch.setattr(sinks.socket, "getaddrinfo", late)
    sink = UdpSink("logs.example", listener.getsockname()[1])
    before = dropped("udp")
    sink.take([b"%d" % number for number in range(sinks.HELD + 5)])
    assert dropped("udp") == before + 5
    assert listener.recv(4096) == b"0\n"
    assert tries == ["logs.example"] * 3
    sink.close()


def test_what_cannot_be_sent_is_counted_and_disturbs_nobody(listener: socket.socket) -> None:
    sink = UdpSink(*listener.getsockname())
    before = dropped("udp")
    sink._to = ("127.0.0.1", 0)
    sink.take([b"lost"])
    assert dropped("udp") == before + 1
    sink.close()
    sink.take([b"after its end"])


def test_a_file_that_is_full_is_put_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "logs" / "a.log"), max_bytes=100, max_files=3)
    for number in range(40):
        sink.take([b"line %02d of ten" % number])  # 15 bytes with its end: six in a file
    sink.close()
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"a.log", "a.log.1", "a.log.2"}
    kept = [(tmp_path / "logs" / name).read_text() for name in ("a.log.2", "a.log.1", "a.log")]
    assert "".join(kept).splitlines() == [f"line {number:02d} of ten" for number in range(24, 40)]
    assert all(len(text) <= 100 for text in kept)


def test_of_one_file_there_is_never_another(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "a.log"), max_bytes=50, max_files=1)
    for number in range(20):
        sink.take([b"line %02d" % number])
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]
    assert (tmp_path / "a.log").read_text().endswith("line 19\n")


def test_a_file_that_somebody_else_has_moved_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    sink = FileSink(str(path), max_bytes=10_000, max_files=5)
    sink.take([b"one"])
    os.replace(path, tmp_path / "moved")  # as logrotate does
    sink.take([b"two"])
    sink.close()
    assert (tmp_path / "moved").read_text() == "one\n"
    assert path.read_text() == "two\n"


def test_a_disk_that_takes_nothing_is_counted_and_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = FileSink(str(tmp_path / "a.log"), max_bytes=10_000, max_files=5)

    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    before = dropped("file")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        sink.take([b"one", b"two"])
    assert dropped("file") == before + 2
    sink.take([b"three"])
    sink.close()
    assert (tmp_path / "a.log").read_text() == "three\n"


def _write_many(path: str, name: int, count: int) -> None:
    sink = FileSink(path, max_bytes=2_000, max_files=500)
    for number in range(count):
        sink.take([b"%d %d" % (name, number)])
    sink.close()


def test_processes_that_share_a_file_lose_no_line_and_write_none_twice(tmp_path: Path) -> None:
    path = str(tmp_path / "a.log")
    spawned = multiprocessing.get_context("spawn")
    writers = [spawned.Process(target=_write_many, args=(path, name, 1500)) for name in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(50)
        assert writer.exitcode == 0
    assert sorted(lines_of(tmp_path)) == sorted(f"{name} {number}" for name in range(3) for number in range(1500))
    assert len(list(tmp_path.iterdir())) > 10, "the file was never put aside"
    assert all(path.stat().st_size < 2_100 for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    ["psk-ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcd", "sk-proj-abcdefghijklmnop_1234", "Bearer x.y.z", "?api_key=abc"],
)
def test_what_looks_like_a_key_is_in_no_field_of_a_line(text: str, listener: socket.socket) -> None:
    telemetry.configure("INFO", "json", [UdpSink(*listener.getsockname())])
    logging.getLogger("penstock").warning("it said %s", text, extra={"said": text})
    line = listener.recv(4096).decode()
    secret = text.partition("=")[2] or text.removeprefix("Bearer ")
    assert secret not in line
    assert line.count("***") == 2


def test_nobody_waits_for_who_cannot_put_the_file_aside(tmp_path: Path) -> None:
    (tmp_path / "log.1" / "in the way").mkdir(parents=True)
    sink = FileSink(str(tmp_path / "log"), max_bytes=10, max_files=2)
    before = dropped("file")
    sink.take([b"12345"])
    sink.take([b"67890"])
    assert dropped("file") == before + 1
    with open(tmp_path / "log", "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    sink.close()
