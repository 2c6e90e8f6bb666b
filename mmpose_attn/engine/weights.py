"""Does a checkpoint belong to this network, all of it, and are its numbers numbers?

MMEngine's loader only logs a warning where a tensor of a checkpoint is missing or does not fit, and
goes on with random weights in its place. What is registered here on a module turns that into an
error, by torch's own hooks, whoever loads: MMEngine, torch, or a larger model around it.
"""

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors that ``state_dict()`` would list (without running its hooks)."""
    for path, child in module.named_modules(remove_duplicate=False):
        skipped = child._non_persistent_buffers_set
        for name, tensor in [*child._parameters.items(), *child._buffers.items()]:
            if tensor is not None and name not in skipped:
                yield f'{path}.{name}' if path else name, tensor


def _given(state_dict: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}


def _fits(tensor: torch.Tensor, given: torch.Tensor) -> bool:
    # torch 0.3 saved scalars with one dimension, and torch still converts them.
    scalar = tensor.ndim == 0 and tuple(given.shape) == (1,)
    return is_lazy(tensor) or scalar or given.shape == tensor.shape


def check_shapes(
    module: nn.Module,
    state_dict: Mapping[str, Any],
    prefix: str = '',
    allow: Sequence[str] = (),
) -> None:
    """Refuse a state dict whose tensors do not fit, or that shares no key with the module.

    Missing and additional keys are left to the loader: a backbone without its plugins' weights,
    for example, is legitimate.

    Args:
        module (nn.Module): The module that is about to load.
        state_dict (Mapping): Keys with ``prefix`` in front belong to ``module``; all others are
            ignored.
        prefix (str): Place of the module in the state dict, with the closing dot.
        allow (Sequence[str]): Keys without prefix, or ``fnmatch`` patterns of such, that may have
            another shape (``('final_layer.*',)`` to train on with other keypoints). The loader
            then treats them as missing, i.e. MMEngine says so in a warning.

    Raises:
        ValueError: A tensor has another shape than the module's, or no key fits.
    """
    own = dict(_own_tensors(module))
    given = _given(state_dict, prefix)
    # Nothing under the prefix: a checkpoint for other parts of the model, e.g. its backbone.
    if not own or (prefix and not given):
        return
    name = type(module).__name__
    if not own.keys() & given.keys():
        raise ValueError(
            f'The checkpoint shares no key with {name}: it holds {_some(given)}, the model wants '
            f'{_some(own)}. It belongs to another network, or its keys carry another prefix; to '
            "load only a part of it use init_cfg=dict(type='Pretrained', checkpoint=..., "
            "prefix='backbone.')."
        )
    wrong = {
        key: f'{prefix}{key}: {_shape(given[key])} in the checkpoint, {_shape(tensor)} in the model'
        for key, tensor in own.items()
        if isinstance(given.get(key), torch.Tensor)
        and not _fits(tensor, given[key])
        and not any(fnmatch.fnmatchcase(key, pattern) for pattern in allow)
    }
    if wrong:
        raise ValueError(
            f'The checkpoint does not fit {name}: {len(wrong)} of {len(own)} tensors have another '
            'shape and would keep their random values.'
            + _lines(wrong.values())
            + '\nUse the config that the checkpoint was trained with (width, keypoints, plugins), '
            + _partial_load(module, wrong)
        )


def _partial_load(module: nn.Module, wrong: Mapping[str, str]) -> str:
    """How to load the rest, for the models that can; the same parts removed by hand otherwise."""
    prefixes = _prefixes(module, wrong)
    if hasattr(module, 'partial_load') and len(prefixes) <= 8:
        parts = ', '.join(map(repr, prefixes)) + (',' if len(prefixes) == 1 else '')
        return f'or, to train them anew (on other keypoints), set model.partial_load=({parts}).'
    return 'or remove these keys from the checkpoint to train them anew.'


def _prefixes(module: nn.Module, keys: Mapping[str, str]) -> list[str]:
    """The modules that hold nothing but these tensors, as few as possible; their names."""
    names = [key for key, _ in _own_tensors(module)]
    prefixes: list[str] = []
    for key in keys:
        if any(key == known or key.startswith(f'{known}.') for known in prefixes):
            continue
        parts = key.split('.')
        paths = ('.'.join(parts[:depth]) for depth in range(2, len(parts)))
        whole = (
            path for path in paths if all(n in keys for n in names if n.startswith(f'{path}.'))
        )
        # a layer is named as a whole, also where its bias would fit
        prefixes.append(next(whole, '.'.join(parts[:-1]) or key))
    return prefixes


_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def convert_arrays(module: nn.Module, state_dict: dict[str, Any], prefix: str = '') -> None:
    """Make tensors of the NumPy arrays in a state dict, in place, as MMEngine's loader does not.

    Raises:
        ValueError: A value for this module is no array of numbers, or of a kind of numbers that
            would lose what it was trained to be.
    """
    for key, tensor in _own_tensors(module):
        if prefix + key not in state_dict:
            continue
        value = state_dict.get(prefix + key)
        if isinstance(value, np.ndarray | np.generic):
            with suppress(TypeError):  # objects
                value = state_dict[prefix + key] = torch.from_numpy(np.array(value))
        if not isinstance(value, torch.Tensor):
            raise ValueError(
                f'The checkpoint holds no tensor but {type(value).__name__} as {prefix}{key}: save '
                "it again with torch.save({'state_dict': model.state_dict()}, path)."
            )
        if tensor.is_floating_point() and value.dtype not in _FLOATS:
            raise ValueError(
                f'The checkpoint holds {prefix}{key} as {value.dtype}, but weights are '
                'floating-point numbers of 16 bits or more: take the checkpoint that it was made '
                'of, before rounding or quantisation.'
            )


def check_numbers(module: nn.Module, state_dict: Mapping[str, Any], prefix: str = '') -> None:
    """Refuse a state dict with NaN or infinite weights, as a training that diverged saves them.

    Raises:
        ValueError: A tensor for this module holds such, where the module's own does not.
    """
    own = dict(_own_tensors(module))
    given = _given(state_dict, prefix)
    bad = [
        f'{prefix}{key}: {int((~torch.isfinite(given[key])).sum()):,} of {given[key].numel():,}'
        for key, tensor in own.items()
        if isinstance(given.get(key), torch.Tensor)
        and _fits(tensor, given[key])
        and not torch.isfinite(given[key]).all()
        # a mask of infinities, for example
        and (is_lazy(tensor) or torch.isfinite(tensor).all() or torch.isnan(given[key]).any())
    ]
    if bad:
        raise ValueError(
            f'The checkpoint holds NaN or infinite numbers in {len(bad)} of the {len(own)} tensors '
            f'of {type(module).__name__}: its training had diverged.'
            + _lines(bad)
            + '\nTake an earlier checkpoint, and a lower learning rate or more warm-up to go on.'
        )


def _lines(lines: Sequence[str]) -> str:
    lines = list(lines)
    more = [f'and {len(lines) - 5} more'] if len(lines) > 5 else []
    return ''.join(f'\n  {line}' for line in [*lines[:5], *more])


def _shape(tensor: torch.Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _some(keys: Mapping[str, Any]) -> str:
    return ', '.join(list(map(str, keys))[:3]) + (', ...' if len(keys) > 3 else '') or 'nothing'


class _ShapeCheckHook:
    """``_load_from_state_dict`` pre-hook; a class so that modules with it stay picklable.

    It holds no reference to the module: torch passes it in, through a weak reference that follows
    the module when that is copied.
    """

    def __init__(self, allow: Sequence[str]) -> None:
        self.allow = tuple(allow)

    def __call__(self, module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        convert_arrays(module, state_dict, prefix)
        check_shapes(module, state_dict, prefix, self.allow)
        check_numbers(module, state_dict, prefix)
        # what may differ counts as missing from here on: for checks of the parts, and for tests
        for key, tensor in _own_tensors(module) if self.allow else ():
            given = state_dict.get(prefix + key)
            if given is not None and not _fits(tensor, given):
                del state_dict[prefix + key]


def register_shape_check(module: nn.Module, allow: Sequence[str] = ()) -> Any:
    """Make ``module`` check every state dict it is about to load.

    That is :func:`convert_arrays`, :func:`check_shapes` and :func:`check_numbers`. Works with
    torch's and with MMEngine's ``load_state_dict``, for the module itself and as a part of a larger
    one. Register it after hooks that rename keys.

    Args:
        module (nn.Module): The module to guard.
        allow (Sequence[str]): See :func:`check_shapes`.

    Returns:
        A handle whose ``remove()`` takes the check off again.

    Raises:
        TypeError: ``allow`` is a single string.
    """
    if isinstance(allow, str):
        raise TypeError(f'allow must be a sequence of patterns, not the string {allow!r}')
    return module._register_load_state_dict_pre_hook(_ShapeCheckHook(allow), with_module=True)


def is_checked(module: nn.Module) -> bool:
    """Whether :func:`register_shape_check` has been called for this module."""
    hooks = module._load_state_dict_pre_hooks.values()
    return any(isinstance(getattr(hook, 'hook', hook), _ShapeCheckHook) for hook in hooks)


class _MissingCheckHook:
    """``load_state_dict`` post-hook; a class for the reason above."""

    def __init__(self, remedy: str) -> None:
        self.remedy = remedy

    def __call__(self, module: nn.Module, incompatible: Any) -> None:
        # batch norms count batches since torch 0.4, and only for one way of averaging
        missing = [k for k in incompatible.missing_keys if not k.endswith('num_batches_tracked')]
        if missing:
            total = sum(1 for _ in _own_tensors(module))
            raise ValueError(
                f'The checkpoint lacks {len(missing)} of the {total} tensors of '
                f'{type(module).__name__}, which would keep their random values.'
                + _lines(missing)
                + '\nTake a checkpoint of the whole network and the config it was trained with '
                f'(head, plugins); {self.remedy}'
            )


def register_missing_check(module: nn.Module, remedy: str) -> Any:
    """Make ``module`` refuse a state dict that lacks some of its tensors.

    For inference and tests; training may start from a backbone alone.

    Args:
        module (nn.Module): The whole network.
        remedy (str): How to go on all the same, for the end of the message.

    Returns:
        A handle whose ``remove()`` takes the check off again.
    """
    return module.register_load_state_dict_post_hook(_MissingCheckHook(remedy))


@contextmanager
def whole_weights(module: nn.Module, remedy: str = '', strict: bool = True) -> Iterator[None]:
    """Within it, ``module`` loads only what fits it and, if ``strict``, has all its tensors."""
    handles = [] if is_checked(module) else [register_shape_check(module)]
    if strict:
        handles.append(register_missing_check(module, remedy))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
