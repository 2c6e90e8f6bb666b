"""What the extra ``mmpose_attn[onnx]`` installs."""

from importlib import import_module
from types import ModuleType


def require(user: str, *names: str) -> list[ModuleType]:
    """Modules by name, or an :class:`ImportError` that says how to install what is missing.

    Args:
        user: who needs them.
        names: ``'onnx'`` or ``'onnxruntime'``.
    """
    try:
        return [import_module(name) for name in names]
    except ImportError as error:
        raise ImportError(
            f'{user} needs {" and ".join(names)}: pip install "mmpose_attn[onnx]"'
        ) from error
