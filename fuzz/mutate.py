"""Damaged and hostile variants of good files; the same generator gives the same ones."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 1.5, -1e-300, 1e300, 2**31, 2**63, -(2**63) - 1, 10**400, float('nan'),
    float('inf'), '', '0', '../../x', '/etc/passwd', 'a\0b', '\x1b[31m', '\ud800', '=1+1',
    'x' * 5000, [], {}, [[]], [1, 2, 3], ['a'], [None] * 4, [1e9] * 51, [[0, 0]],
    [[1, 1, 2, 2, 3]], {'id': 1}, {'counts': [1], 'size': [2, 2]},
    {'size': [10**6, 10**6], 'counts': 'zz'},
)  # fmt: skip

Mutator = Callable[[bytes, Random, Sequence[bytes]], bytes]


def mutate_bytes(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """A few random changes: of bits, bytes and numbers, parts cut out, twice or foreign."""
    data = bytearray(data)
    for _ in range(min(1 + int(random.expovariate(0.5)), 12)):
        if not data:
            break
        # headers are where sizes are
        place = random.randrange(len(data) if random.random() < 0.6 else min(len(data), 256))
        length = random.choice((1, 2, 4, 8, random.randint(1, 64), random.randint(1, len(data))))
        kind = random.randrange(8)
        if kind == 0:
            data[place] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[place] = random.randrange(256)
        elif kind == 2:
            size = random.choice((1, 2, 4, 8))
            number = random.choice(_NUMBERS) % 2 ** (8 * size)
            data[place : place + size] = number.to_bytes(size, random.choice(('big', 'little')))
        elif kind == 3:
            del data[place : place + length]
        elif kind == 4:
            data[place:place] = data[place : place + length]
        elif kind == 5:
            data[place:place] = random.randbytes(min(length, 4096))
        elif kind == 6 and others:
            other = random.choice(others)
            start = random.randrange(len(other))
            data[place : place + length] = other[start : start + length]
        elif kind == 7 and random.random() < 0.3:
            del data[place:]
    return bytes(data)


# --------------------------------------------------------------------------------------- JSON
def mutate_json(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """Changes of values, types, keys and depth; now and then of the text."""
    if random.random() < 0.2:
        return mutate_bytes(data, random, others)
    text = data.decode()
    lines = text.splitlines() if text.startswith('{') and '}\n{' in text else [text]
    for _ in range(min(1 + int(random.expovariate(0.7)), 6)):
        place = random.randrange(len(lines))
        try:
            lines[place] = json.dumps(_changed(json.loads(lines[place]), random))
        except (ValueError, OverflowError, RecursionError):
            break
    text = '\n'.join(lines) + '\n'
    odd = random.random()
    if odd < 0.03:
        text = text.replace('{', '{"id": 1, "id": 2, ', 1)
    elif odd < 0.05:
        depth = random.choice((70, 1000, 200_000))
        text = text.replace('[', '[' * depth, 1)
    elif odd < 0.07:
        text = text.replace(random.choice('0123456789'), '9' * random.choice((19, 400, 5000)), 1)
    encoding = 'utf-16' if random.random() < 0.02 else 'utf-8'
    return text.encode(encoding, 'surrogatepass')


def _changed(value: Any, random: Random, depth: int = 0) -> Any:
    """The value with one place in it changed."""
    if isinstance(value, (dict, list)) and value and (depth < 1 or random.random() < 0.85):
        key = random.choice(list(value) if isinstance(value, dict) else range(len(value)))
        kind = random.random()
        if kind < 0.08:
            del value[key]
        elif kind < 0.12 and isinstance(value, list):
            value.append(value[key])
        elif kind < 0.14 and isinstance(value, dict):
            value[random.choice(('id', 'image_id', 'x' * 300, '', '\0'))] = value.pop(key)
        else:
            value[key] = _changed(value[key], random, depth + 1)
        return value
    if isinstance(value, (int, float)) and random.random() < 0.4:
        return random.choice((-value, value + 1, value * 10**6, float(value), str(value), [value]))
    if random.random() < 0.03:
        for _ in range(random.choice((5, 70, 300))):
            value = [value]
        return value
    return random.choice(_VALUES)


# ----------------------------------------------------------------- formats with checksums
def mutate_zip(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """Damage inside the parts of a zip archive, whose checksums are right again; or anywhere."""
    if random.random() < 0.3 or not data.startswith(b'PK'):
        return mutate_bytes(data, random, others)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(made, 'w') as new:
        names = archive.namelist()
        first = next((name for name in names if name.endswith('.pkl')), names[0])
        chosen = first if random.random() < 0.8 else random.choice(names)
        for name in names:
            part = archive.read(name)
            new.writestr(name, mutate_bytes(part, random) if name == chosen else part)
        if random.random() < 0.05:
            new.writestr('../../left', b'x')
        if random.random() < 0.05:
            new.writestr('archive/bomb', bytes(2**28), zipfile.ZIP_DEFLATED)
    return made.getvalue()


def mutate_png(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """Damage whose checksums are right again, mostly; anything that is no PNG anyhow."""
    changed = mutate_bytes(data, random, others)
    if not changed.startswith(b'\x89PNG') or random.random() < 0.3:
        return changed
    changed, place = bytearray(changed), 8
    while place + 12 <= len(changed):
        (length,) = struct.unpack_from('>I', changed, place)
        end = place + 8 + length
        if end + 4 > len(changed):
            break
        struct.pack_into('>I', changed, end, zlib.crc32(changed[place + 4 : end]))
        place = end + 4
    return bytes(changed)
