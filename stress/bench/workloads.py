"""The workloads: the requests that are sent, and the content of their responses."""

import resource

from stress.bench.runs import CLOSED, IDLE, OPEN, SCALING, Workload

HELLO = b"Hello, world!"
JSON = b'{"message":"Hello, world!"}'
KIB = 1024
FILES = ("floor", "nginx")

# 10,000, or what the descriptor limit of a process allows. The server needs some descriptors for itself.
MAX_OPEN = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
IDLE_CONNECTIONS = min(10_000, MAX_OPEN - 500) if MAX_OPEN != resource.RLIM_INFINITY else 10_000

WORKLOADS = {workload.name: workload for workload in (
    Workload("hello", "GET, 13 bytes, keep-alive", CLOSED, "plain:hello", HELLO),
    Workload("access-log", "hello with the access log on, to a file", CLOSED, "plain:hello", HELLO, access_log=True),
    Workload("workers-2", "hello with 2 workers; beside 1 worker on the same CPUs", SCALING, "plain:hello", HELLO,
             workers=2),
    Workload("starlette", "JSON from Starlette", CLOSED, "on_starlette:app", JSON),
    Workload("starlette-2", "JSON from Starlette with 2 workers; beside 1 worker on the same CPUs", SCALING,
             "on_starlette:app", JSON, workers=2),
    Workload("fastapi", "JSON from FastAPI", CLOSED, "on_fastapi:app", JSON),
    Workload("echo-1k", "POST of 1 KiB, sent back", CLOSED, "plain:echo", b"x" * KIB, method="POST", size=KIB),
    Workload("upload-64k", "POST of 64 KiB, answered with its length", CLOSED, "plain:upload", b"65536",
             method="POST", size=64 * KIB),
    Workload("stream-64k", "64 KiB in 16 parts, chunked", CLOSED, "plain:stream", b"x" * 64 * KIB),
    Workload("file-100k", "a file of 100 KiB", CLOSED, "plain:file", b"x" * 100 * KIB, connections=32,
             references=FILES),
    Workload("body-1m", "1 MiB in one piece", CLOSED, "plain:big", b"x" * KIB * KIB, connections=16,
             references=FILES),
    Workload("connect", "hello, a new connection for each request", CLOSED, "plain:hello", HELLO, close=True),
    Workload("idle-10k", f"{IDLE_CONNECTIONS} idle keep-alive connections", IDLE, "plain:hello", HELLO,
             connections=IDLE_CONNECTIONS),
    Workload("open-64", "hello at half capacity, constant rate on 64 connections", OPEN, "plain:hello", HELLO),
    Workload("open-1000", "hello at half capacity, constant rate on 1,000 connections", OPEN, "plain:hello", HELLO,
             connections=1000),
)}  # fmt: skip
