#!/usr/bin/env python3
"""Look at a pod's output and send it where presigned URLs point. Runs ON the pod: standard library, Python >= 3.8.

Knows no key of any store and no name of any run: it hashes files and carries out a plan of bound requests.

    uploader.py scan    spec on stdin -> one JSON object on stdout
    uploader.py send    plan on stdin -> JSON lines on stdout; exit 0 when everything is stored, else 1
    uploader.py sample  ranges on stdin -> sha256 of each
"""

import base64
import concurrent.futures
import hashlib
import http.client
import json
import os
import random
import re
import socket
import ssl
import stat
import sys
import threading
import time
import urllib.parse
import urllib.request
import zlib

BLOCK = 1 << 20
TRIES = 6
PROGRESS_SECONDS = 0.5
_CODE = re.compile(rb"<Code>([^<]{1,80})</Code>")


class Changed(Exception):
    """The file is not (any more) what the plan or the scan says."""


# ---------------------------------------------------------------- patterns


def compile_pattern(pattern, anywhere):
    """Return a regular expression for a glob over '/'-paths; what matches a folder matches everything below it.

    ``*`` and ``?`` stay within one name, ``**`` crosses names. Without a '/' and with ``anywhere`` the pattern
    may match any name of the path, as in ``.gitignore``.
    """
    text = pattern.strip("/")
    floating = anywhere and "/" not in text
    out, i = "", 0
    while i < len(text):
        if text.startswith("**/", i):
            out, i = out + "(?:[^/]+/)*", i + 3
        elif text.startswith("**", i):
            out, i = out + ".*", i + 2
        elif text[i] == "*":
            out, i = out + "[^/]*", i + 1
        elif text[i] == "?":
            out, i = out + "[^/]", i + 1
        elif text[i] == "[" and "]" in text[i + 2:]:
            end = text.index("]", i + 2)
            inner = text[i + 1:end].replace("\\", "\\\\")
            out, i = out + "[" + ("^" + inner[1:] if inner[0] in "!^" else inner) + "]", end + 1
        else:
            out, i = out + re.escape(text[i]), i + 1
    return re.compile(("(?:.*/)?" if floating else "") + out + r"(?:/.*)?\Z", re.DOTALL)


# ---------------------------------------------------------------- scan


def walk(root):
    """Yield (path, stat, kind) of everything below root that is no folder; links are never followed."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                path = folder + "/" + entry.name if folder else entry.name
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    waiting.append(path)
                elif stat.S_ISLNK(found.st_mode):
                    yield path, found, "link"
                else:
                    yield path, found, "file" if stat.S_ISREG(found.st_mode) else "special"


def fingerprint(found):
    """Return what changes when a file is written to or replaced."""
    return (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)


def hash_file(path, part_size, md5, limit=None):
    """Return size, sha256, CRC32 and the CRC32 of each part; raises Changed when the file is written meanwhile.

    ``limit`` reads only the first bytes of a file that may grow (a log).
    """
    whole, full, parts, digests = hashlib.sha256(), 0, [], []
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    with open(os.open(path, flags), "rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        size = before.st_size if limit is None else min(limit, before.st_size)
        position = 0
        while position < size or not parts:
            end = min(position + part_size, size)
            crc, digest = 0, hashlib.md5() if md5 else None
            while position < end:
                block = file.read(min(BLOCK, end - position))
                if not block:
                    raise Changed("it became shorter while it was read")
                whole.update(block)
                crc = zlib.crc32(block, crc)
                full = zlib.crc32(block, full)
                if digest:
                    digest.update(block)
                position += len(block)
            parts.append(crc32_text(crc))
            if digest:
                digests.append(digest.hexdigest())
            if position >= size:
                break
        if limit is None and fingerprint(os.fstat(file.fileno())) != fingerprint(before):
            raise Changed("it was written to while it was read")
    result = {"size": size, "sha256": whole.hexdigest(), "crc32": crc32_text(full), "parts": parts}
    if md5:
        result["md5"] = digests
    return result, fingerprint(before)


def crc32_text(value):
    """Return a CRC32 as S3 writes it."""
    return base64.b64encode(value.to_bytes(4, "big")).decode("ascii")


def part_size_for(size, part_size):
    """Return the part size of a file: at most 10,000 parts, all of one size but the last."""
    while (size + part_size - 1) // part_size > 10000:
        part_size *= 2
    return part_size


def sort_out(spec):
    """Return (paths to hash, report) by the patterns of the spec."""
    wanted = [compile_pattern(p, False) for p in spec["outputs"]]
    unwanted = [compile_pattern(p, True) for p in spec.get("excludes", [])]
    report = {"files": [], "left_out": [], "links": [], "unreadable": [], "changed": [], "bad_names": []}
    chosen = []
    for path, found, kind in walk(spec["root"]):
        if any(p.match(path) for p in unwanted):
            report["left_out"].append({"path": path, "size": found.st_size, "why": "excluded"})
        elif not any(p.match(path) for p in wanted):
            report["left_out"].append({"path": path, "size": found.st_size, "why": "no output pattern"})
        elif kind == "link":
            report["links"].append(path)
        elif kind == "special":
            report["left_out"].append({"path": path, "size": 0, "why": "not a file"})
        elif bad_name(path):
            report["bad_names"].append(path)
        else:
            chosen.append((path, fingerprint(found)))
    return chosen, report


def bad_name(path):
    """Tell whether a path cannot be a key: control characters, not UTF-8, a name over 255 bytes."""
    try:
        return any(ord(c) < 32 or ord(c) == 127 for c in path) or any(len(s.encode("utf-8")) > 255 for s in path.split("/"))
    except UnicodeEncodeError:
        return True


def scan(spec):
    """Hash what is wanted, and say what was left out, refused or still changing."""
    root, md5 = spec["root"], spec.get("md5", False)
    if not os.path.isdir(root):
        return {"error": "there is no folder " + root}
    chosen, report = sort_out(spec)

    def look(item):
        path, seen = item
        part = part_size_for(seen[0], spec["part_size"])
        try:
            result, found = hash_file(os.path.join(root, path), part, md5)
        except (Changed, FileNotFoundError) as error:
            return "changed", {"path": path, "why": str(error)}
        except OSError as error:
            return "unreadable", {"path": path, "why": error.strerror or str(error)}
        if found != seen:
            return "changed", {"path": path, "why": "it was written to"}
        return "files", dict(result, path=path, part_size=part)

    with concurrent.futures.ThreadPoolExecutor(spec.get("threads", 4)) as pool:
        for kind, entry in pool.map(look, chosen):
            report[kind].append(entry)
    # A file hashed early may have been written while the others were hashed, and new ones may have come.
    now = {path: fingerprint(found) for path, found, _ in walk(root)}
    for path, seen in chosen:
        if now.get(path) != seen and not any(c["path"] == path for c in report["changed"]):
            report["changed"].append({"path": path, "why": "it was written to after it was read"})
    late = set(sort_out(spec)[0]) - set(chosen)
    known = {c["path"] for c in report["changed"]}
    report["changed"] += [{"path": p, "why": "it appeared during the scan"} for p, _ in sorted(late) if p not in known]
    for entry in spec.get("extra", []):
        add_extra(report, entry, spec["part_size"])
    report["files"].sort(key=lambda e: e["path"])
    return report


def add_extra(report, entry, part_size):
    """Add a file outside the root (a log) under a name of its own; it may grow: its present length is what counts."""
    try:
        size = os.path.getsize(entry["path"])
        part = part_size_for(size, part_size)
        result, _ = hash_file(entry["path"], part, False, limit=size)
    except (OSError, Changed):
        report.setdefault("absent", []).append(entry["name"])
        return
    report.setdefault("extra", []).append(dict(result, name=entry["name"], source=entry["path"], part_size=part))


def sample(spec):
    """Return the sha256 of byte ranges."""
    result = []
    for item in spec["ranges"]:
        with open(os.path.join(spec["root"], item["path"]), "rb") as file:
            file.seek(item["offset"])
            result.append(hashlib.sha256(file.read(item["length"])).hexdigest())
    return {"sha256": result}


# ---------------------------------------------------------------- send


class Output:
    """Write JSON lines from several threads."""

    def __init__(self, stream):
        self.stream, self.lock = stream, threading.Lock()

    def say(self, **event):
        with self.lock:
            self.stream.write(json.dumps(event) + "\n")
            self.stream.flush()


class Gone(Exception):
    """Nobody reads our output any more: the controller's link is dead, the next one makes its own plan."""


class Sender:
    """Carry out a plan: each item is one bound PUT of a range of a file."""

    def __init__(self, plan, output, pause=time.sleep):
        self.plan, self.output, self.pause = plan, output, pause
        self.local, self.lock, self.over = threading.local(), threading.Lock(), threading.Event()
        self.sent = 0
        self.total = sum(item["length"] for item in plan["items"])
        self.tries = plan.get("tries", TRIES)
        self.timeout = plan.get("timeout", 120)
        self.context = None

    def run(self):
        """Send all items; returns the number of those that failed."""
        failed = 0
        reporter = threading.Thread(target=self.report, daemon=True)
        reporter.start()
        pool = concurrent.futures.ThreadPoolExecutor(self.plan.get("threads", 8))
        try:
            for done in concurrent.futures.as_completed([pool.submit(self.item, item) for item in self.plan["items"]]):
                failed += 0 if done.result() else 1
        finally:
            self.over.set()
            pool.shutdown()
        reporter.join()
        self.output.say(event="done", sent=self.sent, total=self.total, failed=failed)
        return failed

    def report(self):
        """Say every half second how far we are; a dead reader ends the whole sending."""
        try:
            while not self.over.wait(PROGRESS_SECONDS):
                self.output.say(event="progress", sent=self.sent, total=self.total)
        except OSError:
            os._exit(3)

    def item(self, item):
        """Send one item with retries; definite refusals are not repeated."""
        reason = {}
        for attempt in range(self.tries):
            if attempt:
                self.pause(min(30.0, 0.5 * 2 ** attempt) * random.uniform(0.5, 1.0))
            counted = [0]
            try:
                status, etag, body = self.put(item, counted)
            except Changed as error:
                reason = {"code": "Changed", "message": str(error)}
                break
            except (OSError, http.client.HTTPException) as error:
                self.count(-counted[0])
                self.drop()
                reason = {"code": "Network", "message": "%s: %s" % (type(error).__name__, error)}
                continue
            if status in (200, 201, 204) or (status == 412 and item.get("exists_ok")):
                self.output.say(event="stored", id=item["id"], status=status, etag=etag)
                return True
            self.count(-counted[0])
            code = _CODE.search(body)
            reason = {"status": status, "code": code.group(1).decode("ascii", "replace") if code else str(status),
                      "message": body[:300].decode("utf-8", "replace")}
            if status < 500 and status not in (408, 425, 429) and reason["code"] not in ("RequestTimeout", "SlowDown"):
                break
        self.output.say(event="failed", id=item["id"], **reason)
        return False

    def put(self, item, counted):
        """Make one request; returns status, ETag and the body of the answer."""
        connection, target = self.connection(item["url"])
        length, position = item["length"], item["offset"]
        with open(item["path"], "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size < position + length:
                raise Changed("the file is shorter than it was when it was scanned")
            file.seek(position)
            connection.putrequest("PUT", target, skip_accept_encoding=True)
            connection.putheader("Content-Length", str(length))
            for name, value in item.get("headers", {}).items():
                connection.putheader(name, value)
            try:
                connection.endheaders()
                self.body(connection, file, length, counted)
            except (BrokenPipeError, ConnectionResetError):
                # A refused request is answered while its body is still on the way: the answer says why.
                return self.answer(connection, close=True)
        return self.answer(connection)

    def body(self, connection, file, length, counted):
        left = length
        while left:
            block = file.read(min(BLOCK, left))
            if not block:
                raise Changed("the file became shorter while it was sent")
            connection.send(block)
            left -= len(block)
            counted[0] += len(block)
            self.count(len(block))

    def answer(self, connection, close=False):
        response = connection.getresponse()
        body = response.read(4096)
        if close or response.will_close or response.read(1):
            self.drop()
        # Some calls answer 200 and put the error into the body.
        status = 500 if response.status == 200 and b"<Error>" in body else response.status
        return status, response.getheader("ETag"), body

    def count(self, number):
        with self.lock:
            self.sent += number

    def connection(self, url):
        """Return this thread's connection to the URL's host, and the request target."""
        parts = urllib.parse.urlsplit(url)
        target = parts.path + ("?" + parts.query if parts.query else "")
        key = (parts.scheme, parts.netloc)
        proxy = proxy_for(parts)
        if getattr(self.local, "key", None) != key or self.local.connection is None:
            self.drop()
            self.local.key, self.local.connection = key, self.connect(parts, proxy)
        if proxy and parts.scheme == "http":
            target = url
        return self.local.connection, target

    def connect(self, parts, proxy):
        secure = parts.scheme == "https"
        where = urllib.parse.urlsplit(proxy) if proxy else parts
        port = where.port or (443 if where.scheme == "https" else 80)
        if secure:
            with self.lock:
                self.context = self.context or ssl.create_default_context()
            connection = http.client.HTTPSConnection(where.hostname, port, timeout=self.timeout, context=self.context)
            if proxy:
                connection.set_tunnel(parts.hostname, parts.port or 443, proxy_headers(where))
            return connection
        return http.client.HTTPConnection(where.hostname, port, timeout=self.timeout)

    def drop(self):
        connection = getattr(self.local, "connection", None)
        if connection is not None:
            connection.close()
        self.local.connection = None


def proxy_for(parts):
    """Return the proxy that the environment names for this URL; loopback is never proxied."""
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def proxy_headers(where):
    if not where.username:
        return {}
    pair = urllib.parse.unquote(where.username) + ":" + urllib.parse.unquote(where.password or "")
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")}


def main(arguments):
    """Run one verb; the exit code is 0, 1 (something failed) or 2 (usage)."""
    if len(arguments) != 1 or arguments[0] not in ("scan", "send", "sample"):
        sys.stderr.write(__doc__ or "")
        return 2
    order = json.load(sys.stdin)
    if arguments[0] == "send":
        return 1 if Sender(order, Output(sys.stdout)).run() else 0
    json.dump(scan(order) if arguments[0] == "scan" else sample(order), sys.stdout)
    return 0


if __name__ == "__main__":
    socket.setdefaulttimeout(120)
    sys.exit(main(sys.argv[1:]))
