"""``tools/app.py``: poses and attention maps on a page in the browser."""

import os
import secrets
import signal
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from .addresses import host_name, is_loopback, is_wildcard, link, listen
from .service import PoseService
from .sources import find_sources

_SHORTEST_PASSWORD = 8


def serve(
    config: Sequence[str],
    checkpoint: Sequence[str],
    *,
    detector: Sequence[str] = (),
    detector_checkpoint: Sequence[str] = (),
    device: str = 'auto',
    host: str = '127.0.0.1',
    port: int = 7860,
    allowed_host: Sequence[str] = (),
    password: str | None = None,
    no_auth: bool = False,
    examples: str | os.PathLike | None = None,
) -> None:
    """Serve the page until Ctrl-C or ``kill``. Files live in a temporary folder until then.

    Args:
        config, checkpoint: of every pose network, as for :class:`PosePredictor`.
        detector, detector_checkpoint: of every detector, as for :class:`PersonDetector`.
        device: as for :class:`PosePredictor`.
        host: address to listen at, or a name of one; ``'0.0.0.0'`` is every address of the machine.
            If others can reach it, the page is for those alone who have the link that is printed.
        port: to listen at; 0 is any that is free.
        allowed_host: further names under which the page may be asked for.
        password: lets in who knows it, instead of the link.
        no_auth: let in everybody who reaches the address.
        examples: folder of pictures and videos to choose from.

    Raises:
        FileNotFoundError: a file or folder does not exist.
        ModuleNotFoundError: Gradio is not installed.
        OSError: the address or port cannot be used.
        ValueError: an argument does not fit.
    """
    # no telemetry and no question for new versions
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    with tempfile.TemporaryDirectory(prefix='mmpose_attn_app_') as folder:
        os.environ['GRADIO_TEMP_DIR'] = folder  # is read when Gradio is imported, and later
        try:
            from .access import Access
            from .guard import Guard
            from .page import build_page, jobs, web_app
            from .server import make_server
            from .uploads import Uploads
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f'the page needs Gradio (no module {error.name}): pip install "mmpose_attn[app]"'
            ) from error
        models = _pairs(config, checkpoint, 'a config')
        detectors = _pairs(detector, detector_checkpoint, 'a detector')
        found = [] if examples is None else find_sources(examples)
        names = _names([*allowed_host, host])
        _check_password(password, no_auth)
        with listen(host, port) as listening:  # before networks are loaded
            address, port = listening.getsockname()[:2]
            service = PoseService(models, detectors, folder=folder, device=device)
            page = build_page(service, [Path(source.origin) for source in found])
            url, access = link(host, address, port), None
            if password is not None:
                access = Access(password, is_link=False, port=port)
            elif not no_auth and not is_loopback(address):
                token = secrets.token_urlsafe(32)
                access = Access(token, is_link=True, port=port)
                url += f'?token={token}'
            app = Guard(
                web_app(page),
                names=names,
                folder=service.folder,
                uploads=Uploads(service.folder, service.make_room),
                functions=page.fns,
                jobs=partial(jobs, page),
                access=access,
            )
            told = f'{url} shows the page; Ctrl-C ends it'
            if is_wildcard(address):
                told += '. On other machines, the address of this one stands in its place'
            server = make_server(
                app,
                begun=partial(print, told, flush=True),
                ends=partial(page.close, verbose=False),
            )
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            with suppress(KeyboardInterrupt):
                server.run(sockets=[listening])


def _names(given: Sequence[str]) -> list[str]:
    plain = [name.partition('%')[0] for name in given]
    names = [host_name(f'[{name}]' if name.count(':') > 1 else name) for name in plain]
    for name, text in zip(names, given):
        if name is None:
            raise ValueError(f"a name of a host is one like 'pose.example.org', got {text!r}")
    return names


def _check_password(password: str | None, no_auth: bool) -> None:
    if password is None:
        return
    if no_auth:
        raise ValueError('password asks who somebody is, no_auth does not: give one of them')
    if len(password) < _SHORTEST_PASSWORD or not password.isprintable():
        raise ValueError(
            f'password has at least {_SHORTEST_PASSWORD} characters in one line, none of them '
            'control characters'
        )


def _pairs(configs: Sequence[str], checkpoints: Sequence[str], what: str) -> list[tuple[str, str]]:
    if len(configs) != len(checkpoints):
        raise ValueError(
            f'every checkpoint belongs to {what}: got {len(configs)} and {len(checkpoints)}'
        )
    return list(zip(configs, checkpoints))
