"""What pose networks and detectors are built and run with."""

import copy
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from torch import nn

from mmpose_attn.engine import CheckpointError, whole_weights


def check_count(name: str, value: int) -> None:
    """Raise a :class:`ValueError` for what is no number of things."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < 1:
        kind = 'positive' if whole else 'a whole number'
        raise ValueError(f'{name} must be {kind}, got {value!r}')


def check_device(device: str) -> str:
    """``'auto'`` becomes what there is; raises ValueError for a device that is not there."""
    if device == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    message = f"device is 'auto', 'cpu', 'cuda' or 'cuda:N', got {device!r}"
    try:
        kind = torch.device(device)
    except RuntimeError as error:
        raise ValueError(message) from error
    if kind.type not in ('cpu', 'cuda'):
        raise ValueError(message)
    if kind.type == 'cuda' and (kind.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device!r}: torch sees {torch.cuda.device_count()} GPUs; 'auto' takes the CPU "
            'where there is none'
        )
    return device


@contextmanager
def naming(what: str | os.PathLike | Config) -> Iterator[None]:
    """Whatever goes wrong with a config becomes a ValueError that names it."""
    try:
        yield
    except Exception as error:
        name = what.filename if isinstance(what, Config) else what
        reason = ' '.join(str(error).split())
        raise ValueError(
            f'config {name or "(no file)"} cannot be used: {type(error).__name__}: {reason}'
        ) from error


def find_config(name: str | os.PathLike, folder: Path) -> Path:
    """A config file, or the one below ``folder`` that has this name or alone begins with it.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several.
    """
    if os.path.isfile(name):
        return Path(name)
    name = os.fspath(name)
    configs = sorted(folder.rglob('*.py')) if '/' not in name else []
    exact = [path for path in configs if path.stem == name.removesuffix('.py')]
    found = exact or [path for path in configs if path.stem.startswith(f'{name}_')]
    if not found:
        raise FileNotFoundError(f'config not found: {name}, neither as a file nor in {folder}')
    if len(found) > 1:
        raise ValueError(
            f'config {name} can be {", ".join(path.stem for path in found)}: give one of them'
        )
    return found[0]


def read_config(config: str | os.PathLike | Config, folder: Path) -> Config:
    """A config to be changed: a copy, or what :func:`find_config` finds.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several, or it cannot be read.
    """
    if isinstance(config, Config):
        return copy.deepcopy(config)
    path = find_config(config, folder)
    with naming(path):
        return Config.fromfile(path)


def load_weights(
    model: nn.Module, checkpoint: str | os.PathLike, strict: bool = True
) -> dict[str, Any]:
    """Load a checkpoint that must fit; returns its ``meta``.

    Args:
        model: the whole network.
        checkpoint: file or address.
        strict: whether every tensor of the network must be in it; otherwise what
            is missing stays random, with MMEngine's warning.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a tensor is missing, has another shape or is not finite,
            nothing is for this model, or it is no checkpoint
            (:class:`CorruptCheckpointError` if it cannot be read).
        CheckpointError: it asks for code, or could not be downloaded.
    """
    remedy = 'strict=False (--allow-missing of the tools) goes on without.'
    try:
        # after the hooks with which a model renames the keys of published checkpoints
        with whole_weights(model, remedy, strict):
            contents = load_checkpoint(model, os.fspath(checkpoint), map_location='cpu')
    except CheckpointError:
        raise
    except ValueError as error:
        raise ValueError(f'{checkpoint}: {error}') from error
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f'{checkpoint} is no checkpoint of a network ({error})') from error
    meta = contents.get('meta')
    return meta if isinstance(meta, dict) else {}


def _shape(sample: dict) -> tuple:
    inputs = sample['inputs']
    return tuple(tuple(x.shape) for x in (inputs if isinstance(inputs, list) else [inputs]))


def batches(samples: Iterable[tuple[int, dict]], size: int) -> Iterator[list[tuple[int, dict]]]:
    """Group (key, sample) by the shape of ``inputs``, in batches of at most ``size``.

    Nothing is padded, so that what is found in a sample does not depend on the others.
    """
    waiting: dict[tuple, list] = {}
    for key, sample in samples:
        group = waiting.setdefault(_shape(sample), [])
        group.append((key, sample))
        if len(group) == size:
            yield waiting.pop(_shape(sample))
    yield from waiting.values()
