"""What a checkpoint file, and then its contents, must be before anything is made of them.

``torch.load`` with ``weights_only`` runs no code of a file, but believes it: how large a compressed
part becomes, that what lies in it is what was saved, and how often a tensor repeats its memory.
"""

import os
import zipfile
from collections.abc import Mapping
from typing import Any

import torch

_CHUNK = 2**20
_MOST_DEPTH = 64  # of containers in each other; MMEngine's nest about six deep
_MOST_NODES = 50_000_000  # if what is shared is counted wherever it stands
_MOST_REPEATED = 2**26  # bytes of a tensor that has less memory than values


def check_archive(path: str | os.PathLike) -> None:
    """Refuse a zip archive, which is what torch saves, that grows when it is read or is damaged.

    Raises:
        ValueError: Its parts are larger than the file, or do not have their checksums.
    """
    with open(path, 'rb') as file:
        if file.read(4) != b'PK\x03\x04':
            return  # torch's older format
        try:
            with zipfile.ZipFile(file) as archive:
                parts = archive.infolist()
                size, total = os.path.getsize(path), sum(part.file_size for part in parts)
                if total > size:
                    raise ValueError(f'its parts are said to have {total:,} bytes')
                for part in parts:
                    if part.CRC:  # torch writes none if told so: set_crc32_options(False)
                        _check_sum(archive, part)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise ValueError(f'not a whole zip archive ({error})') from error


def _check_sum(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    with archive.open(part) as contents:  # at its end the checksum is compared
        while contents.read(_CHUNK):
            pass


def check_contents(contents: Any) -> None:
    """Refuse what takes more memory or time than its file says.

    Raises:
        ValueError: Containers or tensors are far larger than what was saved.
    """
    _check_value(contents, {}, 0)


def check_layout(contents: Any) -> Any:
    """Refuse what a whole file may hold and no checkpoint does.

    Also takes out ``meta.config``, the code of a whole config where MMCV 1 wrote the checkpoint:
    MMEngine's runner would execute it when it resumes, to learn the number of GPUs.

    Raises:
        ValueError: Weights and what is about them are no dictionaries, or weights have no names.
    """
    if not isinstance(contents, Mapping):
        return contents  # no state dict, as MMEngine will say
    for key in ('state_dict', 'meta', 'message_hub'):
        if not isinstance(contents.get(key, {}), Mapping):
            raise ValueError(f'its {key} is a {type(contents[key]).__name__} and no dictionary')
    if not all(isinstance(key, str) for key in contents.get('state_dict', contents)):
        raise ValueError('a name of its weights is no text')
    contents.get('meta', {}).pop('config', None)
    return contents


def _check_value(value: Any, sizes: dict[int, int], depth: int) -> int:
    """How many values one is, with what is shared counted wherever it stands."""
    if isinstance(value, torch.Tensor):
        _check_tensor(value)
        return 1
    if isinstance(value, Mapping):
        children = value.values()
    elif isinstance(value, (list, tuple, set)):
        children = value
    else:
        return 1
    if depth > _MOST_DEPTH:  # also what contains itself
        raise ValueError(f'its contents are nested deeper than {_MOST_DEPTH}')
    if id(value) not in sizes:
        sizes[id(value)] = 1 + sum(_check_value(each, sizes, depth + 1) for each in children)
        if sizes[id(value)] > _MOST_NODES:
            raise ValueError(f'its contents repeat to more than {_MOST_NODES:,} values')
    return sizes[id(value)]


def _check_tensor(tensor: torch.Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_nested:
        raise ValueError(f'a tensor is not an ordinary one ({tensor.layout}, {tensor.device})')
    size = tensor.numel() * tensor.element_size()
    if size > max(_MOST_REPEATED, tensor.untyped_storage().nbytes()):
        raise ValueError(f'a tensor of {tuple(tensor.shape)} repeats the few numbers that it has')
