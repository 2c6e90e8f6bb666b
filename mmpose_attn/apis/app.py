"""``tools/app.py``: poses and attention maps on a page in the browser."""

import os
import signal
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .service import PoseService
from .sources import find_sources


def serve(
    config: Sequence[str],
    checkpoint: Sequence[str],
    *,
    detector: Sequence[str] = (),
    detector_checkpoint: Sequence[str] = (),
    device: str = 'auto',
    host: str = '127.0.0.1',
    port: int = 7860,
    examples: str | os.PathLike | None = None,
) -> None:
    """Serve the page until Ctrl-C or ``kill``. Files live in a temporary folder until then.

    Args:
        config, checkpoint: of every pose network, as for :class:`PosePredictor`.
        detector, detector_checkpoint: of every detector, as for :class:`PersonDetector`.
        device: as for :class:`PosePredictor`.
        host: address to listen at; ``'0.0.0.0'`` lets everybody in who reaches the machine.
        port: to listen at; 0 is any that is free.
        examples: folder of pictures and videos to choose from.

    Raises:
        FileNotFoundError: a file or folder does not exist.
        ModuleNotFoundError: Gradio is not installed.
        OSError: the address or port cannot be used.
        ValueError: an argument does not fit.
    """
    # no telemetry and no question for new versions
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    # Gradio calls itself, which no proxy can do for it
    os.environ['no_proxy'] = f'{os.environ.get("no_proxy", "")},localhost,127.0.0.1,{host}'
    with tempfile.TemporaryDirectory(prefix='mmpose_attn_app_') as folder:
        os.environ['GRADIO_TEMP_DIR'] = folder  # is read when Gradio is imported, and later
        try:
            from .page import build_page, launch
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f'the page needs Gradio (no module {error.name}): pip install "mmpose_attn[app]"'
            ) from error
        models = _pairs(config, checkpoint, 'a config')
        detectors = _pairs(detector, detector_checkpoint, 'a detector')
        found = [] if examples is None else find_sources(examples)
        if not 0 <= port < 2**16:
            raise ValueError(f'port is from 0, for any that is free, to 65535, got {port}')
        with socket.create_server((host, port)) as probe:  # before networks are loaded
            port = probe.getsockname()[1]
        service = PoseService(models, detectors, folder=folder, device=device)
        page = build_page(service, [Path(source.origin) for source in found])
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            print(f'{launch(page, host, port)} shows the page; Ctrl-C ends it', flush=True)
            page.block_thread()
        except KeyboardInterrupt:
            pass
        finally:
            page.close(verbose=False)


def _pairs(configs: Sequence[str], checkpoints: Sequence[str], what: str) -> list[tuple[str, str]]:
    if len(configs) != len(checkpoints):
        raise ValueError(
            f'every checkpoint belongs to {what}: got {len(configs)} and {len(checkpoints)}'
        )
    return list(zip(configs, checkpoints))
