"""The page of :func:`mmpose_attn.apis.app.serve`; it needs Gradio."""

import os
import shutil
import threading
from collections.abc import Sequence
from html import escape
from pathlib import Path

import gradio as gr
from fastapi import FastAPI
from starlette.routing import Mount
from starlette.types import ASGIApp

from .addresses import visitor
from .service import Outcome, PoseService, failure, first_frame, shrunk
from .uploads import MOST_BYTES

_WAITING = 20  # jobs; who comes then is told so
_VISITORS = 1000  # whose jobs can be stopped
_WELCOME = 'Drop a picture or a video, then press Find people.'
_NO_MAPS = '<p>They appear here after a network with attention modules has run.</p>'
_DOWNLOADS = 'COCO JSON', 'CSV', 'Drawn', 'Attention maps'
_PROGRESS = gr.Progress()
_STYLE = """
.message {padding: 0.6em 0.9em; border-radius: 6px; border-left: 4px solid #4a9d5b;
          background: var(--background-fill-secondary); color: var(--body-text-color)}
.message.failed {border-color: #d04437}
.message.waits {border-color: #888}
#model input, #detector input {text-overflow: ellipsis}
iframe {width: 100%; height: 600px; border: 0; background: white}
"""


def web_app(page: gr.Blocks) -> ASGIApp:
    """What serves a page; :class:`mmpose_attn.apis.guard.Guard` belongs before it."""
    # fonts of the system: others would be asked of a server far away
    fonts = dict(font=('system-ui', 'sans-serif'), font_mono=('monospace',))
    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page.queue(max_size=_WAITING, api_open=False),
        path='/',
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        show_error=False,
        max_file_size=MOST_BYTES,  # the browser says so at once
        footer_links=[],
        theme=gr.themes.Default(**fonts),
        css=_STYLE,
    )
    # or Gradio does not check which files it is given, and does not end its streams
    page.has_launched = True
    page.app = next(route.app for route in app.routes if isinstance(route, Mount))
    return app


def jobs(page: gr.Blocks, address: str) -> int:
    """How many jobs an address has, waiting or at work."""
    events = list(page._queue.event_ids_to_events.values())
    return sum(visitor(event.request.client.host) == address for event in events)


def build_page(service: PoseService, examples: Sequence[Path] = ()) -> gr.Blocks:
    """The page of a service.

    Args:
        service: answers; its ``folder`` is in the environment variable ``GRADIO_TEMP_DIR``.
        examples: pictures and videos to choose from.
    """
    handlers = _Handlers(service, examples)
    with gr.Blocks(title='mmpose_attn', analytics_enabled=False, fill_width=True) as page:
        gr.Markdown('# People, their poses, and what attention does')
        with gr.Row():
            with gr.Column(scale=1, min_width=340):
                file = gr.File(label='Picture or video', elem_id='file', height=140)
                model = gr.Dropdown(service.models, label='Pose network', elem_id='model')
                detector = gr.Dropdown(
                    service.detectors,
                    label='Detector',
                    info='for top-down networks; bottom-up ones find people by themselves',
                    elem_id='detector',
                )
                with gr.Accordion('Options', open=False):
                    box = gr.Slider(0, 1, 0.3, step=0.05, label='Least score of a box')
                    keypoint = gr.Slider(0, 1, 0.3, step=0.05, label='Least score of a keypoint')
                    track = gr.Checkbox(True, label='Give people in videos ids that they keep')
                with gr.Row():
                    run = gr.Button('Find people', variant='primary', elem_id='run')
                    stop = gr.Button('Stop', interactive=False, elem_id='stop', min_width=80)
                if examples:
                    gr.Markdown('Examples')
                    gallery = gr.Gallery(
                        [
                            (shrunk(first_frame(path), 240)[..., ::-1], path.name)
                            for path in examples
                        ],
                        columns=2,
                        height=260,
                        show_label=False,
                        container=False,
                        allow_preview=False,
                        interactive=False,
                        buttons=[],
                        elem_id='examples',
                    )
            with gr.Column(scale=3, min_width=480):
                message = gr.Markdown(
                    _message(_WELCOME, 'waits'), latex_delimiters=[], elem_id='message'
                )
                with gr.Row():
                    downloads = [
                        gr.DownloadButton(label, visible=False, size='md', elem_id=f'download-{i}')
                        for i, label in enumerate(_DOWNLOADS)
                    ]
                with gr.Tab('Poses'):
                    picture = gr.Image(
                        show_label=False, interactive=False, buttons=['fullscreen'], height=480
                    )
                    video = gr.Video(
                        show_label=False, interactive=False, visible=False, height=480, buttons=[]
                    )
                with gr.Tab('Attention maps'):
                    attention = gr.Markdown(
                        _NO_MAPS, sanitize_html=False, latex_delimiters=[], elem_id='attention'
                    )
        shown = [message, picture, video, attention, *downloads]
        # what is quick does not stand in the queue
        quick = dict(queue=False, show_progress='hidden', api_visibility='private')
        file.change(handlers.preview, file, shown, **quick)
        begun = run.click(handlers.begin, None, [run, stop, message], **quick)
        worked = begun.then(
            handlers.work,
            [file, model, detector, box, keypoint, track],
            shown,
            concurrency_limit=1,
            api_visibility='private',
            show_progress_on=[picture, video],
        )
        worked.then(handlers.end, None, [run, stop], **quick)
        worked.failure(handlers.refused, None, [run, stop, message], **quick)  # the queue was full
        stop.click(handlers.stop, None, stop, **quick)
        if examples:
            gallery.select(handlers.choose, None, file, **quick)
        page.unload(handlers.leave)
    return page


class _Handlers:
    """What happens when something on the page is done, for every visitor by himself."""

    def __init__(self, service: PoseService, examples: Sequence[Path]) -> None:
        self.service, self.examples = service, examples
        self._stops: dict[str, threading.Event] = {}
        self._copying = threading.Lock()

    def choose(self, event: gr.SelectData) -> str:
        # the page may serve its own folder alone; once is enough for all
        example = self.examples[event.index]
        target = self.service.folder / f'example_{event.index}' / example.name
        with self._copying:
            if not target.exists():
                target.parent.mkdir(exist_ok=True)
                part = shutil.copy(example, target.with_name('part'))
                os.replace(part, target)
        return str(target)

    def preview(self, path: str | None) -> list:
        if path is None:
            return _show(Outcome(_WELCOME), 'waits')
        try:
            return _show(Outcome('Ready: press Find people.', picture=first_frame(path)), 'waits')
        except (ValueError, OSError) as error:
            return _show(failure(error, path))

    def begin(self, request: gr.Request) -> list:
        self._stops[request.session_hash] = threading.Event()
        if len(self._stops) > _VISITORS:
            self._stops.pop(next(iter(self._stops)), None)
        waits = _message('At work. Stop keeps what there is by then.', 'waits')
        return [gr.update(interactive=False), gr.update(interactive=True), waits]

    def stop(self, request: gr.Request) -> dict:
        self.leave(request)
        return gr.update(interactive=False)

    def leave(self, request: gr.Request) -> None:
        if stop := self._stops.get(request.session_hash):
            stop.set()

    def work(
        self,
        path: str | None,
        model: str,
        detector: str,
        box_score: float,
        keypoint_score: float,
        track: bool,
        request: gr.Request,
        progress: gr.Progress = _PROGRESS,
    ) -> list:
        if path is None:
            outcome = Outcome(_WELCOME, failed=True)
        else:
            outcome = self.service.run(
                path,
                model,
                detector,
                box_score=box_score,
                keypoint_score=keypoint_score,
                track=track,
                stop=self._stops.get(request.session_hash),
                progress=lambda done, total: progress((done, total), unit='frames'),
            )
        self._stops.pop(request.session_hash, None)
        return _show(outcome)

    def end(self) -> list:
        return [gr.update(interactive=True), gr.update(interactive=False)]

    def refused(self) -> list:
        return [*self.end(), _message('It was not begun: press Find people again later.', 'failed')]


def _message(text: str, kind: str) -> str:
    return f'<div class="message {kind}" role="status">{_one_line(escape(text))}</div>'


def _one_line(html: str) -> str:
    # an empty line would end the HTML within Markdown. gr.HTML has none of this, but evaluates
    # strings as JavaScript, for which the policy of the page's content would have to allow that
    return html.replace('\r', '').replace('\n', '&#10;')


def _show(outcome: Outcome, kind: str = '') -> list:
    """Values for the message, the picture, the video, the attention maps and the downloads."""
    picture, maps = outcome.picture, _NO_MAPS
    if outcome.attention is not None:
        # a page of its own, which may do nothing but be looked at
        contents = _one_line(escape(outcome.attention.read_text(encoding='utf-8')))
        frame = f'<iframe sandbox title="Attention maps" srcdoc="{contents}"></iframe>'
        maps = f'<div>{frame}</div>'
    downloads = [gr.update(value=path, visible=True) for path in outcome.files]
    downloads += [gr.update(visible=False)] * (len(_DOWNLOADS) - len(downloads))
    return [
        _message(outcome.message, kind or 'failed' * outcome.failed),
        gr.update(
            value=None if picture is None else picture[..., ::-1], visible=outcome.video is None
        ),
        gr.update(value=outcome.video, visible=outcome.video is not None),
        maps,
        *downloads,
    ]
