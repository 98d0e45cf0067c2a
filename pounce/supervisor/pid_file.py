"""The PID file: where scripts find the number of the server's process.

It is written when clients are let in and removed at the end. While the server runs it holds a lock on the file, which
the kernel releases with the process. So the file of a process that was killed, whose number another process may have by
now, is known from that of another server: the first is replaced, the second ends the start.

A new server process puts its own in the place of its predecessor's, which then leaves it there.

The lock is one of fcntl(2), which a process that was forked does not have: neither a worker nor what the application
has started keeps it. It is lost if the application opens and closes the file, and then another server is not refused.

Owner: the supervisor's thread.
"""

import contextlib
import logging
import os
import stat

from pounce.errors import StartupError

logger = logging.getLogger("pounce.error")


class PidFile:
    def __init__(self, path: str | None) -> None:
        """None, or an empty path: there is none."""
        self._path = os.path.abspath(path) if path else ""  # the application may change the current folder
        self._fd: int | None = None
        """Open, with the lock, while the file is this process's."""

    def check(self, *, has_predecessor: bool) -> None:
        """Can it be written, when the time has come? `has_predecessor`: the file may be that of the server process
        which has started this one. Raises StartupError."""
        if not self._path:
            return
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(os.stat(self._path).st_mode):
                raise StartupError(
                    f"--pid-file {self._path}: there is something that is not a file; name another place"
                )
        try:
            os.close(self._open_temporary())
            os.unlink(self._temporary)
        except OSError as error:
            raise StartupError(
                f"--pid-file {self._path}: {(error.strerror or str(error)).lower()}; user {os.geteuid()} needs a "
                "folder to write to, such as that of RuntimeDirectory= in a systemd unit"
            ) from None
        if not has_predecessor and (holder := self._holder()):
            raise StartupError(
                f"--pid-file {self._path}: it is the file of the server with process {holder}, which runs; stop that, "
                "or name another file"
            )

    @property
    def _temporary(self) -> str:
        return f"{self._path}.{os.getpid()}"

    def _open_temporary(self) -> int:
        """Opens a new one; one that is there is that of a process that was killed."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temporary)
        return os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)

    def _holder(self) -> str:
        """What the file says, if another process has the lock on it."""
        import fcntl  # most servers do without

        try:
            with open(self._path, encoding="ascii") as file:
                try:
                    fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except (BlockingIOError, PermissionError):
                    return file.read().strip() or "unknown"
        except (OSError, ValueError):  # there is none; a file system without locks; not a PID file
            pass
        return ""

    def write(self) -> None:
        """In one step: nobody reads half a number. A failure is logged, because the server serves already."""
        if not self._path:
            return
        import fcntl

        try:
            fd = self._open_temporary()
            try:
                os.write(fd, b"%d\n" % os.getpid())
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.replace(self._temporary, self._path)
            except OSError:
                os.close(fd)
                raise
            self._fd = fd
        except OSError as error:
            logger.error("--pid-file %s cannot be written: %s.", self._path, (error.strerror or str(error)).lower())

    def remove(self) -> None:
        """Unless it is that of another process by now."""
        if self._fd is None:
            return
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self._fd), os.stat(self._path)):
                os.unlink(self._path)
        os.close(self._fd)
        self._fd = None
