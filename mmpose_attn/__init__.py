"""Attention modules, high-resolution backbones and bottom-up heads for MMPose 1.x.

Importing the package registers everything into MMPose's registries, which is what
``custom_imports = dict(imports=['mmpose_attn'])`` in a config does.
"""

import importlib
import importlib.util
import warnings

from .version import __version__

__all__ = ['__version__']

# Module, oldest usable version, first version that was not tried, what to do. In import order:
# mmdet and mmpose assert the versions of the two before them.
_REQUIRED = (
    ('mmengine', '0.7.1', '0.11', 'pip install "mmengine>=0.7.1,<1"'),
    ('mmcv', '2.0.0', '2.2', 'pip install mmcv-lite==2.1.0, or a full mmcv>=2.0,<2.2'),
    ('mmdet', '3.0.0', '3.4', 'pip install mmdet==3.3.0 (every import of mmpose.models needs it)'),
    ('mmpose', '1.3.0', '1.4', 'pip install mmpose==1.3.2'),
)
# Parts that may be missing although the above are installed.
_PARTS = (
    ('mmcv._ext', "mmcv's compiled operators", 'a full mmcv, or `pip install compat/mmcv_ext`'),
    ('xtcocotools', "MMPose's COCO evaluation", '`pip install compat/xtcocotools`'),
)
_WHERE = (
    'For everything at once in a new environment: `make setup`, or `pip install -r '
    'requirements.txt`, in a checkout of mmpose_attn.'
)


def _check_environment() -> None:
    """Check that what MMPose's models need is there and recent enough.

    Raises:
        ImportError: Something is missing, broken or too old; the message says what to do.
    """
    for name, oldest, untried, remedy in _REQUIRED:
        try:
            module = importlib.import_module(name)
        # mmdet and mmpose refuse other versions by assertion; a broken binary raises anything.
        except Exception as error:
            raise ImportError(
                f'mmpose_attn needs {name}, which cannot be imported '
                f'({type(error).__name__}: {error}). Try: {remedy}. {_WHERE}'
            ) from error
        from mmengine.utils import digit_version  # the first of the list, hence importable by now

        version = digit_version(module.__version__)
        if version < digit_version(oldest):
            raise ImportError(
                f'mmpose_attn needs {name}>={oldest}, but {module.__version__} is installed. '
                f'Try: {remedy}. {_WHERE}'
            )
        if version >= digit_version(untried):
            warnings.warn(
                f'mmpose_attn was not tested with {name} {module.__version__} (only below '
                f'{untried}); it may well work.',
                stacklevel=3,
            )
    for name, what, remedy in _PARTS:
        if importlib.util.find_spec(name) is None:
            raise ImportError(
                f'mmpose_attn needs {what} (module {name}), not installed here. '
                f'Try: {remedy}. {_WHERE}'
            )


_check_environment()

from mmengine.config.utils import MODULE2PACKAGE  # noqa: E402

from . import codecs, datasets, evaluation, models, visualization  # noqa: E402, F401
from .engine import install_safe_loading  # noqa: E402

# MMEngine resolves `_base_ = 'mmpose_attn::...'` and model aliases only for packages listed here.
MODULE2PACKAGE.setdefault('mmpose_attn', 'mmpose_attn')
install_safe_loading()
