"""Image files, looked for when annotations are loaded and not when training comes to them."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import unquote

from mmpose_attn.files import path_inside

from .report import Report

RENAMED = 'file names are written with backslashes or percent signs; they are read as {}'
SHARED = 'images have a file that another image has, too: their objects should be in one image'

_REMEDY = 'Correct file_name in the annotations, or data_root and data_prefix in the config'
_MOST = 200_000  # files that are looked through


def find_images(images: list[dict], folder: str, report: Report) -> None:
    """Look for the files of images, each with ``id`` and ``file_name``, below a folder.

    Names with the backslashes of Windows or the percent signs of a URL are
    corrected in place if that file is there.

    Raises:
        ValueError: a file that is there lies outside of the folder, if there is one.
    """
    if '://' in folder:
        return
    files = _Files(folder)
    renamed, missing = [], []
    for image in images:
        name = image['file_name']
        if files.exists(name):
            _check_inside(folder, image, report)
            continue
        slashed = name.replace('\\', '/')
        for other in (slashed, unquote(slashed)):
            if other != name and files.exists(other):
                image['file_name'] = other
                _check_inside(folder, image, report)
                renamed.append(other)
                break
        else:
            missing.append(image)
    if renamed:
        report.notes[RENAMED.format(renamed[0])] += len(renamed)
    shared = sum(Counter(image['file_name'] for image in images).values()) - len(
        {image['file_name'] for image in images}
    )
    if shared:
        report.notes[SHARED] += shared
    for image in missing:
        report.problem(
            f'image {image["id"]}',
            'file_name',
            f'image not found: {os.path.join(folder, image["file_name"])}, {files.instead(image)}',
            _REMEDY,
            missing=True,
        )


def _check_inside(folder: str, image: dict, report: Report) -> None:
    if not folder:  # the names are whole paths
        return
    try:
        path_inside(folder, image['file_name'])
    except ValueError as error:
        raise ValueError(
            f'{report.file}: image {image["id"]}: {error}. Write names below data_prefix into the '
            'annotations'
        ) from None


class _Files:
    """What is in a folder; every folder is listed once."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._listed: dict[str, set[str]] = {}
        self._known: dict[str, list[str]] | None = None

    def exists(self, name: str) -> bool:
        folder, base = os.path.split(os.path.join(self.folder, name))
        if folder not in self._listed:
            try:
                self._listed[folder] = set(os.listdir(folder or '.'))
            except OSError:
                self._listed[folder] = set()
        # the second where letters may be small or large
        return base in self._listed[folder] or os.path.isfile(os.path.join(folder, base))

    def instead(self, image: dict) -> str:
        """What is there in the place of a file that is not."""
        if self._known is None:
            self._known = defaultdict(list)
            for path in _walk(self.folder):
                self._known[_stem(path)].append(path)
        found = self._known.get(_stem(image['file_name']), ())
        if found:
            return f'but {" and ".join(found[:3])} exist{"s" if len(found) == 1 else ""}'
        return f'and no file of that name exists in {self.folder or "."} or beside it'


def _stem(name: str) -> str:
    """The last part of a path or URL, without suffix."""
    last = unquote(name).replace('\\', '/').replace('=', '/')
    return PurePosixPath(last).stem.lower()


def _walk(folder: str) -> Iterator[str]:
    """Files below a folder, then those below the one around it; not of the whole disk."""
    inner = os.path.abspath(folder)
    count = 0
    for root in (inner, os.path.dirname(inner)):
        for path, folders, names in os.walk(root):
            if root != inner:
                folders[:] = [name for name in folders if os.path.join(path, name) != inner]
            for name in names:
                count += 1
                if count > _MOST:
                    return
                yield os.path.join(path, name)
