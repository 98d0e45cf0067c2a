"""The rights of the server's process: its user, its groups, and the permissions of the files it creates.

A server that is started by root for a port below 1024, or for keys that only root reads, goes on without root's rights
when it has them: before a log file is opened, and before the application is imported. All of its threads, worker
processes and new server processes are without them, and there is no way back.

Log files are opened afterwards, because whoever may write to their folder could have put links there that lead root
to other files. Until then the log is written to standard error.

Must never be half done: an error ends the start. Owner: the supervisor's thread.
"""

import contextlib
import os
from collections.abc import Sequence

from pounce.config.config import Config
from pounce.errors import ConfigError, StartupError
from pounce.net.listeners import Listener

_CODE = {
    what: folder
    for what, folder in (
        ("interpreter's", os.path.dirname(os.__file__)),
        ("server's", os.path.dirname(os.path.dirname(__file__))),
    )
    if os.path.isdir(folder)  # else it is in an archive
}
"""Whence modules are imported later, when they are first needed."""


class Privileges:
    """What --user, --group and --umask ask for."""

    def __init__(self, config: Config) -> None:
        """Raises ConfigError for a user or a group that does not exist."""
        self._umask = config.umask
        self._app_dir = config.app_dir if isinstance(config.app, str) else None
        self._options = " ".join(
            f"--{name} {value}" for name, value in (("user", config.user), ("group", config.group)) if value is not None
        )
        self._user_name: str | None = None
        self._uid = self._gid = -1
        """-1: as it is."""
        if config.user is not None:
            self._find_user(config.user)
        if config.group is not None:
            self._find_group(config.group)
        if config.user is not None and self._gid < 0:
            raise ConfigError(f"--user {config.user}: this user has no entry of its own; give a --group as well")
        self.reduces = (self._uid, self._gid) != (-1, -1) and not self._is_so_already()
        """Will `drop` change anything?"""

    def _find_user(self, user: str) -> None:
        import pwd  # most servers do without

        try:
            entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        except KeyError:
            if not user.isdecimal():
                raise ConfigError(f"--user {user}: there is no such user") from None
            self._uid = int(user)
        else:
            self._user_name, self._uid, self._gid = entry.pw_name, entry.pw_uid, entry.pw_gid

    def _find_group(self, group: str) -> None:
        import grp

        try:
            self._gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise ConfigError(f"--group {group}: there is no such group") from None

    def _is_so_already(self) -> bool:
        """Such as in a new server process. Supplementary groups are not compared: only root could change them."""
        uid = os.getuid() if self._uid < 0 else self._uid
        gid = os.getgid() if self._gid < 0 else self._gid
        return os.getresuid() == (uid,) * 3 and os.getresgid() == (gid,) * 3

    def set_umask(self) -> None:
        if self._umask is not None:
            os.umask(self._umask)

    def drop(self, listeners: Sequence[Listener]) -> None:
        """For good. The files of Unix sockets become the user's. Raises StartupError."""
        folder = self._application_folder()
        try:
            for listener in listeners:
                listener.change_owner(self._uid, self._gid)
            # Groups first: without root's rights they can be neither left nor joined.
            if self._user_name is not None:
                os.initgroups(self._user_name, self._gid)
            else:
                os.setgroups([self._gid])
            if self._gid >= 0:
                os.setgid(self._gid)
            if self._uid >= 0:
                os.setuid(self._uid)  # of root's: the real, the effective and the saved one
        except PermissionError:
            raise StartupError(
                f"{self._options} needs root's rights, and this process is of user {os.geteuid()}: start the server as "
                "root, or leave that to what starts it (User= in a systemd unit)"
            ) from None
        except OSError as error:
            raise StartupError(f"{self._options}: {(error.strerror or str(error)).lower()}") from None
        for what, place in {"application's": folder, **_CODE}.items():
            if place is not None and not os.access(place, os.R_OK | os.X_OK):
                raise StartupError(f"{self._options}: this user may not read the {what} folder {place}")

    def _application_folder(self) -> str | None:
        """None where it is not known: the import will say what is wrong."""
        if self._app_dir is not None:
            with contextlib.suppress(OSError):  # the current folder is gone
                return os.path.abspath(self._app_dir)
        return None
