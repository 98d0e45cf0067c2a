"""Log lines with which the server says what it is, where it listens, and what the machine grants it.

The texts about processes and addresses are uvicorn's, with another name. Owner: the supervisor's thread.
"""

import logging
import os
import sys
from collections.abc import Sequence

from pounce.config.config import Config
from pounce.logging import CYAN, bold
from pounce.net.byte_stream import HIGH_WATER
from pounce.net.listeners import MAX_UNSENT, Listener
from pounce.net.stream import READ_SIZE
from pounce.supervisor import cgroup
from pounce.supervisor.plan import Plan, has_gil
from pounce.version import __version__

MIB = 1 << 20

logger = logging.getLogger("pounce.error")


def log_start(config: Config, plan: Plan) -> None:
    python = f"{sys.implementation.name.replace('cpython', 'CPython')} {sys.version.split()[0]}"
    free = "" if has_gil() else " free-threaded"
    logger.info("Pounce %s on %s%s, %s", __version__, python, free, plan.describe())
    if plan.cpus is not None and plan.count == plan.cpus.usable:
        logger.info("--threads auto: %d, because %s.", plan.count, plan.cpus.describe())
    if problem := memory_problem(config, plan.count, cgroup.memory_limit()):
        logger.warning(problem)
    log_process("Started")


def memory_problem(config: Config, workers: int, limit: int | None) -> str:
    """Do the requests that the options let run need more memory than there is? Counts what the server itself may hold
    of each: its head, content that the application has not taken and one read beyond that, what the client has not
    taken, here and in the kernel. WebSocket messages, idle connections and the application come on top of that.

    Empty if not, or if the options have no bound. `limit`: bytes; None: there is none."""
    if limit is None or config.limit_concurrency is None:
        return ""
    count = workers * (config.limit_concurrency + config.limit_queue)  # both are for each worker
    each = config.limit_request_head + HIGH_WATER + READ_SIZE + HIGH_WATER + MAX_UNSENT
    if count * each <= limit:
        return ""
    return (
        f"The memory limit of this container is {limit // MIB} MiB. {count} requests at a time (--limit-concurrency "
        f"and --limit-queue, of all workers) may take {count * each // MIB} MiB for their buffers alone: "
        f"{limit // each} would fit."
    )


def log_addresses(listeners: Sequence[Listener]) -> None:
    text = "Pounce running on %s (Press CTRL+C to quit)"
    for listener in listeners:
        logger.info(text, listener.announcement, extra={"color_message": text.replace("%s", bold("%s"))})


def log_process(word: str) -> None:
    text = f"{word} server process [%s]"
    logger.info(text, os.getpid(), extra={"color_message": text.replace("%s", bold("%s", CYAN))})
