"""What Pounce costs, beside what others cost: `python -m stress.bench`, and the floor under all of them.

Nothing here is a test: figures depend on the machine. What must hold everywhere is in tests/; what must hold in a
release check is asked for with `--require`.

    bench.py      the command: which servers, which workloads, in which order
    workloads.py  what is asked of a server, and what it must answer
    runs.py       how one run of a workload is measured
    servers.py    how each server is started and ended
    peers.py      where the other servers come from: an environment of their own
    load.py       what drives them: wrk, h2load, and ten thousand idle connections
    machine.py    CPUs, and what a tree of processes has used
    report.py     medians, ratios, tables, JSON
    floor.py      the least a server on Python's selectors can cost
    apps/         the applications that are served

Standard library only, Linux only (it reads /proc), and no process is ended that it has not started.
"""


class Unmeasured(Exception):
    """A server cannot be measured at this workload; the text says why. The others go on."""
