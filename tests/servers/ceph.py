"""Ceph's RADOS gateway over one monitor and one OSD in memory: Debian's packages, unpacked into a folder, nothing installed.

Which version that is depends on the Debian release: 16 (bookworm) knows no checksum headers, 20 has all of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.servers.common import ACCESS_KEY, SECRET_KEY, Unavailable, cache, child, free_port, run, settings_of, unpack, wait_for_answer
from trainyard.storage.client import StoreSettings

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd")
_ASK = """
import ctypes, json, sys
lib, cluster = ctypes.CDLL("librados.so.2"), ctypes.c_void_p()
if lib.rados_create(ctypes.byref(cluster), b"admin") or lib.rados_conf_read_file(cluster, sys.argv[1].encode()):
    sys.exit("no cluster handle")
if lib.rados_connect(cluster):
    sys.exit("no monitor answers")
for command in json.loads(sys.argv[2]):
    words, text = (ctypes.c_char_p * 1)(json.dumps(command).encode()), ctypes.c_char_p()
    if lib.rados_mon_command(cluster, words, ctypes.c_size_t(1), None, ctypes.c_size_t(0), None, None, ctypes.byref(text), None):
        sys.exit(f"{command}: {text.value}")
lib.rados_shutdown(cluster)
"""
"""The `ceph` command needs Python modules for the system's Python; this asks a monitor with any Python."""


def find() -> Path:
    """Return the folder into which the packages were unpacked; raises Unavailable when there is none."""
    root = cache() / "ceph"
    if not os.access(root / "usr/bin/radosgw", os.X_OK):
        raise Unavailable("Ceph is not unpacked on this machine: invoke servers.ceph")
    return root


def obtain() -> Path:
    """Return that folder, filled from Debian's archive where it is not there: 75 MB, once per user; needs apt and dpkg."""
    with contextlib.suppress(Unavailable):
        return find()
    unpack("ceph", "Ceph", PACKAGES)
    return find()


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[StoreSettings]:
    """Serve from memory on a loopback port while the block lasts; ready after some 15 seconds."""
    cluster = _Cluster(find(), folder)
    port = cluster.prepare()
    with cluster.daemon("ceph-mon", "-i", "0", "--public-addr", cluster.monitor):
        osd = str(uuid.uuid4())
        place = {"prefix": "osd crush add", "id": 0, "weight": 1.0, "args": ["root=default", "host=h"]}
        cluster.ask({"prefix": "osd new", "uuid": osd}, place)
        cluster.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        with cluster.daemon("ceph-osd", "-i", "0"):
            keys = (f"--access-key={ACCESS_KEY}", f"--secret={SECRET_KEY}")
            cluster.run("radosgw-admin", "-n", "client.admin", "user", "create", "--uid=tester", "--display-name=tester", *keys)
            with cluster.daemon("radosgw", "-n", "client.rgw") as gateway:
                wait_for_answer(f"http://127.0.0.1:{port}/", gateway, cluster.log)
                yield settings_of(port)


class _Cluster:
    """Programs, configuration and keys of one small cluster."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder, self.log = root, folder, folder / "ceph.log"
        self.monitor = f"127.0.0.1:{free_port()}"
        self.libraries = next((root / "usr/lib").glob("*-linux-gnu*"))
        triplet = self.libraries.name
        places = (self.libraries, root / "lib" / triplet, self.libraries / "ceph")
        self.env: Mapping[str, str] = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(map(str, places))}

    def prepare(self) -> int:
        """Write configuration and keys, make the monitor's data; returns the port of the gateway."""
        port = free_port()
        config = _CONFIG.format(folder=self.folder, libraries=self.libraries, monitor=self.monitor, port=port, fsid=uuid.uuid4())
        (self.folder / "ceph.conf").write_text(config)
        keyring, everything = self.folder / "keyring", ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *")
        self.tool("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        for name in ("client.admin", "client.rgw", "osd.0"):
            self.tool("ceph-authtool", keyring, "--gen-key", "-n", name, *everything)
        self.tool("monmaptool", "--create", "--addv", "0", f"[v1:{self.monitor}]", self.folder / "monmap")
        for name in ("mon", "osd"):
            (self.folder / name).mkdir()
        self.run("ceph-mon", "-i", "0", "--mkfs", "--monmap", self.folder / "monmap", "--keyring", keyring)
        return port

    def tool(self, name: str, *words: str | Path) -> None:
        """Run one of its tools to its end."""
        run([self.root / "usr/bin" / name, *words], self.env)

    def run(self, name: str, *words: str | Path) -> None:
        """Run one of its programs with the cluster's configuration to its end."""
        self.tool(name, "-c", self.folder / "ceph.conf", *words)

    def daemon(self, name: str, *words: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        """Run one of its daemons while a block lasts."""
        return child([self.root / "usr/bin" / name, "-f", "-c", self.folder / "ceph.conf", *words], self.log, self.env)

    def ask(self, *commands: Mapping[str, object]) -> None:
        """Tell the monitor something."""
        run([sys.executable, "-c", _ASK, str(self.folder / "ceph.conf"), json.dumps(commands)], self.env)


_CONFIG = """\
[global]
fsid = {fsid}
mon_host = {monitor}
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
keyring = {folder}/keyring
run_dir = {folder}
log_file = {folder}/$name.log
log_to_file = false
mon_cluster_log_file = {folder}/cluster.log
admin_socket = {folder}/$name.asok
pid_file = {folder}/$name.pid
crash_dir = {folder}
plugin_dir = {libraries}/ceph
erasure_code_dir = {libraries}/ceph/erasure-code
osd_class_dir = {libraries}/rados-classes
mon_data = {folder}/mon
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = 8589934592
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
mon_data_avail_warn = 1
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_lc_debug_interval = 10
"""
