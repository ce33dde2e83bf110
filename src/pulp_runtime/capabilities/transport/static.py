"""Files that the host serves for a cell, without stepping it: `static` in the settings of `transport.http.inbound`.

A mount is a GET and a HEAD route of its cell that take all below a path. Every route the cell registers itself is more
specific, so that it comes first. Files in memory are answered at once; the disk is asked on another thread.

    request ──▶ in memory, looked at within the last second? ──▶ answer
                    └─ no ──▶ thread: look, read ──▶ answer, or in pieces as the client takes them
"""

from __future__ import annotations

import asyncio
import errno
from collections import OrderedDict
from typing import Annotated, Final
from urllib.parse import quote

import msgspec

from pulp_runtime._net import answers
from pulp_runtime._net.answers import Answer
from pulp_runtime._net.exchange import Request
from pulp_runtime._net.fields import forbidden_in_value
from pulp_runtime._net.response import RenderedFields, render_head_fields
from pulp_runtime._net.routes import Match, RouteConflict, RouteInvalid, compile_pattern
from pulp_runtime._net.stream import ResponseStream
from pulp_runtime.capabilities.transport.front import HTTP, Front
from pulp_runtime.capabilities.transport.static_conditions import Part, codings, condition, part, wants_a_page
from pulp_runtime.capabilities.transport.static_file import (
    Changed,
    Found,
    Resource,
    Variant,
    look,
    read_part,
    served_root,
)
from pulp_runtime.ext import CellRef, ExtensionError
from pulp_runtime.files.descent import PathRefused

FRESH_SECONDS: Final = 1.0
"""How long a file in memory is served before the disk is asked again."""
KEPT_BYTES: Final = 32 * 1024 * 1024
"""Memory for files, of all cells together; the one that was asked for longest ago goes first."""
PIECE_BYTES: Final = 256 * 1024
"""How much of a long file is read at once."""
_METHODS: Final = ("GET", "HEAD")
_NOT_THERE: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV}
)
_NOT_OURS: Final = frozenset({errno.EACCES, errno.EPERM})
_WELL_KNOWN: Final = ".well-known"  # RFC 8615


class StaticMount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A folder that is served.

    Attributes:
        path: where, such as `/` or `/assets`.
        folder: which, relative to the manifest's folder; not one that holds the manifest.
        index: the file that stands for a folder.
        fallback: the file, relative to `folder`, that people get who navigate to where no file is; "" for 404.
        cache_control: said with every file.
    """

    path: str
    folder: str
    index: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] = "index.html"
    fallback: str = ""
    cache_control: str = "no-cache"


class _Mounted:
    """A mount, ready to be served."""

    def __init__(self, cell: CellRef, mount: StaticMount) -> None:
        folder = cell.manifest.parent / mount.folder
        self.pattern: Final = f"{mount.path.rstrip('/')}/*"
        self.log: Final = cell.log
        if forbidden_in_value(mount.cache_control):
            raise ValueError("cache_control holds a control character")
        self.headers: Final = {"Cache-Control": mount.cache_control} if mount.cache_control else {}
        segments = compile_pattern(mount.path)
        if any(segment.kind != "literal" for segment in segments):
            raise ValueError(f"path {mount.path!r} must be a plain path, without parameters")
        self.root: Final = served_root(folder)
        if cell.manifest.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"folder {mount.folder!r} holds the manifest, which nobody should read; serve one inside")
        index, fallback = parts_of(mount.index), parts_of(mount.fallback)
        if index is None or len(index) != 1:
            raise ValueError(f"index {mount.index!r} is no file name")
        if fallback is None:
            raise ValueError(f"fallback {mount.fallback!r} is no path below the folder")
        self.index: Final = index[0]
        self.fallback: Final = mount.fallback


class StaticFiles:
    """The mounts of every cell. Everything but `mount` and `drop` belongs to the loop's thread."""

    def __init__(self) -> None:
        self._mounts: Final[dict[tuple[str, str], _Mounted | None]] = {}  # None: no longer, but its route still fades
        self._before: Final[dict[str, dict[tuple[str, str], _Mounted | None]]] = {}
        self._kept: Final[OrderedDict[tuple[_Mounted, str], Resource]] = OrderedDict()
        self._weight = 0
        self._tasks: Final[set[asyncio.Task[None]]] = set()

    def mount(self, front: Front, cell: CellRef, mounts: tuple[StaticMount, ...]) -> None:
        """Serve folders for a cell that is being loaded.

        Raises:
            ExtensionError: naming the manifest, the mount, and what to write instead.
        """
        made: dict[tuple[str, str], _Mounted] = {}
        for number, mount in enumerate(mounts):
            try:
                mounted = _Mounted(cell, mount)
                if (cell.id, mounted.pattern) in made:
                    raise ValueError(f"path {mount.path!r} is served already")
                for method in _METHODS:
                    front.register(HTTP, cell.id, method, mounted.pattern, settle=False)
            except (ValueError, OSError, RouteInvalid, RouteConflict) as error:
                where = f'{cell.manifest}: [settings."transport.http.inbound"]: static[{number}]'
                raise ExtensionError(f"{where}: {error}") from None
            made[cell.id, mounted.pattern] = mounted
        self._mounts.update({**dict.fromkeys(self._of(cell.id)), **made})

    def swap_begin(self, cell_id: str) -> None:
        """Remember a cell's mounts, for the case that its next version is not adopted."""
        self._before[cell_id] = self._of(cell_id)

    def swap_end(self, cell_id: str, *, adopted: bool) -> None:
        """Bring back the mounts of the old version if it goes on."""
        before = self._before.pop(cell_id, {})
        if not adopted:
            self._mounts.update({**dict.fromkeys(self._of(cell_id)), **before})

    def _of(self, cell_id: str) -> dict[tuple[str, str], _Mounted | None]:
        return {key: mounted for key, mounted in self._mounts.items() if key[0] == cell_id}

    def check(self, cell_id: str, method: str, pattern: str) -> None:
        """Refuse a route of a cell that would never be reached behind one of its mounts.

        Raises:
            RouteInvalid: naming the mount.
        """
        if self.is_mount(cell_id, method, pattern):
            raise RouteInvalid(f"{method} {pattern} is what a folder is served on; serve it elsewhere, or not")

    def is_mount(self, cell_id: str, method: str, pattern: str) -> bool:
        """Tell whether a route of a cell is that of one of its mounts."""
        if not self._mounts or method.strip().upper() not in _METHODS:
            return False
        head, star, _rest = pattern.partition("/*")
        return bool(star) and self._mounts.get((cell_id, f"{head}/*")) is not None

    def serve(self, request: Request, match: Match, front: Front) -> bool:
        """Answer a request if its route is a mount; False if it is the cell's own."""
        key = (match.owner, match.pattern)
        if key not in self._mounts:
            return False
        mounted, name = self._mounts[key], match.params.get("", "")
        if mounted is None:
            front.answer(request, answers.not_found())
            return True
        if not name and not request.line.path.endswith("/"):
            self._redirect(front, request)
            return True
        found = self._kept.get((mounted, name))
        if found is not None:
            self._kept.move_to_end((mounted, name))
            now = asyncio.get_running_loop().time()
            if now - found.checked < FRESH_SECONDS and self._at_once(front, request, found):
                return True
            found.checked = now  # who comes meanwhile need not ask the disk too
        task = asyncio.get_running_loop().create_task(self._serve(front, mounted, request, name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    # Answers ----------------------------------------------------------------------------------------------------

    async def _serve(self, front: Front, mounted: _Mounted, request: Request, name: str) -> None:
        try:
            await self._answer(front, mounted, request, name)
        except Exception as error:  # nobody waits for the task; the client still has to be told
            mounted.log.error("file not served", path=request.line.path[:200], error=repr(error), exc_info=error)
            front.answer(request, answers.error(500, "file not readable"))

    async def _answer(self, front: Front, mounted: _Mounted, request: Request, name: str) -> None:
        found = await self._look(mounted, name)
        if found is not None and found.folder and name and not name.endswith("/"):
            self._redirect(front, request)
            return
        resource = None if found is None else found.resource
        if resource is None and mounted.fallback and wants_a_page(request.block.fields):
            found = await self._look(mounted, mounted.fallback)
            resource = None if found is None else found.resource
        if resource is None:
            front.answer(request, answers.not_found())
        elif not self._at_once(front, request, resource):
            await self._in_pieces(mounted, request, resource)

    async def _look(self, mounted: _Mounted, name: str) -> Found | None:
        """Ask the disk for a file; None if there is none that anybody may have."""
        parts = parts_of(name)
        if parts is None:
            return None
        key = (mounted, name)
        known = self._kept.get(key)
        try:
            found = await asyncio.to_thread(
                look, mounted.root, parts, index=mounted.index, headers=mounted.headers, known=known
            )
        except OSError as error:
            self._keep(key, None)
            if isinstance(error, PathRefused) or error.errno in _NOT_OURS:
                mounted.log.warning("file refused", path=name[:200], reason=error.strerror or str(error))
            elif error.errno not in _NOT_THERE:
                raise
            return None
        self._keep(key, found.resource)
        return found

    def _keep(self, key: tuple[_Mounted, str], resource: Resource | None) -> None:
        """Remember a file, or forget it; forget others if there is no room."""
        before = self._kept.pop(key, None)
        if before is not None:
            self._weight -= before.weight
        if resource is None:
            return
        resource.checked = asyncio.get_running_loop().time()
        self._kept[key] = resource
        self._weight += resource.weight
        while self._weight > KEPT_BYTES:
            _key, oldest = self._kept.popitem(last=False)
            self._weight -= oldest.weight

    def _at_once(self, front: Front, request: Request, resource: Resource) -> bool:
        """Answer from memory; False if the disk has to be read for it."""
        fields = request.block.fields
        variant = resource.variants[codings(fields, resource.variants)]
        status = condition(fields, variant.version)
        if status != 200:
            front.answer(request, _without_body(status, variant))
            return True
        try:
            wanted = part(fields, variant.version, variant.size) if request.line.method == "GET" else None
        except ValueError:
            front.answer(request, _unsatisfiable(variant))
            return True
        if request.line.method == "HEAD":
            front.answer(request, Answer(variant.fields, b""))
        elif variant.body is None:
            return False
        elif wanted is None:
            front.answer(request, Answer(variant.fields, variant.body))
        else:
            front.answer(request, Answer(_partial(variant, wanted), variant.body[wanted.start : wanted.end]))
        return True

    async def _in_pieces(self, mounted: _Mounted, request: Request, resource: Resource) -> None:
        """Send a file that is too long to keep, as fast as its client takes it."""
        fields = request.block.fields
        variant = resource.variants[codings(fields, resource.variants)]
        wanted = part(fields, variant.version, variant.size)
        at, end = wanted or (0, variant.size)
        piece = await _read(mounted, variant, at, end)
        stream = request.connection.begin(request, variant.fields if wanted is None else _partial(variant, wanted))
        if stream is None:
            return
        room = asyncio.Event()
        stream.on_room = stream.on_close = room.set
        try:
            while True:
                stream.write(piece)
                at += len(piece)
                if at >= end or not await _room(stream, room):
                    break
                piece = await _read(mounted, variant, at, end)
            stream.end()
        except (Changed, OSError) as error:
            mounted.log.warning("file broken off", path=request.line.path[:200], reason=repr(error))
            stream.abort()

    def _redirect(self, front: Front, request: Request) -> None:
        """Send a client to the folder's own path, so that what is in it has the right one."""
        line = request.line
        query = line.target.partition("?")[1:]
        location = quote(line.prefix + line.path, safe="/:@!$&'()*+,;=~") + "/" + "".join(query)
        front.answer(request, answers.redirect(location, line.method))


def parts_of(name: str) -> list[bytes] | None:
    """Return the components of a path below a folder, the last one empty for a folder; None for what nobody may have.

    Hidden files are nobody's, `.well-known` at the top is anybody's.
    """
    parts = name.split("/")
    for number, one in enumerate(parts):
        hidden = one.startswith(".") and not (one == _WELL_KNOWN and not number)
        if hidden or "\\" in one or not one.isprintable() or (not one and number < len(parts) - 1):
            return None
    return [one.encode() for one in parts]


async def _read(mounted: _Mounted, variant: Variant, at: int, end: int) -> bytes:
    return await asyncio.to_thread(read_part, mounted.root, variant, Part(at, min(end, at + PIECE_BYTES)))


async def _room(stream: ResponseStream, room: asyncio.Event) -> bool:
    """Wait until a client takes more; False when it will not."""
    while stream.full and not stream.closed:
        room.clear()
        await room.wait()
    return not stream.closed


def _partial(variant: Variant, wanted: Part) -> RenderedFields:
    content_range = f"bytes {wanted.start}-{wanted.end - 1}/{variant.size}"
    length = str(wanted.end - wanted.start)
    return render_head_fields(206, {**variant.headers, "Content-Range": content_range, "Content-Length": length})


def _without_body(status: int, variant: Variant) -> Answer:
    """Return 304 or 412."""
    if status == 412:
        return answers.error(412, "precondition failed")
    kept = ("Cache-Control", "ETag", "Last-Modified", "Vary")
    headers = {name: value for name, value in variant.headers.items() if name in kept}
    return Answer(render_head_fields(304, headers), b"")


def _unsatisfiable(variant: Variant) -> Answer:
    headers = {"Content-Range": f"bytes */{variant.size}", "Content-Type": "text/plain; charset=utf-8"}
    return Answer(render_head_fields(416, headers), b"range not satisfiable\n")
