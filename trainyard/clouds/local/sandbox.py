"""How a pod is kept together: namespaces, its view of the files, and how to kill all of it.

Runs inside the supervisor (``python -S -E``), so it knows nothing but the standard library. Nothing here
decides when; it only does.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import struct
import time
from collections.abc import Iterable, Iterator

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x8000000, 0x10000000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 32, 4096, 16384
MS_UNBINDABLE, MS_PRIVATE, MS_RELATIME, MNT_DETACH = 1 << 17, 1 << 18, 1 << 21, 2
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 1, 24, 36
CAP_SYS_PTRACE, CAPABILITY_VERSION, RLIMIT_RTTIME = 19, 0x20080522, 15
MASKED = ("/root", "/workspace", "/tmp")
"""Folders of which every pod has its own."""
SYSTEM = ("/usr", "/etc", "/opt", "/boot", "/bin", "/sbin", "/lib", "/lib64", "/var/lib")
"""Folders that a pod of root must not change: they are this machine's, not the pod's."""

_libc = ctypes.CDLL(None, use_errno=True)


def unshare() -> None:
    """Leave for new namespaces; the next fork is pid 1 of the pod. Needs a single-threaded process."""
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | (CLONE_NEWUSER if uid else 0)
    _check(_libc.unshare(flags), "unshare")
    if uid:
        # The own id to itself, never to 0: sshd as a mapped 0 fails on setgroups.
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            fd = os.open(f"/proc/self/{name}", os.O_WRONLY)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)


def build_root(pod: str, *, mask: str = "", binds: Iterable[str] = (), volume: str = "") -> None:
    """Build the pod's view of the files on ``<pod>/root``: this machine's, with folders of its own.

    ``mask`` is hidden (the state of all pods); ``binds`` are shown read-only at their own paths where a mask hides them;
    ``volume`` is a folder that the pod may write to, at its own path.
    """
    new = pod + "/root"
    _mount("", "/", "", MS_REC | MS_PRIVATE)
    _mount("tmpfs", new, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    # Else the recursive bind of the folder that contains the pod's directory would copy every mount made so far.
    _mount("", new, "", MS_UNBINDABLE)
    _show_top(new)
    for inside, outside in (("root", "home"), ("workspace", "workspace"), ("tmp", "tmp"), ("pod", "pod")):
        os.mkdir(f"{new}/{inside}")
        _mount(f"{pod}/{outside}", f"{new}/{inside}", "", MS_BIND)
    os.mkdir(new + "/proc")
    _mount("proc", new + "/proc", "proc", MS_NOSUID | MS_NODEV)
    if os.path.isdir(new + "/dev/shm") and not os.path.islink("/dev/shm"):
        _mount("tmpfs", new + "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    _etc(pod, new)
    if mask and os.path.isdir(new + mask):
        _mount("tmpfs", new + mask, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=755")
    for path in sorted(set(binds)):
        if os.path.isdir(path) and not os.path.exists(new + path):
            os.makedirs(new + path)
            _mount(path, new + path, "", MS_BIND | MS_REC)
            _read_only(new + path)
    if os.getuid() == 0:
        for path in SYSTEM:
            if os.path.isdir(path) and not os.path.islink(path):
                _mount(new + path, new + path, "", MS_BIND | MS_REC)
                _read_only(new + path)
    if volume:
        os.makedirs(new + volume, exist_ok=True)
        _mount(volume, new + volume, "", MS_BIND)


def enter_root(pod: str) -> None:
    """Change into the root that build_root made; a descriptor of the old root is the only way back."""
    os.chroot(pod + "/root")
    os.chdir("/")


def leave_root(pod: str, old_root: int) -> None:
    """Go back to the machine's root and drop the pod's, so that its folders can be removed."""
    os.fchdir(old_root)
    os.chroot(".")
    os.chdir("/")
    _check(_libc.umount2((pod + "/root").encode(), MNT_DETACH), "umount")


def become_subreaper() -> None:
    """Adopt every orphan below this process."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def give_up_ptrace() -> None:
    """Let neither this process nor a program of its pod look into processes that closed themselves to others, as in Docker by default.

    A pod's watchdog is such a process: what a controller has left in its memory is not for the training. The supervisor
    itself gives it up, too: a process may look only into one that can do no more than itself, and its pod looks into it.
    """
    _libc.prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0)  # an ordinary user has nothing to give up
    header, sets = ctypes.create_string_buffer(struct.pack("Ii", CAPABILITY_VERSION, 0), 8), ctypes.create_string_buffer(24)
    if _libc.capget(header, sets) == 0:
        words = [word & ~(1 << CAP_SYS_PTRACE) if at < 3 else word for at, word in enumerate(struct.unpack("6I", sets.raw))]
        _libc.capset(header, ctypes.create_string_buffer(struct.pack("6I", *words), 24))


def die_with_parent(sign: int, parent: int) -> bool:
    """Ask for a signal when the parent dies; False when it is already dead."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, sign, 0, 0, 0), "prctl")
    return os.getppid() == parent


def kill_namespace() -> None:
    """Kill everything in this pid namespace but its init, the caller; return when all of it is gone."""
    while True:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def kill_descendants() -> None:
    """Kill every descendant of the calling subreaper; return when the kernel says it has no child left.

    Only children are killed, what was below them becomes a child: nobody else reaps a child, so its number is its own.
    """
    while True:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def set_marker(marker: int) -> None:
    """Mark this process and all that come from it by an RLIMIT_RTTIME that nothing else has."""
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(RLIMIT_RTTIME, (marker, marker))


def marked(text: str) -> Iterator[int]:
    """Yield the living processes with a marker, the caller left out."""
    return (pid for pid in _pids() if _marked(pid, text))


def kill_marked(marker: int, clean_passes: int) -> int:
    """Kill every process with the marker until so many passes in turn find none; return how many were killed."""
    text, killed, clean = str(marker), 0, 0
    while clean < clean_passes:
        count = 0
        for pid in marked(text):
            count += 1
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed += count
        clean = 0 if count else clean + 1
        time.sleep(0.002)
    return killed


def say(text: str, fd: int = 2) -> None:
    """Write a line to a log; a full disk must not stop what is said there."""
    with contextlib.suppress(OSError):
        os.write(fd, text.encode(errors="replace") + b"\n")


def remove_tree(path: str, *, dir_fd: int | None = None, until: float = float("inf")) -> bool:
    """Remove a folder with all in it, whatever the modes and however deep. Another remover may be at work.

    False when ``until`` (on the monotonic clock) came before the end.
    """
    with contextlib.suppress(FileNotFoundError):
        top = _open_dir(path, dir_fd)
        try:
            while _empty(top, top, 0, until):
                if _gone(path, dir_fd):
                    return True
            return False
        finally:
            os.close(top)
    return True


def _gone(name: str, dir_fd: int | None) -> bool:
    """Remove an emptied folder; False when another remover has moved the deep end of its tree there meanwhile."""
    try:
        os.rmdir(name, dir_fd=dir_fd)
        return True
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            return False
        raise


def _empty(fd: int, top: int, depth: int, until: float) -> bool:
    for entry in list(os.scandir(fd)):
        if time.monotonic() > until:
            return False
        with contextlib.suppress(FileNotFoundError):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=fd)
            elif depth >= 40:
                # Descriptors and the stack are finite, a hostile tree is not: its deep end is moved up.
                os.rename(entry.name, f".deep-{os.urandom(6).hex()}", src_dir_fd=fd, dst_dir_fd=top)
            else:
                child = _open_dir(entry.name, fd)
                try:
                    if not _empty(child, top, depth + 1, until):
                        return False
                finally:
                    os.close(child)
                _gone(entry.name, fd)
    return True


def _open_dir(name: str, dir_fd: int | None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=dir_fd)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=dir_fd)
        fd = os.open(name, flags, dir_fd=dir_fd)
    if os.fstat(fd).st_mode & 0o700 != 0o700:
        os.fchmod(fd, 0o700)
    return fd


def _show_top(new: str) -> None:
    own_run = os.getuid() == 0 and not os.path.isdir("/run/sshd")
    for entry in os.scandir("/"):
        if entry.path in (*MASKED, "/proc", "/pod") or (entry.name == "run" and own_run):
            continue
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), new + entry.path)
        elif entry.is_dir():
            os.mkdir(new + entry.path)
            _mount(entry.path, new + entry.path, "", MS_BIND | MS_REC)
    if own_run:
        # sshd of root wants /run/sshd, which Debian removes at boot; the machine's own /run stays as it is.
        os.makedirs(new + "/run/sshd", 0o755)
        for entry in os.scandir("/run"):
            _show(entry, new)


def _show(entry: os.DirEntry[str], new: str) -> None:
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), new + entry.path)
        return
    if entry.is_dir():
        os.mkdir(new + entry.path)
    else:
        os.close(os.open(new + entry.path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    _mount(entry.path, new + entry.path, "", MS_BIND | MS_REC)


def _etc(pod: str, new: str) -> None:
    """Lay the pod's passwd, group and nsswitch.conf (and shadow for root) over this machine's, for this pod only."""
    uid, gid = os.getuid(), os.getgid()
    own = {
        "passwd": f"root:*:{uid}:{gid}:root:/root:/bin/bash\n" + _lines("/etc/passwd", ("root",)),
        # Without 'tty' sshd leaves the terminal's group alone; chown to it is refused in a user namespace.
        "group": f"root:x:{gid}:\n" + _lines("/etc/group", ("root", "tty") if uid else ("root",)),
        # nss-systemd says root is locked even to ordinary users.
        "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\n" + _lines("/etc/nsswitch.conf", ("passwd", "group", "shadow")),
    }
    if uid == 0:
        own["shadow"] = "root:*:19000:0:99999:7:::\n" + _lines("/etc/shadow", ("root",))
    for name, text in own.items():
        if os.path.isfile(f"{new}/etc/{name}"):
            path = f"{pod}/pod/etc/{name}"
            fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600 if name == "shadow" else 0o644)
            with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
            _mount(path, f"{new}/etc/{name}", "", MS_BIND)


def _lines(path: str, without: tuple[str, ...]) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return "".join(line.rstrip("\n") + "\n" for line in file if line.partition(":")[0].strip() not in without)
    except OSError:
        return ""


def _read_only(path: str) -> None:
    flags = os.statvfs(path).f_flag
    # In a user namespace a remount must repeat the flags that the machine set, access times included.
    keep = flags & (2 | 4 | 8 | 1024 | 2048) | (MS_RELATIME if flags & 4096 else 0)
    _mount("", path, "", MS_REMOUNT | MS_BIND | MS_RDONLY | keep)


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    result = _libc.mount(source.encode() or None, target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None)
    _check(result, f"mount {target}")


def _check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _pids() -> Iterator[int]:
    me = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != me:
            yield int(name)


def _marked(pid: int, text: str) -> bool:
    try:
        with open(f"/proc/{pid}/limits", "rb", buffering=0) as file:
            if text.encode() not in file.read(4096):
                return False
        # A zombie is dead, however long its parent takes to notice.
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.read(1024).rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def _children() -> Iterator[int]:
    """Yield this process's children; by the kernel's own list where it keeps one, which a program that hops cannot outrun."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children", "rb", buffering=0) as file:
            yield from map(int, file.readall().split())
        return
    except OSError:
        pass
    for pid in _pids():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            if int(file.read(1024).rpartition(b")")[2].split()[1]) == me:
                yield pid
