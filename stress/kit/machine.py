"""CPUs, priorities and limits of this machine, and the CPU time and memory that a tree of processes uses.

CPU time is read from each process's own CPU clock (clock_getcpuclockid(3)), not from utime and stime in
/proc/PID/stat: those have a resolution of 10 ms, the clock has nanoseconds. The clock includes threads that
have ended, which a sum over /proc/PID/task/*/schedstat omits. For child processes that have ended, the cutime and
cstime of their parent are the only source.

Memory is PSS (proportional set size, /proc/PID/smaps_rollup): what two workers share is counted once, where a sum of
RSS would count it twice.
"""

import contextlib
import ctypes
import os
import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stress.kit.errors import Unmeasured

TICK = 1 / os.sysconf("SC_CLK_TCK")
HIGH_PRIORITY = -15  # a nice value


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    session: int
    waited_for: float  # CPU seconds of its children that have ended
    ended: bool = False
    """Is it a zombie, which nobody has waited for?"""


def fields(pid: int) -> list[str]:
    """The fields of proc_pid_stat(5) from the third on: the second, the name in brackets, may contain anything. Raises
    OSError when there is no such process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _process(pid: int) -> Process | None:
    try:
        field = fields(pid)
    except OSError:
        return None
    waited_for = (int(field[13]) + int(field[14])) * TICK
    return Process(pid, int(field[1]), int(field[3]), waited_for, ended=field[0] == "Z")


def tree(leader: int) -> list[Process]:
    """The session of `leader` and all its descendants: a process that has left one of the two is found by the other."""
    everything = [p for name in os.listdir("/proc") if name.isdigit() and (p := _process(int(name)))]
    found = {p.pid: p for p in everything if p.pid == leader or p.session == leader}
    before = -1
    while len(found) != before:
        before = len(found)
        found |= {p.pid: p for p in everything if p.parent in found}
    return list(found.values())


def cpu_seconds(leader: int) -> float:
    """CPU time, in seconds, that the tree has used until now."""
    total = 0.0
    for process in tree(leader):
        with contextlib.suppress(OSError):
            total += time.clock_gettime(cpu_clock(process.pid)) + process.waited_for
    return total


def cpu_clock(pid: int) -> int:
    """The CPU clock of a process: clock_getcpuclockid(3), which Python does not offer."""
    scheduler = 2  # CPUCLOCK_SCHED: what the scheduler counts, user and system, in nanoseconds
    return (~pid << 3) | scheduler


def busy_seconds(cpus: frozenset[int]) -> float:
    """Seconds that these CPUs have been busy until now, with any process; in ticks, too coarse for a short run."""
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name != "cpu" and int(name[3:]) in cpus:
            user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, ticks[:8])
            total += user + nice + system + irq + softirq + steal
    return total * TICK


class Meter:
    """Measures from its construction to `stop`: CPU seconds of a tree of processes, and of others on the same CPUs."""

    def __init__(self, leader: int, cpus: frozenset[int]) -> None:
        self._leader, self._cpus = leader, cpus
        self._busy, self._used, self._began = busy_seconds(cpus), cpu_seconds(leader), time.monotonic()

    def stop(self) -> None:
        self.seconds = time.monotonic() - self._began
        self.used = cpu_seconds(self._leader) - self._used
        self.others = max(0.0, busy_seconds(self._cpus) - self._busy - self.used)


def memory(leader: int) -> int:
    """Bytes of memory (PSS) that the tree uses now."""
    total = 0
    for process in tree(leader):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


@dataclass(frozen=True)
class Share:
    """The CPUs of the server and those of the load generator."""

    server: frozenset[int]
    load: frozenset[int]

    @property
    def apart(self) -> bool:
        return not self.server & self.load

    def __str__(self) -> str:
        if not self.apart:
            return f"NOT PINNED: server and load share the CPUs {_list(self.server)}"
        return f"server on CPU {_list(self.server)}, load on CPU {_list(self.load)}"


def share(workers: int) -> Share:
    """A CPU for each worker, then as many for the load, as far as there are. With too few, both share all."""
    cpus = _physical_first(os.sched_getaffinity(0))
    if len(cpus) <= workers:
        return Share(frozenset(cpus), frozenset(cpus))
    return Share(frozenset(cpus[:workers]), frozenset(cpus[workers : 2 * workers]))


def _physical_first(cpus: Iterable[int]) -> list[int]:
    """One CPU of each core first, as two hardware threads of one core slow each other down."""
    seen: set[str] = set()
    first: list[int] = []
    second: list[int] = []
    for cpu in sorted(cpus):
        try:
            core = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
        except OSError:
            core = str(cpu)
        (second if core in seen else first).append(cpu)
        seen.add(core)
    return first + second


@contextlib.contextmanager
def on_cpus(cpus: frozenset[int]) -> Iterator[None]:
    """Processes that are started within run on these CPUs: children inherit the affinity."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _list(cpus: Iterable[int]) -> str:
    return ",".join(map(str, sorted(cpus)))


def set_session_priority(leader: int, nice: int) -> None:
    """Sets the nice value of a session where Linux schedules sessions as groups (sched(7), "The autogroup feature"):
    there the value of a process counts within its session only."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{leader}/autogroup").write_text(str(nice))


def raise_priority(leader: int) -> None:
    """Raises the priority of a tree of processes where that is allowed, so that other programs' load is not taken for
    what is measured. What it starts later inherits that."""
    for process in tree(leader):
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{process.pid}/task"):
                os.setpriority(os.PRIO_PROCESS, int(thread), HIGH_PRIORITY)
    set_session_priority(leader, HIGH_PRIORITY)


def adopt_orphans() -> None:
    """Processes below this one become its children when their parent ends (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    if ctypes.CDLL(None).prctl(36, 1, 0, 0, 0):
        raise Unmeasured("this system does not let a process adopt orphans")


def raise_descriptor_limit() -> int:
    """Raises the soft limit of open files to the hard one, for this process and its children. Returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20
