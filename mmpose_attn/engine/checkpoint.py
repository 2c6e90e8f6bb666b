"""Loading checkpoints: safely, with errors that say what to do, and never into the wrong network.

torch >= 2.6 unpickles nothing but tensors and plain containers unless told otherwise
(``weights_only=True``), while the checkpoints that MMEngine writes *during training* also hold its
log history and NumPy arrays. Instead of switching the protection off,
:func:`install_safe_loading` allows exactly those objects, so that one's own checkpoints load and a
hostile pickle still does not.

:func:`register_shape_check` closes another gap: MMEngine's loader only logs a warning when a tensor
of the checkpoint does not fit, and goes on with random weights in its place.
"""

import errno
import fnmatch
import os
import pickle
import re
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.utils import digit_version
from torch import nn
from torch.nn.parameter import is_lazy

# The first release in which torch.load is protected by default and a global can be replaced.
_PROTECTED = digit_version(torch.__version__) >= digit_version('2.6.0')

_STATISTICS = frozenset({'min', 'max', 'current', 'mean'})
_DTYPES = {
    name: np.dtype(name)
    for name in ('b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8')
}


class CheckpointError(RuntimeError):
    """A checkpoint file could not be loaded."""


class CorruptCheckpointError(CheckpointError):
    """The file is truncated or no checkpoint at all."""


class UnsafeCheckpointError(CheckpointError, pickle.UnpicklingError):
    """The file asks for code that no checkpoint needs; nothing of it was executed."""


# --- What MMEngine's training checkpoints may call ------------------------------------------------
# Each function stands in for the global that the pickle names, and does only what MMEngine's
# checkpoints need of it. The real ones would do: getattr reaches everything, and a NumPy dtype
# restores its flags from the pickle, which lets raw bytes pass as object pointers.


def _history_buffer_method(*args: Any) -> Callable:
    """Stand-in for ``builtins.getattr``: the statistics methods that a HistoryBuffer pickles."""
    if len(args) == 2 and args[0] is HistoryBuffer and type(args[1]) is str:
        owner, name = args
        if name in _STATISTICS:
            return getattr(owner, name)
    wanted = ' of '.join(
        arg if type(arg) is str else getattr(arg, '__name__', type(arg).__name__)
        for arg in reversed(args)
    )
    raise pickle.UnpicklingError(f'GLOBAL builtins.getattr asked for {wanted}')


def _numeric_dtype(name: Any, align: Any = False, copy: Any = True) -> np.dtype:
    """Stand-in for ``numpy.dtype``: boolean, integer and float types.

    NumPy's pickles ask for a copy, which then takes its flags from the pickle. The built-in
    instance that is returned here ignores such a state; own checkpoints have nothing else in it.
    """
    if type(name) is str and name in _DTYPES and not align:
        return _DTYPES[name]
    raise pickle.UnpicklingError(f'GLOBAL numpy.dtype asked for {str(name)[:40]!r}')


def _empty_array(cls: Any, shape: Any, dtype: Any) -> np.ndarray:
    """Stand-in for ``numpy...._reconstruct``: an empty array that the pickle fills afterwards."""
    if cls is np.ndarray and shape == (0,) and dtype == b'b':
        return np.empty(0, np.int8)
    raise pickle.UnpicklingError('GLOBAL numpy.core.multiarray._reconstruct with odd arguments')


def _numeric_scalar(dtype: Any, data: Any) -> np.generic:
    """Stand-in for ``numpy....scalar``: numbers of the types above."""
    known = any(dtype is known for known in _DTYPES.values())
    if known and type(data) is bytes and len(data) == dtype.itemsize:
        return np.frombuffer(data, dtype)[0]
    raise pickle.UnpicklingError('GLOBAL numpy.core.multiarray.scalar with odd arguments')


def _empty_bytes(*args: Any) -> bytes:
    """Stand-in for ``builtins.bytes``, which pickles call for the data of an empty array."""
    if not args:
        return b''
    raise pickle.UnpicklingError('GLOBAL builtins.bytes with arguments')


_SAFE_GLOBALS = [
    HistoryBuffer,
    (_history_buffer_method, 'builtins.getattr'),
    (_empty_bytes, 'builtins.bytes'),
    np.ndarray,
    (_numeric_dtype, 'numpy.dtype'),
    # Not looked up by name, but torch compares the type of a dtype before it sets its state.
    *{type(dtype) for dtype in _DTYPES.values()},
    # NumPy 2 renamed the module; checkpoints of either are read under either.
    *((_empty_array, f'numpy.{core}.multiarray._reconstruct') for core in ('core', '_core')),
    *((_numeric_scalar, f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')),
]


def _global_name(entry: Any) -> str:
    return entry[1] if isinstance(entry, tuple) else f'{entry.__module__}.{entry.__qualname__}'


def _allow_mmengine_globals() -> None:
    # What the user has allowed under one of these names himself stays his decision (torch would
    # pick one of the two at random).
    present = {_global_name(entry) for entry in torch.serialization.get_safe_globals()}
    torch.serialization.add_safe_globals(
        [entry for entry in _SAFE_GLOBALS if _global_name(entry) not in present]
    )


# --- Loaders --------------------------------------------------------------------------------------


# How torch words what is wrong with a file, among its RuntimeErrors.
_BROKEN = (
    'PytorchStreamReader|inline_container|unexpected EOF|corrupt|Invalid magic number'
    '|wrong byte size'
)


def _refused_globals(path: str, message: str) -> list[str]:
    """Names that ``torch.load`` refused, from the file itself or else from torch's message."""
    try:
        names = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # legacy or broken format: torch can list nothing
        names = set()
    return sorted(names) or re.findall(r'GLOBAL ([\w.]+)', message)[:1]


@contextmanager
def _clear_errors(source: str, path: str) -> Iterator[None]:
    """Turn what ``torch.load`` raises for bad files into errors that name file, cause and remedy.

    Args:
        source (str): What the user asked for, for the message.
        path (str): The file on disk.
    """
    try:
        yield
        return
    except pickle.UnpicklingError as error:
        names = _refused_globals(path, str(error))
        if names:
            # torch's own text recommends weights_only=False, hence no chaining.
            raise UnsafeCheckpointError(
                f'{source} was not loaded: it asks for {", ".join(names)}, which can run arbitrary '
                'code and which neither weights nor checkpoints of MMEngine contain. Nothing of it '
                'was executed. Load checkpoints only from sources you trust; if you trust this '
                'one, have it saved again as a plain state dict where it was made: '
                "torch.save({'state_dict': model.state_dict()}, path). Classes of your own code "
                'are allowed one by one with torch.serialization.add_safe_globals.'
            ) from None
        # Of torch's text, again, only the reason.
        cause: Exception | None = None
        reason = str(error).rpartition('WeightsUnpickler error: ')[2].strip()
    except RuntimeError as error:
        # Everything else (no such CUDA device, out of memory) is not the file's fault.
        cause, reason = error, str(error)
        if re.search('TorchScript|legacy .tar', reason):
            cause, reason = None, 'TorchScript archives and tar files are not loaded safely'
        elif not re.search(_BROKEN, reason):
            raise
    except OSError as error:
        if error.errno != errno.EINVAL:  # a seek to before the start of a truncated archive
            raise
        cause, reason = error, str(error)
    except (
        EOFError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        AssertionError,
        struct.error,
    ) as error:
        cause, reason = error, f'{type(error).__name__} {error}'.strip()
    reason = re.split(r'\.\s|\n', reason)[0][:200]
    size = f'{os.path.getsize(path):,} bytes' if os.path.isfile(path) else 'no file left'
    raise CorruptCheckpointError(
        f'{source} ({size}) is truncated, damaged or no PyTorch checkpoint: {reason}. '
        'Compare its size with the original and copy or download it again; after an interrupted '
        'training, resume from the checkpoint before it.'
    ) from cause


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Load a checkpoint file; the loader for all paths without a scheme.

    The name is that of MMEngine's loader because its log line is made from it.

    Args:
        filename (str): Path; ``~`` is expanded.
        map_location: As in :func:`torch.load`.

    Returns:
        dict: The checkpoint.

    Raises:
        FileNotFoundError: There is no such file.
        UnsafeCheckpointError: The file asks for code; it was not executed.
        CorruptCheckpointError: The file is truncated, damaged or not a checkpoint.
    """
    path = os.path.expanduser(os.fspath(filename))
    if not os.path.isfile(path):
        what = 'is a directory, not a checkpoint file' if os.path.isdir(path) else 'does not exist'
        raise FileNotFoundError(f'Checkpoint {path} {what} (working directory: {os.getcwd()}).')
    if _PROTECTED:
        _allow_mmengine_globals()
    else:
        warnings.warn(
            f'torch {torch.__version__} unpickles checkpoints without protection: load only files '
            'from sources you trust, or use torch >= 2.6.',
            stacklevel=2,
        )
    with _clear_errors(path, path):
        # weights_only stays unset, so that torch's documented environment variables apply.
        return torch.load(path, map_location=map_location)


def load_from_http(filename: str, map_location: Any = None, **kwargs: Any) -> Any:
    """Load a checkpoint from an ``http(s)`` address, with the protection of local files.

    Args:
        filename (str): Address.
        map_location: As in :func:`torch.load`.
        **kwargs: Passed on to MMEngine's loader (``model_dir``, ``progress``).

    Returns:
        dict: The checkpoint.

    Raises:
        UnsafeCheckpointError: The file asks for code; it was not executed.
        CorruptCheckpointError: The download is truncated, damaged or not a checkpoint.
    """
    if _PROTECTED:
        _allow_mmengine_globals()
    folder = kwargs.get('model_dir') or os.path.join(torch.hub.get_dir(), 'checkpoints')
    cached = os.path.join(folder, os.path.basename(filename.partition('?')[0]))
    with _clear_errors(f'{filename} (kept as {cached})', cached):
        return mmengine_checkpoint.load_from_http(filename, map_location, **kwargs)


def install_safe_loading() -> None:
    """Make every way by which MMEngine loads a checkpoint safe and clear; safe to call again.

    ``init_model``, ``load_from``, ``--resume``, ``init_cfg`` and ``mim test`` all go through
    MMEngine's ``CheckpointLoader``, whose loaders for files and for http(s) are replaced here. The
    allow-list is torch's own and thus also serves a plain ``torch.load`` in the same process.
    """
    if _PROTECTED:
        _allow_mmengine_globals()
        # MMEngine downloads with torch.hub, whose default is weights_only=False even today. Its
        # other schemes (torchvision://, openmmlab://, mmcls://) use the same function.
        load_url = mmengine_checkpoint.load_url
        if 'weights_only' not in getattr(load_url, 'keywords', {}):
            mmengine_checkpoint.load_url = partial(load_url, weights_only=True)
    CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)
    CheckpointLoader.register_scheme(
        prefixes=('http://', 'https://'), loader=load_from_http, force=True
    )


# --- Does the checkpoint belong to this network? --------------------------------------------------


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors that ``state_dict()`` would list (without running its hooks)."""
    for path, child in module.named_modules(remove_duplicate=False):
        skipped = child._non_persistent_buffers_set
        for name, tensor in [*child._parameters.items(), *child._buffers.items()]:
            if tensor is not None and name not in skipped:
                yield f'{path}.{name}' if path else name, tensor


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
            another shape (``('final_layer.*',)`` to train on with other keypoints). They are left
            to the loader, i.e. MMEngine skips them with a warning.

    Raises:
        ValueError: A tensor has another shape than the module's, or no key fits.
    """
    own = dict(_own_tensors(module))
    given = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
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
    wrong = [
        f'{prefix}{key}: {_shape(given[key])} in the checkpoint, {_shape(tensor)} in the model'
        for key, tensor in own.items()
        if isinstance(given.get(key), torch.Tensor)
        and not is_lazy(tensor)
        and given[key].shape != tensor.shape
        # torch 0.3 saved scalars with one dimension, and torch still converts them.
        and not (tensor.ndim == 0 and tuple(given[key].shape) == (1,))
        and not any(fnmatch.fnmatchcase(key, pattern) for pattern in allow)
    ]
    if wrong:
        more = f'\n  and {len(wrong) - 5} more' if len(wrong) > 5 else ''
        raise ValueError(
            f'The checkpoint does not fit {name}: {len(wrong)} of {len(own)} tensors have another '
            'shape and would keep their random values.\n  ' + '\n  '.join(wrong[:5]) + more + '\n'
            'Use the config that the checkpoint was trained with (width, keypoints, plugins), or '
            'remove these keys from the checkpoint to train them anew.'
        )


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

    def __call__(
        self, module: nn.Module, state_dict: Mapping[str, Any], prefix: str, *_: Any
    ) -> None:
        check_shapes(module, state_dict, prefix, self.allow)


def register_shape_check(module: nn.Module, allow: Sequence[str] = ()) -> Any:
    """Make ``module`` run :func:`check_shapes` on every state dict it is about to load.

    Works with torch's and with MMEngine's ``load_state_dict``, for the module itself and as a part
    of a larger one. Register it after hooks that rename keys.

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
