"""Where the page listens, what it is called there, and who asks."""

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

LOOPBACK_NAMES = 'localhost', '127.0.0.1', '::1'
_HOST = re.compile(r'(?:\[([0-9a-f:.]+)\]|([a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?))(?::(\d{1,5}))?')


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at the first address of a name.

    Raises:
        OSError: the name is not known, or the address or port cannot be used.
        ValueError: there is no name, or no such port.
    """
    host = host.removeprefix('[').removesuffix(']')
    if not host:
        raise ValueError("host is empty: '127.0.0.1' is this machine alone, '0.0.0.0' everybody")
    if not 0 <= port < 2**16:
        raise ValueError(f'port is from 0, for any that is free, to 65535, got {port}')
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise OSError(f'host {host!r} is no address of this machine: {error}') from error
    both = family == socket.AF_INET6 and address[0] == '::' and socket.has_dualstack_ipv6()
    listening = socket.create_server(address, family=family, dualstack_ipv6=both)
    # or every short answer would wait for 40 ms
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address that a socket listens at."""
    return _plain(address).is_loopback


def is_wildcard(address: str) -> bool:
    """Whether an address stands for all of this machine."""
    return _plain(address).is_unspecified


def link(host: str, address: str, port: int) -> str:
    """The page's address for a browser on this machine, which listens at ``address``."""
    host = host.removeprefix('[').removesuffix(']')
    if is_wildcard(address):
        host = '127.0.0.1' if _plain(address).version == 4 else '::1'
    return f'http://{f"[{host}]" if ":" in host else host}:{port}/'


def host_name(header: str) -> str | None:
    """The name in a ``Host`` header or a URL: lower case, without port; None if it is none.

    Addresses come in their shortest form, without brackets.
    """
    found = _HOST.fullmatch(header.lower())
    if found is None or int(found[3] or 0) >= 2**16:
        return None
    if found[1] is None:
        return found[2].removesuffix('.')
    try:
        return str(_plain(found[1]))
    except ValueError:
        return None


def visitor(address: str) -> str:
    """Who counts as one: an IPv4 address, or the network that one IPv6 line has to itself."""
    plain = _plain(address)
    return str(plain if plain.version == 4 else ip_network((plain, 64), strict=False))


def plain_address(address: str) -> str:
    """An IPv4 address that came as an IPv6 one, or an address as it is."""
    return str(_plain(address))


def _plain(address: str) -> IPv4Address | IPv6Address:
    found = ip_address(address.partition('%')[0])
    return getattr(found, 'ipv4_mapped', None) or found
