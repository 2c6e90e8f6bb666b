"""Takes one file at a time from a visitor of the page, within limits."""

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from gradio.route_utils import GradioMultiPartParser, GradioUploadFile
from gradio.routes import file_upload_statuses
from gradio_client.utils import strip_invalid_filename_characters
from python_multipart.multipart import parse_options_header
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from .limits import AtOnce, Tally, TooMuch

MOST_BYTES = 10**9  # of a file
_FORM = 64 * 1024  # bytes of a form around its file
_HOUR = 3600


class Uploads:
    """Gradio's own way takes a thousand files at once, each of the largest size, keeps what is cut
    off, and names a folder by what is in it, so that one can ask for what others have.

    Args:
        folder: where every file gets a folder of its own, with a name that nobody can guess.
        make_room: removes what is oldest; is called before a file is taken.
        most_bytes: of a file.
        an_hour: files, and their bytes, that an address may send in an hour.
    """

    def __init__(
        self,
        folder: Path,
        make_room: Callable[[], None],
        *,
        most_bytes: int = MOST_BYTES,
        an_hour: tuple[int, float] = (200, 5e9),
    ) -> None:
        self.folder, self.make_room = folder, make_room
        self.most_bytes, self.an_hour = most_bytes, an_hour
        self._latest, self._now = Tally(_HOUR), AtOnce(each=3, all=8)

    async def take(self, request: Request, address: str) -> Response:
        """The path of the file that a form brings, as Gradio's page wants it: a list of one.

        Raises:
            TooMuch: the address has sent enough.
        """
        upload_id = request.query_params.get('upload_id', '')[:64]  # who asks for progress with it
        if upload_id:
            file_upload_statuses.track(upload_id)
        try:
            return await self._take(request, address, upload_id)
        finally:
            if upload_id:
                file_upload_statuses.set_done(upload_id)
                later = asyncio.get_running_loop().call_later
                later(60, file_upload_statuses.stop_tracking, upload_id)  # if nobody asks

    async def _take(self, request: Request, address: str, upload_id: str) -> Response:
        headers = request.headers
        if parse_options_header(headers.get('content-type', ''))[0] != b'multipart/form-data':
            return PlainTextResponse('A form with a file is wanted.', 400)
        length = headers.get('content-length', '0')
        if int(length) > self.most_bytes + _FORM:
            return self._too_large()
        with self._now.one(address):
            self._check(address)
            await asyncio.to_thread(self.make_room)
            target = self.folder / f'upload_{secrets.token_hex(16)}'
            target.mkdir(mode=0o700)
            taken = False
            try:
                path = await self._write(request, address, target, upload_id)
                taken = True
            except MultiPartException as error:
                if 'size exceeded' in error.message:
                    return self._too_large()
                return PlainTextResponse(f'The form cannot be read: {error.message}', 400)
            except ValueError as error:
                return PlainTextResponse(f'The form cannot be read: {error}', 400)
            finally:
                if not taken:
                    shutil.rmtree(target, ignore_errors=True)
        return JSONResponse([str(path)])

    async def _write(self, request: Request, address: str, target: Path, upload_id: str) -> Path:
        form = await GradioMultiPartParser(
            request.headers,
            self._counted(request, address),
            max_files=1,
            max_fields=0,
            upload_dir=target,
            upload_id=upload_id,
            upload_progress=file_upload_statuses if upload_id else None,
            max_file_size=self.most_bytes,
        ).parse()
        file = form.get('files')
        if not isinstance(file, GradioUploadFile):
            raise ValueError('it has no file, or is cut off')
        await file.close()
        path = target / clean_name(file.filename or '')
        os.rename(file.file.name, path)
        return path

    async def _counted(self, request: Request, address: str) -> AsyncIterator[bytes]:
        """The body, and what of it has come goes to the account of the address, kept or not."""
        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > self.most_bytes + _FORM:
                    raise MultiPartException('size exceeded')
                self._check(address, size)
                yield chunk
        finally:
            self._latest.add(address, size)

    def _check(self, address: str, size: int = 0) -> None:
        count, total = self._latest.total(address)
        if count >= self.an_hour[0] or total + size > self.an_hour[1]:
            wait = self._latest.wait(address)
            raise TooMuch(
                f'You have sent {count} files with {total / 1e6:.0f} MB within an hour: '
                f'wait {wait / 60:.0f} minutes.',
                wait,
            )

    def _too_large(self) -> Response:
        return PlainTextResponse(f'A file has at most {self.most_bytes / 1e9:g} GB.', 413)


def clean_name(name: str) -> str:
    """A file's name that is one on every system, in at most 200 bytes."""
    name = strip_invalid_filename_characters(name.replace('\\', '/').rpartition('/')[2])
    return 'file' if name.strip('. ') == '' else name
