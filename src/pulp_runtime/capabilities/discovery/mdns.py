"""`discovery.mdns`: find services on the local network, and offer some (spec/capabilities §16; RFC 6762, RFC 6763).

The host has one responder for all cells, made when the first of them asks for something. It says goodbye for a cell's
services when the cell goes, and for all of them when the host begins to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from pulp_runtime.abi.mdns import MdnsAnnounce, MdnsBrowse, MdnsService
from pulp_runtime.capabilities.operator import Variable, operator_settings
from pulp_runtime.capabilities.waiting import LoopDoor
from pulp_runtime.ext import Capability, CellRef, Errno, ExtensionError, Guest, HostError, SetupEnv, host_function

if TYPE_CHECKING:  # it takes a tenth of a second to import: not before a cell asks
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

NAME: Final = "discovery.mdns"
DEFAULT_SERVICE: Final = "_projx._tcp"
DEFAULT_MS: Final = 2_500
MOST_MS: Final = 10_000
MOST_FOUND: Final = 256
MOST_ANNOUNCED: Final = 16
"""Services of one cell."""
TOO_MANY: Final = 16
MAX_INSTANCE_BYTES: Final = 63
_SERVICE: Final = re.compile(
    r"(_(?=[A-Za-z0-9-]*[A-Za-z])(?!-)(?!.*--)[A-Za-z0-9-]{1,15}(?<!-)\._(?:tcp|udp))(?:\.local\.?)?"
)
"""RFC 6763 §7, RFC 6335 §5.1."""
_MARGIN_SECONDS: Final = 0.25
"""How long before the call's deadline an answer is given, so that it still can be used."""
_GOODBYE_SECONDS: Final = 3.0


class MdnsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator may set.

    Attributes:
        interfaces: addresses of the interfaces to speak on; all of them when empty.
        services: what cells may look for and offer, such as `_http._tcp`; anything when empty.
    """

    interfaces: tuple[str, ...] = ()
    services: tuple[str, ...] = ()


VARIABLES: Final = {"interfaces": Variable("MDNS_INTERFACES"), "services": Variable("MDNS_SERVICES")}


class MdnsCellSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a cell's manifest may set.

    Attributes:
        services: of what the operator allows, only these; all of it when empty.
    """

    services: tuple[str, ...] = ()


class Mdns:
    """The host's responder."""

    def __init__(self) -> None:
        self._env: SetupEnv | None = None
        self._settings = MdnsSettings()
        self._own: Final[dict[str, MdnsCellSettings]] = {}
        self._door: Final = LoopDoor()
        self._host: Final = f"pulp-{secrets.token_hex(4)}.local."
        self._responder: AsyncZeroconf | None = None
        self._made: asyncio.Lock | None = None
        self._announced: Final[dict[str, dict[str, AsyncServiceInfo]]] = {}
        self._leaving: Final[set[asyncio.Future[None]]] = set()
        self._telling: Final[set[asyncio.Future[None]]] = set()

    # What cells call --------------------------------------------------------------------------------------------

    @host_function(blocking=True)
    def mdns_browse(self, guest: Guest, request: MdnsBrowse | None) -> list[MdnsService]:
        """Listen for a while; answer who offers a service.

        Answers 4 for a service that is none, 10 when the host cannot speak mDNS, 11 for a service that is not allowed.
        """
        asked = request or MdnsBrowse()
        service = self._service(guest.cell, asked.service)
        window = min(asked.timeout_ms if asked.timeout_ms > 0 else DEFAULT_MS, MOST_MS) / 1000
        window = max(0.0, min(window, guest.seconds_left() - _MARGIN_SECONDS))
        try:
            return self._door.run(lambda: self._browse(service, window), guest.seconds_left())
        except TimeoutError:
            return []
        except OSError as error:
            raise self._unavailable(guest.cell, error) from None

    @host_function(blocking=True)
    def mdns_announce(self, guest: Guest, request: MdnsAnnounce) -> None:
        """Offer a service until the cell goes.

        Answers 4 for a name, a service or a port that is none, for a name that is taken, and when it takes too long,
        10 when the host cannot speak mDNS, 11 for a service that is not allowed, 16 when the cell offers 16 already.
        """
        cell = guest.cell
        service = self._service(cell, request.service)
        size = len(request.instance.encode(errors="replace"))
        if not 0 < size <= MAX_INSTANCE_BYTES or not request.instance.isprintable() or not 0 < request.port <= 0xFFFF:
            raise HostError(Errno.FAILED, "instance: 1 to 63 bytes that can be printed; port: 1 to 65535")
        try:
            self._door.run(lambda: self._announce(cell, request.instance, service, request.port), guest.seconds_left())
        except TimeoutError:
            raise HostError(Errno.FAILED, "it takes too long") from None
        except OSError as error:
            raise self._unavailable(cell, error) from None
        except HostError as error:
            cell.log.warning("mdns service not announced", instance=request.instance, reason=error.detail)
            raise

    def _service(self, cell: CellRef, asked: str) -> str:
        if self._env is None:
            raise HostError(Errno.UNAVAILABLE, "discovery.mdns is not set up")
        try:
            service = plain_service(asked or DEFAULT_SERVICE)
        except ValueError as error:
            raise HostError(Errno.FAILED, str(error)) from None
        for allowed in (self._settings.services, self._own[cell.id].services):
            if allowed and service not in map(plain_service, allowed):
                cell.log.warning("mdns service refused", service=service, reason="not in services")
                raise HostError(Errno.DENIED, f"{service}: not in services")
        return service

    def _unavailable(self, cell: CellRef, error: OSError) -> HostError:
        cell.log.warning("mdns unavailable", reason=str(error))
        return HostError(Errno.UNAVAILABLE, str(error))

    # On the loop ------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        self._made = asyncio.Lock()
        with self._door.opened() as loop:
            try:
                await loop.create_future()
            finally:
                self._made = None
                responder, self._responder = self._responder, None
                if responder is not None:  # it says goodbye for everything that is announced
                    for task in self._telling:
                        task.cancel()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(responder.async_close(), _GOODBYE_SECONDS)

    async def _speaker(self) -> AsyncZeroconf:
        """Return the responder; OSError where there is no network for it."""
        from zeroconf import InterfaceChoice
        from zeroconf.asyncio import AsyncZeroconf

        if self._made is None:
            raise HostError(Errno.UNAVAILABLE, "the host stops")
        async with self._made:
            if self._responder is None:
                interfaces = list(self._settings.interfaces) or InterfaceChoice.All
                self._responder = AsyncZeroconf(interfaces=interfaces)
                await self._responder.zeroconf.async_wait_for_start()
            return self._responder

    async def _browse(self, service: str, window: float) -> list[MdnsService]:
        from zeroconf import DNSQuestionType
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo

        # Answers to one asker alone get lost where another responder of this machine has the same port.
        to_all = DNSQuestionType.QM
        kind = f"{service}.local."
        zeroconf = (await self._speaker()).zeroconf
        found: dict[str, AsyncServiceInfo] = {}
        asking: set[asyncio.Task[bool]] = set()
        end = asyncio.get_running_loop().time() + window

        def heard(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
            if state_change.name == "Removed":
                found.pop(name, None)
            elif name not in found and len(found) < MOST_FOUND:
                found[name] = info = AsyncServiceInfo(service_type, name)
                left = max(0.0, end - asyncio.get_running_loop().time())
                asking.add(asyncio.ensure_future(info.async_request(zeroconf, left * 1000, to_all)))

        browser = AsyncServiceBrowser(zeroconf, kind, handlers=[heard], question_type=to_all)
        try:
            await asyncio.sleep(window)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(browser.async_cancel(), *asking, return_exceptions=True)
        known = [(name.removesuffix(f".{kind}"), address(info)) for name, info in found.items()]
        return [MdnsService(name, addr) for name, addr in sorted(known) if addr]

    async def _announce(self, cell: CellRef, instance: str, service: str, port: int) -> None:
        from zeroconf import Error
        from zeroconf.asyncio import AsyncServiceInfo

        if len(self._announced.get(cell.id, ())) >= MOST_ANNOUNCED:
            raise HostError(TOO_MANY, f"the cell offers {MOST_ANNOUNCED} services")
        if self._leaving:
            await asyncio.wait(self._leaving)  # the same name may be on its way out
        responder = await self._speaker()
        name = f"{instance}.{service}.local."
        if any(name in own for own in self._announced.values()):
            raise HostError(Errno.FAILED, "the name is taken by a cell of this host")
        info = AsyncServiceInfo(
            f"{service}.local.",
            name,
            port=port,
            parsed_addresses=list(own_addresses(self._settings.interfaces)),
            server=self._host,
        )
        own = self._announced.setdefault(cell.id, {})
        own[name] = info
        try:
            telling = await responder.async_register_service(info)
        except Error as error:
            own.pop(name, None)
            raise HostError(Errno.FAILED, f"{type(error).__name__}: {error}") from None
        except BaseException:
            own.pop(name, None)
            raise
        _keep(self._telling, asyncio.ensure_future(telling))
        if self._announced.get(cell.id) is not own:  # the cell went meanwhile
            await self._withdraw([info])

    async def _withdraw(self, infos: list[AsyncServiceInfo]) -> None:
        responder = self._responder
        for info in infos if responder is not None else ():
            with contextlib.suppress(Exception):  # it was not registered yet, or the network is gone
                await (await responder.async_unregister_service(info))  # type: ignore[union-attr]

    def _leave(self, infos: list[AsyncServiceInfo]) -> None:
        if self._door.loop is not None:
            _keep(self._leaving, asyncio.ensure_future(self._withdraw(infos)))

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Read the operator's settings; nothing is sent before a cell asks."""
        self._settings = operator_settings(env, MdnsSettings, VARIABLES)
        _check(self._settings.services)
        for interface in self._settings.interfaces:
            try:
                ipaddress.ip_address(interface)
            except ValueError:
                raise ExtensionError(f"interfaces: {interface!r} is no address of an interface") from None
        self._env = env
        env.spawn(self._serve())

    def setup_cell(self, cell: CellRef) -> None:
        """Read what the cell's manifest leaves it."""
        own = cell.settings(NAME, MdnsCellSettings)
        _check(own.services)
        self._own[cell.id] = own

    def teardown_cell(self, cell_id: str) -> None:
        """Say goodbye for the cell's services."""
        gone = self._announced.pop(cell_id, {})
        if gone and self._env is not None:
            infos = list(gone.values())
            self._env.defer(lambda: self._leave(infos))

    def teardown(self) -> None:
        """Forget everything; the responder ended with its task."""
        self._announced.clear()
        self._own.clear()
        self._env = None


def plain_service(text: str) -> str:
    """Return a service as `_name._tcp` or `_name._udp`, lower case; ValueError if it is none."""
    match = _SERVICE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no service such as _http._tcp")
    return match[1].lower()


def _keep(tasks: set[asyncio.Future[None]], task: asyncio.Future[None]) -> None:
    """Hold on to a task until it is done: the loop itself does not."""
    tasks.add(task)
    task.add_done_callback(tasks.discard)


def _check(services: tuple[str, ...]) -> None:
    for service in services:
        try:
            plain_service(service)
        except ValueError as error:
            raise ExtensionError(f"services: {error}") from None


def address(info: AsyncServiceInfo) -> str:
    """Return where a service is, IPv4 if it has any; "" while nobody has said."""
    addresses = [ipaddress.ip_address(text) for text in info.parsed_addresses()]
    usable = [one for one in addresses if one.version == 4 or not one.is_link_local]  # that would need a zone
    if not usable or not info.port:
        return ""
    best = min(usable, key=lambda one: one.version)
    return f"http://{best}:{info.port}" if best.version == 4 else f"http://[{best}]:{info.port}"


def own_addresses(interfaces: tuple[str, ...]) -> Iterator[str]:
    """Return the addresses that a service of this machine has: of the interfaces; loopback if there is no other."""
    import ifaddr

    if interfaces:
        yield from interfaces
        return
    there = [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    known = [ipaddress.ip_address(text) for text in there]
    outside = [str(one) for one in known if not one.is_loopback and not one.is_link_local]
    yield from outside or ["127.0.0.1"]


def capability() -> Capability:
    """Return the capability."""
    return Capability.of(NAME, Mdns())
