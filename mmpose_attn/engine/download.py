"""Downloads of checkpoints: whole, as their names say, and kept."""

import hashlib
import os
import re
import uuid
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from rich.markup import escape
from rich.progress import Progress

from mmpose_attn.files import printable

_CHUNK = 2**20
_MOST_BYTES = 2**35
_PATIENCE = 60  # seconds without a byte
# PyTorch's and OpenMMLab's way to name a file by the SHA-256 of its contents
_HASH = re.compile(r'-([0-9a-f]{8,64})(?:_\d{8})?\.\w+$')


class _Redirects(HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        kinds = ('https',) if req.type == 'https' else ('http', 'https')
        if urlsplit(newurl).scheme.lower() not in kinds:
            raise HTTPError(req.full_url, code, f'it redirects to {newurl}', headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, folder: str | os.PathLike, progress: bool = False) -> str:
    """Get a file, unless the folder has one of its name.

    Args:
        url: Address, http or https; one of https is not redirected to http.
        folder: Where it is kept; made if need be.
        progress: Show a bar.

    Returns:
        Path of the file, which appears when it is complete.

    Raises:
        OSError: It cannot be reached or written.
        ValueError: The address names no file, or what came is not whole, not what the hash in its
            name says, or too large.
    """
    name = unquote(os.path.basename(urlsplit(url).path))
    if name in ('', '.', '..') or not name.isprintable() or re.search(r'[/\\\0]', name):
        raise ValueError('the address names no file')
    path = os.path.join(folder, name)
    if os.path.exists(path):
        return path
    os.makedirs(folder, exist_ok=True)
    partial = f'{path}.{uuid.uuid4().hex}.partial'
    try:
        _fetch(url, partial, progress, _HASH.search(name))
        os.replace(partial, path)
    except HTTPException as error:
        raise OSError(f'{type(error).__name__} {printable(error)}') from error
    finally:
        if os.path.exists(partial):
            os.remove(partial)
    return path


def _fetch(url: str, path: str, progress: bool, named: re.Match | None) -> None:
    digest, size = hashlib.sha256(), 0
    request = Request(url, headers={'User-Agent': 'mmpose_attn'})
    with (
        build_opener(_Redirects()).open(request, timeout=_PATIENCE) as answer,
        open(path, 'xb') as file,
        Progress(disable=not progress) as bar,
    ):
        length = answer.headers.get('Content-Length')
        length = int(length) if length and length.isdecimal() else None
        task = bar.add_task(escape(os.path.basename(urlsplit(url).path)), total=length)
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            bar.update(task, completed=size)
            if size > _MOST_BYTES:
                raise ValueError(f'it has more than {_MOST_BYTES:,} bytes')
    if length is not None and size != length:
        raise ValueError(f'only {size:,} of {length:,} bytes came')
    if named and not digest.hexdigest().startswith(named[1]):
        found = digest.hexdigest()[: len(named[1])]
        raise ValueError(f'its SHA-256 begins with {found}, and by its name with {named[1]}')
