"""Which files an input means: a path, a folder, a pattern."""

import glob
import os
from collections.abc import Iterable

from mmpose_attn.media import UnknownKind, UnreadKind
from mmpose_attn.media.kinds import readable

# What files are called that somebody surely means as such; what they are their contents say.
IMAGES = ('.jpg', '.jpeg', '.jfif', '.png', '.bmp', '.webp', '.tif', '.tiff', '.gif', '.avif')
VIDEOS = (
    '.mp4', '.m4v', '.mov', '.3gp', '.3g2', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.ts', '.mts',
    '.m2ts', '.wmv', '.asf', '.flv', '.ogv',
)  # fmt: skip
KNOWN = (*IMAGES, *VIDEOS)
_NAMED = 5  # files that a line names; of more it says how many


def files_of(item: str) -> tuple[str, list[str], dict[str, str]]:
    """The files that a path, folder or pattern means.

    Returns:
        The folder that names are relative to, absolute paths, and what is left out and why.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: a name or file cannot be used.
    """
    if not item or '\0' in item:
        raise ValueError(f'an input is {item!r}, which names no file; . is the working directory')
    path = os.path.abspath(os.path.expanduser(item))
    left_out: dict[str, str] = {}
    if os.path.isdir(path):
        root, what = path, f'folder {item} holds'
        paths, left_out = _among(os.path.join(path, name) for name in sorted(os.listdir(path)))
    elif os.path.exists(path):
        root, what, paths = os.path.dirname(path), '', [path]
    elif glob.has_magic(item):
        paths, left_out = _among(sorted(glob.glob(path, recursive=True)))
        # the part of the pattern that is a plain folder
        root = path
        while glob.has_magic(root):
            root = os.path.dirname(root)
        what = f'pattern {item} finds'
    else:
        raise FileNotFoundError(f'input not found: {item} (working directory: {os.getcwd()})')
    if not paths and not left_out:
        raise FileNotFoundError(f'{what} no picture or video ({", ".join(KNOWN)})')
    for file in paths:
        try:
            file.encode()
        except UnicodeEncodeError:  # results are written in UTF-8
            raise ValueError(f'the name of input {file!r} is not UTF-8: rename it') from None
        if not os.path.exists(file):
            raise FileNotFoundError(f'input {file} is a link to nothing')
        if not os.path.isfile(file):
            raise ValueError(f'input {file} is no file; a camera is given by its index')
        if not os.access(file, os.R_OK):
            raise ValueError(f'input {file} may not be read: see its permissions')
    return root, paths, left_out


def _among(paths: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Those of many files that are pictures and videos, and the others that seem to be some."""
    found: list[str] = []
    left_out: dict[str, str] = {}
    for path in paths:
        known = path.lower().endswith(KNOWN)
        if not os.path.isfile(path):
            if known and os.path.islink(path) and not os.path.exists(path):
                found.append(path)
            continue
        try:
            readable(path)
        except UnreadKind as error:
            left_out[path] = str(error)
            continue
        except (UnknownKind, OSError):
            if not known:
                continue
        found.append(path)
    return found, left_out


def left_out_line(reasons: dict[str, str]) -> str:
    """What a folder or pattern holds that is not read, in a line."""
    named = [f'{os.path.basename(path)} {why}' for path, why in list(reasons.items())[:_NAMED]]
    if len(reasons) > _NAMED:
        named.append(f'and {len(reasons) - _NAMED} more')
    files = f'{len(reasons)} file{"s" * (len(reasons) > 1)}'
    return f'left out {files} in {os.path.dirname(next(iter(reasons)))}: {"; ".join(named)}'
