"""Running MMPose's own command-line scripts with this package registered."""

import runpy
import sys
import traceback
from pathlib import Path
from types import TracebackType

import mmpose

from mmpose_attn.files import printable


def _print_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """As Python does; names of files in a message cannot steer the terminal."""
    sys.stderr.write(printable(''.join(traceback.format_exception(kind, error, trace))))


def run_mmpose_tool(name: str) -> None:
    """Run MMPose's script ``tools/<name>.py`` as ``__main__`` with the arguments of this process.

    The scripts are MMPose's so that their options stay the ones its users know.

    Args:
        name (str): ``'train'`` or ``'test'``, or any other script of MMPose's ``tools``.

    Raises:
        FileNotFoundError: This installation of MMPose carries no such script.
    """
    package = Path(mmpose.__path__[0])
    # A wheel carries the scripts under .mim, a source checkout next to the package.
    candidates = [
        package / '.mim' / 'tools' / f'{name}.py',
        package.parent / 'tools' / f'{name}.py',
    ]
    this_script = Path(sys.argv[0]).resolve()
    for script in candidates:
        if script.is_file() and script.resolve() != this_script:
            sys.excepthook = _print_exception
            runpy.run_path(str(script), run_name='__main__')
            return
    raise FileNotFoundError(
        f'MMPose {mmpose.__version__} carries no tools/{name}.py (looked for '
        f'{" and ".join(map(str, candidates))}). Install MMPose from its wheel '
        '(`pip install mmpose`), or run the script of an MMPose checkout: the config '
        'imports mmpose_attn by itself.'
    )
