"""SIGTERM and SIGINT: none is lost, at whatever moment it comes."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.support.server import Running, get

SLOW = """
import time
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        import pounce
        assert (await receive())["type"] == "lifespan.startup"
        for _ in range(10):
            await pounce.sleep(0.01)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
print("importing", flush=True)
for _ in range(10):
    time.sleep(0.01)
"""


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_and_sigint_during_the_start_end_the_server_at_any_moment(tmp_path, workers, number):
    """In the import, in the lifespan, between the two, and while the server runs."""
    (tmp_path / "slow.py").write_text(SLOW)
    # As with uvicorn: one process ends by the signal, the supervisor of several with 0 after SIGTERM.
    codes = {signal.SIGTERM: {143, 0} if workers == "2" else {143}, signal.SIGINT: {0, 1}}[number]
    for moment in range(20):
        with Running("slow:app", "--port", "0", "--workers", workers, cwd=tmp_path, ready=False) as server:
            server.wait_for("importing")
            time.sleep(moment * 0.02)  # a sample of moments, not a wait for one
            assert server.stop(number) in codes, (moment, server.log)
            assert "Traceback" not in server.log, (moment, server.log)
            assert "Worker" not in server.log.replace("worker process", ""), (moment, server.log)
            assert server.log.count("Stopped by") + server.log.count("Shutting down") <= 1, (moment, server.log)


def test_sigterm_during_an_import_that_catches_everything_ends_the_server_after_it(tmp_path):
    (tmp_path / "deaf.py").write_text(
        "import time\n"
        "try:\n    print('importing', flush=True)\n    while True: time.sleep(0.01)\n"
        "except BaseException: print('caught', flush=True)\n"
        "async def app(scope, receive, send): print('called', flush=True)\n"
    )
    with Running("deaf:app", "--port", "0", cwd=tmp_path, ready=False) as server:
        server.wait_for("importing")
        assert server.stop() == 143
        assert "caught" in server.log
        assert "called" not in server.log
        assert server.lines[-1] == "INFO:     Stopped by SIGTERM before the application was imported."


LOST = """
import os, signal, weakref

class Resource: ...

resource = Resource()
# Whatever is raised in the callback, Python prints and throws away.
reference = weakref.ref(resource, lambda _: os.kill(os.getpid(), signal.SIGTERM))
del resource
print("imported", flush=True)

async def app(scope, receive, send): ...
"""


@pytest.mark.parametrize(("kind", "codes"), [("thread", {143}), ("process", {143, 3})])
def test_sigterm_in_a_callback_of_a_weak_reference_ends_the_import_all_the_same(tmp_path, kind, codes):
    (tmp_path / "lost.py").write_text(LOST)
    with Running("lost:app", "--port", "0", "--worker-kind", kind, cwd=tmp_path, ready=False) as server:
        assert server.end() in codes
        assert "Traceback" not in server.log
        assert "Application startup complete" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_ends_the_import_where_the_server_is_process_1_of_a_container(tmp_path, workers):
    """The kernel ignores a signal for process 1 that it has no handler for."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-pf", "--kill-child", "true"], capture_output=True).returncode:
        pytest.skip("needs unshare with the right to make a process namespace")
    (tmp_path / "slow.py").write_text("import time\nprint('importing', flush=True)\nwhile True: time.sleep(0.01)\n")
    server = [sys.executable, "-m", "pounce", "slow:app", "--port", "0", "--workers", workers]
    process = subprocess.Popen(
        [unshare, "-pf", "--kill-child", *server],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if "importing" in line:
            break
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        first = int(file.read().split()[0])
    os.kill(first, signal.SIGTERM)
    rest = process.stdout.read()
    process.stdout.close()
    assert process.wait(30) == 0, rest
    assert "Traceback" not in rest


# What libraries look at

LOOKS = """
import signal
import pounce
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
    while not signal.getsignal(signal.SIGTERM).__self__.should_exit:  # as sse-starlette
        await pounce.sleep(0.01)
    await send({"type": "http.response.body", "body": b"ended"})
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_should_exit_behind_the_sigterm_handler_is_seen_by_a_running_stream(tmp_path, workers):
    (tmp_path / "looks.py").write_text(LOOKS)
    with Running("looks:app", "--port", "0", "--workers", workers, cwd=tmp_path) as server:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(get(server.address)))
        thread.start()
        server.wait_for("GET /")
        server.stop()
        thread.join(30)
        assert answers[0][0] == 200
        assert b"ended" in answers[0][1]
        assert "Cancel" not in server.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigint_in_development_mode_of_python_warns_of_nothing_unclosed(tmp_path, workers):
    (tmp_path / "looks.py").write_text(LOOKS)
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-m", "pounce", "looks:app", "--port", "0", "--workers", workers],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if "running on" in line:
            process.send_signal(signal.SIGINT)
    process.stdout.close()
    process.wait(30)
    assert not [line for line in lines if "Warning" in line]
