"""Where the page listens, who is let in, what lies on the disk."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import stat
import threading
import time
import types
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from medgemma_visualizer.app import build, doors, serve, uploads
from medgemma_visualizer.app.desk import Cancelled
from medgemma_visualizer.app.session import Session
from medgemma_visualizer.errors import InputError

pytestmark = pytest.mark.usefixtures("loops")


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("127.3.2.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_only_loopback_addresses_are_this_machines_alone(host, alone):
    assert doors.is_loopback(host) is alone


def test_a_host_that_only_begins_like_loopback_lets_others_in():
    assert not doors.is_loopback("127.0.0.1.example.org")


def test_nobody_is_let_in_from_outside_without_a_password(demo):
    with pytest.raises(InputError, match="--auth FILE"), serve.opened(demo, "0.0.0.0"):
        pytest.fail("the page is open to everybody")


def test_an_empty_list_of_passwords_is_none(demo):
    with pytest.raises(InputError, match="--auth FILE"):
        serve.admitted("0.0.0.0", [])


def test_passwords_come_from_lines_of_a_file(tmp_path):
    file = tmp_path / "let-in"
    file.write_text("ann:secret\n\nbob:with:colons \n", encoding="utf-8")
    assert serve.credentials(str(file)) == [("ann", "secret"), ("bob", "with:colons")]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "names nobody"),
        (b"ann\n", "Line 1"),
        (b"a:b\n:c\n", "Line 2"),
        (b"ann:\n", "Line 1"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_a_file_of_passwords_that_cannot_be_used_is_refused_without_quoting_it(tmp_path, content, complaint):
    file = tmp_path / "let-in"
    file.write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        serve.credentials(str(file))


def test_a_missing_file_of_passwords_is_named(tmp_path):
    with pytest.raises(InputError, match="absent"):
        serve.credentials(str(tmp_path / "absent"))


@pytest.mark.skipif(os.name != "posix", reason="modes of files tell who may read them on POSIX systems")
@pytest.mark.parametrize(
    ("mode", "warned"), [(0o600, False), (0o700, False), (0o620, False), (0o640, True), (0o604, True), (0o644, True)]
)
def test_a_file_of_passwords_that_others_can_read_is_warned_of_in_one_sentence(tmp_path, mode, warned):
    file = tmp_path / "let-in"
    file.write_text("ann:secret\n", encoding="utf-8")
    file.chmod(mode)
    said = serve.open_to_read(str(file))
    assert bool(said) is warned
    if warned:
        assert str(file) in said
        assert "chmod 600" in said
        assert "secret" not in said


@pytest.mark.parametrize("auth", [None, "prompt", [("ann", "secret")]])
def test_who_gives_no_file_is_not_warned_of_one(auth):
    assert serve.open_to_read(auth) == ""


def test_a_password_is_asked_for_at_a_terminal_only(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("ann\n"))
    with pytest.raises(InputError, match="terminal"):
        serve.credentials("prompt")


def test_a_taken_port_gives_way_to_the_next_free_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = serve.free_port("127.0.0.1", port)
    assert port < found <= port + serve.NEXT_PORTS


def test_an_address_that_is_none_is_refused():
    with pytest.raises(InputError, match="no address"):
        serve.free_port("no such host", 7860)


@pytest.fixture(scope="module")
def page(demo, loops):
    with serve.opened(demo, port=0) as found:
        yield found


def test_the_page_answers_and_forbids_the_browser_to_ask_others(page):
    answer = httpx.get(page.url)
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["docs", "redoc", "openapi.json"])
def test_no_page_of_endpoints_is_offered(page, path):
    assert httpx.get(page.url + path).status_code == 404


def test_no_endpoint_is_offered_by_name(page):
    assert httpx.get(page.url + "gradio_api/info").json()["named_endpoints"] == {}


def test_nothing_is_kept_or_sent_by_the_libraries(page):
    on = {name: os.environ[name].lower() in ("1", "true") for name in serve.SILENT}  # Gradio writes "True" for "1"
    assert on == {name: value == "1" for name, value in serve.SILENT.items()}
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == os.environ["GRADIO_SHARE"] == "False"
    config = httpx.get(page.url + "config").json()
    assert config["run_history"] is False
    assert not config.get("analytics_enabled")


def test_no_link_leads_here_from_outside(page):
    assert not page.demo.share
    assert page.demo.share_url is None
    assert page.url.startswith("http://127.0.0.1:")


def test_an_upload_over_the_limit_is_refused_and_leaves_nothing(page, monkeypatch):
    assert page.demo.max_file_size == 100 * 2**20
    monkeypatch.setattr(page.demo, "max_file_size", 1000)
    answer = httpx.post(page.url + "gradio_api/upload", files={"files": ("film.png", b"x" * 1001)})
    assert answer.status_code == 413
    assert [path for path in page.folder.rglob("*") if path.is_file()] == []


def test_an_upload_is_served_to_nobody_not_even_by_its_address(page):
    (path,) = httpx.post(page.url + "gradio_api/upload", files={"files": ("film.png", b"a film")}).json()
    try:
        assert page.folder in Path(path).parents
        for address in (f"file={path}", f"%66ile={path}", f"file/{path}", f"file=/{path}"):
            answer = httpx.get(f"{page.url}gradio_api/{address}")
            assert (answer.status_code, b"a film" in answer.content) == (404, False), address
    finally:
        Path(path).unlink()


@pytest.mark.parametrize("way", ["file=http://outside.example/dot.png", "proxy=http://outside.example/dot.png"])
def test_the_server_fetches_nothing_for_anybody(page, monkeypatch, way):
    asked, look_up = [], socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *how, **more: asked.append(host) or look_up(host, *how, **more)
    )
    assert httpx.get(f"{page.url}gradio_api/{way}").status_code == 404
    assert set(asked) == {"127.0.0.1"}  # this test's own


def upload_event(page, **file):
    """What a browser asks when a film was chosen, with a file of one's own choice."""
    (number,) = [n for n, fn in page.demo.fns.items() if fn.name == "upload" and fn.targets[0][1] == "upload"]
    data = [None] * len(page.demo.fns[number].inputs)
    told = {"orig_name": "film.png", "size": 6, "mime_type": "image/png", "meta": {"_type": "gradio.FileData"}, **file}
    data[1] = {name: value for name, value in told.items() if value is not None}
    return {"data": data, "fn_index": number, "session_hash": "somebody"}


OUTSIDE = "http://outside.example/dot.png"


@pytest.mark.parametrize(
    "way", ["queue/join", "queue/join/", "run/predict", "api/upload", "call/upload", "call/v2/upload"]
)
@pytest.mark.parametrize(
    "file",
    [
        {"path": OUTSIDE},
        {"path": OUTSIDE, "meta": None},
        {"path": "/etc/hostname"},
        {"path": "{folder}"},
        {"path": "{folder}/../elsewhere.png"},
        {"path": "{folder}/film.png", "url": OUTSIDE},
        {"path": "{folder}/film.png", "url": "http://["},
        {"path": ["{folder}/film.png"]},
    ],
)
def test_a_file_that_was_not_sent_here_is_refused_and_not_fetched(page, monkeypatch, way, file):
    asked, look_up = [], socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *how, **more: asked.append(host) or look_up(host, *how, **more)
    )
    named = {key: value.format(folder=page.folder) if isinstance(value, str) else value for key, value in file.items()}
    event = upload_event(page, **named)
    for told in ("application/json", "text/plain"):
        answer = httpx.post(f"{page.url}gradio_api/{way}", content=json.dumps(event), headers={"content-type": told})
        assert (answer.status_code, answer.text.count(".")) == (400, 1)
    assert set(asked) == {"127.0.0.1"}  # this test's own
    assert [path for path in page.folder.rglob("*") if path.is_file()] == []


def test_a_file_is_refused_however_deep_it_lies_and_so_is_what_cannot_be_looked_through(page):
    event = upload_event(page)
    hidden = {**event, "data": [], "event_data": {"look": [{"a": [{"path": OUTSIDE}]}]}}
    assert httpx.post(f"{page.url}gradio_api/queue/join", json=hidden).status_code == 400
    deep = "[" * 100_000 + "]" * 100_000
    assert httpx.post(f"{page.url}gradio_api/queue/join", content=deep).status_code == 400
    large = b'{"data": ["' + b"x" * doors.MAX_ASKED + b'"]}'
    assert httpx.post(f"{page.url}gradio_api/queue/join", content=large).status_code == 413
    assert httpx.post(f"{page.url}gradio_api/queue/join", content=b"no JSON").status_code == 422


def test_a_film_that_was_sent_here_is_read_and_removed(page, cases):
    film = Path(cases[0].image).read_bytes()
    sent = httpx.post(page.url + "gradio_api/upload", files={"files": ("film.png", film)}).raise_for_status().json()
    event = upload_event(page, path=sent[0], url=f"{page.url}gradio_api/file={sent[0]}")
    with httpx.stream("GET", page.url + "gradio_api/heartbeat/somebody") as line:
        assert line.status_code == 200
        httpx.post(page.url + "gradio_api/queue/join", json=event).raise_for_status()
        kept = page.demo.app.state_holder.session_data
        assert within(20, lambda: [one for one in sessions(kept, "somebody") if one.upload is not None])
        assert within(5, lambda: not Path(sent[0]).exists())


def test_a_file_that_nobody_asked_about_goes_after_some_minutes_and_one_that_arrives_stays(page):
    (sent,) = httpx.post(page.url + "gradio_api/upload", files={"files": ("film.png", b"a film")}).json()
    (second,) = httpx.post(page.url + "gradio_api/upload", files={"files": ("film.png", b"another")}).json()
    now = time.time()
    os.utime(sent, (now, now - uploads.AGE_S - 1))
    os.utime(second, (now, now - uploads.AGE_S + 60))
    uploads.sweep(page.folder, now - uploads.AGE_S)
    assert not Path(sent).parent.exists()
    assert Path(second).read_bytes() == b"another"
    uploads.sweep(page.folder, now)
    assert list(page.folder.iterdir()) == []


def test_the_folder_of_uploads_is_looked_through_while_the_page_is_open(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "LOOK_S", 0.05)
    old, young = tmp_path / "old.png", tmp_path / "young.png"
    for file, age in ((old, uploads.AGE_S + 5), (young, 0)):
        file.write_bytes(b"a film")
        os.utime(file, (time.time() - age,) * 2)
    with uploads.swept(tmp_path):
        assert within(5, lambda: not old.exists())
    assert young.exists()


def test_no_address_writes_what_a_visitor_did_to_the_disk(page):
    assert httpx.get(page.url + "gradio_api/deep_link", params={"session_hash": "somebody"}).status_code == 404
    film = {"video": ("film.mp4", b"a film")}
    assert httpx.post(page.url + "gradio_api/process_recording", files=film).status_code == 404


@pytest.mark.parametrize(
    "name", ["rebound.example", "rebound.example:7860", "127.0.0.1.rebound.example", "", "[", "192.0.2.7"]
)
def test_without_a_password_only_this_machines_own_names_are_answered(page, name):
    answer = httpx.get(page.url + "config", headers={"host": name})
    assert (answer.status_code, "dependencies" in answer.text) == (403, False)
    assert answer.headers["cache-control"] == "no-store"
    for own in ("localhost", "127.0.0.1:1", "[::1]:7860"):
        assert httpx.get(page.url + "config", headers={"host": own}).status_code == 200


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "http://127.0.0.1:1", "http://localhost", "null"])
@pytest.mark.parametrize("way", ["config", "gradio_api/queue/join"])
def test_no_page_of_another_site_asks_here(page, origin, way):
    told = {"origin": origin, "x-forwarded-host": urlsplit(origin).netloc}  # which a page may write itself
    answer = httpx.request("GET" if way == "config" else "POST", page.url + way, headers=told)
    assert (answer.status_code, "dependencies" in answer.text) == (403, False)


def test_the_page_itself_may_ask(page):
    assert httpx.get(page.url + "config", headers={"origin": page.url.rstrip("/")}).status_code == 200


def test_the_folder_for_uploads_is_this_users_alone(page):
    assert stat.S_IMODE(page.folder.stat().st_mode) == 0o700
    assert os.environ["GRADIO_TEMP_DIR"] == str(page.folder)


def test_a_closed_page_leaves_no_folder_and_no_setting_and_does_not_wait_for_a_visitor(demo):
    before = os.environ.get("GRADIO_TEMP_DIR")
    with serve.opened(demo, port=0) as found:
        (found.folder / "film.png").write_bytes(b"of a visitor")
        with httpx.stream("GET", found.url + "gradio_api/heartbeat/somebody") as line:
            assert line.status_code == 200
            serve._close(found.demo)
            assert not found.demo.server.thread.is_alive()
    assert not found.folder.exists()
    assert os.environ.get("GRADIO_TEMP_DIR") == before


def test_an_answer_is_sent_once_and_the_end_of_its_event_sets_nothing_back_that_was_typed_since(page):
    (load,) = [n for n, fn in page.demo.fns.items() if fn.name == "opened" and fn.targets[0][1] == "load"]
    inputs = [None] * len(page.demo.fns[load].inputs)
    asked = {"data": inputs, "fn_index": load, "session_hash": "reader"}
    httpx.post(page.url + "gradio_api/queue/join", json=asked).raise_for_status()
    told = []
    with httpx.stream("GET", f"{page.url}gradio_api/queue/data?session_hash=reader", timeout=60) as lines:
        for line in lines.iter_lines():
            if line.startswith("data: "):
                told.append(json.loads(line.removeprefix("data: ")))
                if told[-1]["msg"] == "process_completed":
                    break
    outputs = page.demo.fns[load].outputs
    sent = zip(told[-1]["output"]["data"], outputs, strict=True)
    last = [part for part, block in sent if block.get_block_name() != "state"]  # a state stays on the server
    assert all(isinstance(part, dict) and part["__type__"] == "update" and "value" not in part for part in last)
    assert sum("Is there a pleural effusion?" in json.dumps(one) for one in told) == 1


def test_what_a_visitor_asked_is_forgotten_and_their_work_ends_when_the_page_is_closed(page):
    kept = page.demo.app.state_holder.session_data
    (load,) = [n for n, fn in page.demo.fns.items() if fn.name == "opened" and fn.targets[0][1] == "load"]
    inputs = [None] * len(page.demo.fns[load].inputs)
    with httpx.stream("GET", page.url + "gradio_api/heartbeat/somebody") as line:
        assert line.status_code == 200
        asked = {"data": inputs, "fn_index": load, "session_hash": "somebody"}
        httpx.post(page.url + "gradio_api/queue/join", json=asked).raise_for_status()
        assert within(20, lambda: asked_by(kept, "somebody"))
        (mine,) = asked_by(kept, "somebody")
        queue = page.demo._queue
        assert within(20, lambda: not any(queue.active_jobs))  # the event's end
        job = mine.begin()
        assert len(queue.event_analytics) <= 1  # of who asked when
        assert queue.cached_event_analytics_summary == {"functions": {}}
    assert within(5, lambda: "somebody" not in kept)
    with pytest.raises(Cancelled):
        job.tell(1, 2, "probes")


def test_what_an_event_shows_after_its_visitor_has_left_is_forgotten_too(page, monkeypatch):
    once, again, go = [], [], threading.Event()

    def later(seconds, forget, given):
        """The page's timer, which also waits until all has come that it is to forget."""

        def do():
            assert go.wait(20)
            forget(*given)
            again.append(given[1])

        once.append(given[1])  # the visitor has been forgotten for the first time
        return threading.Timer(seconds, do)

    monkeypatch.setattr(build, "LATER_S", 0.1)
    monkeypatch.setattr(build, "threading", types.SimpleNamespace(Timer=later))
    holder = page.demo.app.state_holder
    for name in ("away", "back"):
        with httpx.stream("GET", f"{page.url}gradio_api/heartbeat/{name}") as line:
            assert line.status_code == 200
    assert within(20, lambda: {"away", "back"} <= set(once))
    assert holder["away"] is holder.session_data["away"]  # as Gradio does at an event's end
    (number,) = [n for n, one in page.demo.blocks.items() if isinstance(getattr(one, "value", None), Session)]
    assert holder["back"][number].analysis is None  # as an event of a visitor who came back does
    go.set()
    assert within(20, lambda: {"away", "back"} <= set(again))
    assert "away" not in holder.session_data
    assert "back" in holder.session_data


def sessions(kept, name):
    """The sessions of a visitor."""
    states = list(kept[name].state_data.values()) if name in kept else []
    return [one for one in states if isinstance(one, Session)]


def asked_by(kept, name):
    """The sessions of a visitor who has been answered."""
    return [one for one in sessions(kept, name) if one.analysis is not None]


def within(seconds, comes_true):
    until = time.monotonic() + seconds
    while time.monotonic() < until and not comes_true():
        time.sleep(0.05)
    return comes_true()


def test_who_is_not_named_is_not_let_in(demo, tmp_path):
    file = tmp_path / "let-in"
    file.write_text("ann:secret\n", encoding="utf-8")
    with serve.opened(demo, port=0, auth=str(file)) as found, httpx.Client(base_url=found.url) as visitor:
        assert visitor.get("config").status_code == 401
        assert visitor.post("gradio_api/upload", files={"files": ("film.png", b"x")}).status_code == 401
        assert list(found.folder.iterdir()) == []
        assert visitor.post("login", data={"username": "ann", "password": "guess"}).status_code == 400
        assert visitor.post("login", data={"username": "ann", "password": "secret"}).status_code == 200
        assert visitor.get("config").status_code == 200
        proxied = {"host": "page.example", "origin": "https://page.example"}
        assert visitor.get("config", headers=proxied).status_code == 200
        assert visitor.get("config", headers=proxied | {"origin": "https://elsewhere.example"}).status_code == 403


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])  # the second: its terminal was closed
def test_a_signal_to_end_ends_the_page_and_gives_the_handler_back(demo, number):
    said, mine = [], lambda *_: pytest.fail("the page did not hear it")

    def end(text):
        said.append(text)
        threading.Timer(0.2, os.kill, (os.getpid(), number)).start()

    before = signal.signal(number, mine)
    try:
        serve.serve(demo, port=0, say=end)
        assert signal.getsignal(number) is mine
    finally:
        signal.signal(number, before)
    assert said[0].startswith("Open http://127.0.0.1:")


def test_a_signal_that_another_thread_takes_ends_the_page(demo):
    """The system may give it to any thread, and Python's handler runs once the main thread is awake."""
    unheard = threading.Timer(30, os.kill, (os.getpid(), signal.SIGTERM))  # which wakes it

    def end(text):
        threading.Timer(0.2, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)).start()
        unheard.start()

    serve.serve(demo, port=0, say=end)
    assert unheard.is_alive()
    unheard.cancel()


def test_a_page_that_was_started_to_outlive_its_terminal_does():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with serve._stopping() as stopped:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopped()
    finally:
        signal.signal(signal.SIGHUP, before)
