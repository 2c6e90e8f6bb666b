"""Loading checkpoint files: safely, and with errors that say what to do.

torch >= 2.6 unpickles nothing but tensors and plain containers unless told otherwise
(``weights_only=True``), while the checkpoints that MMEngine writes *during training* also hold its
log history and NumPy arrays. Instead of switching the protection off,
:func:`install_safe_loading` allows exactly those objects, so that one's own checkpoints load and a
hostile pickle still does not.

Before 2.6 torch allows nothing beyond tensors and plain containers, which is what
:class:`~mmpose_attn.engine.PlainCheckpointHook` has checkpoints hold.
"""

import errno
import os
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.utils import digit_version

from mmpose_attn.files import printable

from .archive import check_archive, check_contents, check_layout
from .download import download

# The first release in which torch.load is protected by default and a global can be replaced.
_PROTECTED = digit_version(torch.__version__) >= digit_version('2.6.0')

_STATISTICS = frozenset({'min', 'max', 'current', 'mean'})
_DTYPES = {
    name: np.dtype(name)
    for name in ('b1', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8', 'f2', 'f4', 'f8')
}


class CheckpointError(RuntimeError):
    """A checkpoint file could not be loaded."""


class CorruptCheckpointError(CheckpointError, ValueError):
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


_OTHERWISE = (
    'Classes of your own code are allowed one by one with torch.serialization.add_safe_globals.'
    if _PROTECTED
    else f'torch {torch.__version__} reads tensors and plain containers alone: checkpoints of '
    "trainings without default_hooks.plain_checkpoint=dict(type='PlainCheckpointHook') hold "
    "MMEngine's log history besides, for which torch >= 2.6 is needed."
)

# How torch words what is wrong with this computer and not with a file, among its RuntimeErrors.
_ELSEWHERE = r'\bdevice|data location|CUDA|out of memory|not enough memory|allocate memory'


def _refused_globals(path: str, message: str) -> list[str]:
    """Names that ``torch.load`` refused, from the file itself or else from torch's message."""
    try:
        names = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # legacy or broken format: torch can list nothing
        names = set()
    # before 2.4 torch says class or function instead of GLOBAL
    worded = r'(?:GLOBAL|nsupported class|unrecognized function)(?: <[\w ]*)? ([\w.]+)'
    return sorted(names) or re.findall(worded, message)[:1]


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
                "torch.save({'state_dict': model.state_dict()}, path). " + _OTHERWISE
            ) from None
        # Of torch's text, again, only the reason.
        cause: Exception | None = None
        reason = str(error).rpartition('WeightsUnpickler error: ')[2].strip()
    except RuntimeError as error:
        cause, reason = error, str(error)
        if re.search('TorchScript|legacy .tar', reason):
            cause, reason = None, 'TorchScript archives and tar files are not loaded safely'
        elif re.search(_ELSEWHERE, reason):
            raise CheckpointError(f'{source} was not loaded: {reason}') from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a seek to before the start of a truncated archive
            raise
        cause, reason = error, str(error)
    except MemoryError:
        raise
    except ValueError as error:
        cause, reason = error, str(error)
    except Exception as error:  # unpickling a damaged file ends anyhow
        cause, reason = error, f'{type(error).__name__} {error}'.strip()
    reason = printable(re.split(r'\.\s|\n', reason)[0][:200])
    size = f'{os.path.getsize(path):,} bytes' if os.path.isfile(path) else 'no file left'
    raise CorruptCheckpointError(
        f'{source} ({size}) is truncated, damaged or no PyTorch checkpoint: {reason}. '
        'Compare its size with the original and copy or download it again; after an interrupted '
        'training, resume from the checkpoint before it.'
    ) from cause


def _load(path: str, source: str, map_location: Any, **protection: bool) -> dict:
    if _PROTECTED:
        _allow_mmengine_globals()
    with _clear_errors(source, path):
        check_archive(path)
        contents = torch.load(path, map_location=map_location, **protection)
        # which torch < 2.6 loads in spite of weights_only
        if isinstance(contents, torch.jit.ScriptModule):
            raise RuntimeError('a TorchScript archive')
        check_contents(contents)
    try:
        return check_layout(contents)
    except ValueError as error:  # a whole file, of something else
        raise CorruptCheckpointError(
            f'{source} is no checkpoint of a network ({printable(error)})'
        ) from error


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
    name = printable(path)
    if not os.path.isfile(path):
        what = 'is a directory, not a checkpoint file' if os.path.isdir(path) else 'does not exist'
        raise FileNotFoundError(f'Checkpoint {name} {what} (working directory: {os.getcwd()}).')
    # unset where it is the default, so that torch's documented environment variables apply
    return _load(path, name, map_location, **({} if _PROTECTED else dict(weights_only=True)))


def load_from_http(filename: str, map_location: Any = None, **kwargs: Any) -> Any:
    """Load a checkpoint from an ``http(s)`` address, with the protection of local files.

    Args:
        filename (str): Address.
        map_location: As in :func:`torch.load`.
        **kwargs: Passed on to MMEngine's loader (``model_dir``, ``progress``).

    Returns:
        dict: The checkpoint.

    Raises:
        CheckpointError: It was not downloaded: not reached, not whole, or another file than the
            hash in its name says.
        UnsafeCheckpointError: The file asks for code; it was not executed.
        CorruptCheckpointError: The file is damaged or not a checkpoint.
    """
    return mmengine_checkpoint.load_from_http(filename, map_location, **kwargs)


def load_url(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
    **_: Any,
) -> dict:
    """In place of :func:`torch.hub.load_state_dict_from_url`, which MMEngine calls by this name.

    That unpacks archives, runs the code in a file unless told otherwise, and keeps what came even
    if it is not whole.

    Args:
        url: Address.
        model_dir: Where the file is kept; torch.hub's folder by default.
        map_location: As in :func:`torch.load`.
        progress: Show a bar.

    Raises:
        CheckpointError: As for :func:`load_from_http`.
    """
    folder = model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints')
    name = printable(url)
    try:
        path = download(url, folder, progress)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f'{name} was not downloaded: {printable(error)}. Get the file in another way, compare '
            'it with the original, and give its path'
        ) from error
    return _load(path, f'{name} (kept as {printable(path)})', map_location, weights_only=True)


def install_safe_loading() -> None:
    """Make every way by which MMEngine loads a checkpoint safe and clear; safe to call again.

    ``init_model``, ``load_from``, ``--resume``, ``init_cfg`` and ``mim test`` all go through
    MMEngine's ``CheckpointLoader``, whose loaders for files and for http(s) are replaced here. The
    allow-list is torch's own and thus also serves a plain ``torch.load`` in the same process.
    """
    if _PROTECTED:
        _allow_mmengine_globals()
    # also of MMEngine's other schemes: torchvision://, openmmlab://, mmcls://
    mmengine_checkpoint.load_url = load_url
    CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)
    CheckpointLoader.register_scheme(
        prefixes=('http://', 'https://'), loader=load_from_http, force=True
    )
