"""File systems on which Linux does not report the changes that another machine makes. Owner: any thread."""

import os
from collections.abc import Iterable

SILENT = frozenset((
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "drvfs", "vboxsf", "prl_fs", "virtiofs", "fakeowner", "ceph",
    "lustre", "fuse.grpcfuse", "fuse.osxfs", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.glusterfs",
    "fuse.vmhgfs-fuse",
))  # fmt: skip
"""Network file systems, and those by which a virtual machine or a container sees its host's files."""


def silent(folders: Iterable[str], table: str = "/proc/self/mountinfo") -> str:
    """The reason why one of the folders has to be polled; "" if none has to be."""
    try:
        with open(table, encoding="utf-8", errors="surrogateescape") as file:
            mounts = dict(filter(None, map(_mount, file)))
    except OSError:
        return ""
    for folder in folders:
        path = os.path.realpath(folder)
        while path not in mounts and path != os.path.dirname(path):
            path = os.path.dirname(path)
        if mounts.get(path) in SILENT:
            return f"{folder} is on {mounts[path]}, where changes from outside are not reported"
    return ""


def _mount(line: str) -> tuple[str, str] | None:
    """The mount point and the type of a line of mountinfo (proc_pid_mountinfo(5))."""
    before, separator, after = line.partition(" - ")
    fields, kind = before.split(" "), after.split(" ")
    if not separator or len(fields) < 5:
        return None
    point = fields[4].encode(errors="surrogateescape").decode("unicode_escape", "surrogateescape")
    return point.encode("latin-1", "surrogateescape").decode(errors="surrogateescape"), kind[0]
