import socket

import pytest

from mmpose_attn.apis.addresses import host_name, is_loopback, link, listen, visitor


@pytest.mark.parametrize(
    'host, loopback, address',
    [
        ('127.0.0.1', True, 'http://127.0.0.1:'),
        ('127.3.2.1', True, 'http://127.3.2.1:'),
        ('localhost', True, 'http://localhost:'),
        ('::1', True, 'http://[::1]:'),
        ('[::1]', True, 'http://[::1]:'),
        ('0.0.0.0', False, 'http://127.0.0.1:'),
        ('::', False, 'http://[::1]:'),
    ],
)
def test_listening(host, loopback, address):
    if ':' in host and not socket.has_ipv6:
        pytest.skip('this machine has no IPv6')
    with listen(host, 0) as listening:
        found, port = listening.getsockname()[:2]
        assert is_loopback(found) == loopback
        assert link(host, found, port) == f'{address}{port}/'
        with pytest.raises(OSError, match='in use'):
            listen(host, port)


def test_what_a_name_stands_for_decides(monkeypatch):
    own = [(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('0.0.0.0', 0))]
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *args, **kwargs: own)
    with listen('localhost.example.org', 0) as listening:
        assert not is_loopback(listening.getsockname()[0])


@pytest.mark.parametrize(
    'address, loopback',
    [
        *(('::ffff:127.0.0.1', True), ('192.168.1.5', False), ('fe80::1%eth0', False)),
        *(('10.0.0.1', False), ('::ffff:10.0.0.1', False), ('fd00::1', False)),
    ],
)
def test_loopback(address, loopback):
    assert is_loopback(address) == loopback


def test_no_address():
    for host in ('', '[]'):
        with pytest.raises(ValueError, match='host is empty'):
            listen(host, 0)
    for host in ('no such host', 'x' * 300, '192.0.2.1'):
        with pytest.raises(OSError):
            listen(host, 0)
    with pytest.raises(ValueError, match='port is from 0'):
        listen('127.0.0.1', -1)


def test_names():
    assert host_name('Pose.Example.ORG.:80') == 'pose.example.org'
    assert host_name('[0:0::1]:80') == host_name('[::1]') == '::1'
    assert host_name('[::ffff:10.0.0.1]') == '10.0.0.1'
    for header in ('', '.', 'a b', 'a@b', '[::1', '[x]', '[:::]', 'a:b', 'a:99999', 'a/b', '*'):
        assert host_name(header) is None


def test_who_counts_as_one():
    assert visitor('::ffff:10.0.0.1') == visitor('10.0.0.1') != visitor('10.0.0.2')
    assert visitor('2001:db8::1') == visitor('2001:db8::ffff:2%eth0') != visitor('2001:db8:0:1::1')
