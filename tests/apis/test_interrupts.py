"""Ctrl-C and kill at every line of a run: whole files, the right status, and a run that goes on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import pytest

from mmpose_attn.apis import InferenceSession, PosePredictor, drawings, journal, outputs, session
from mmpose_attn.apis.interrupts import Interrupts
from tests.data_helpers import ROOT, jpeg
from tests.inference_helpers import write_video

TRACED = {module.__file__ for module in (drawings, journal, outputs, session)}


@pytest.fixture(autouse=True)
def handlers():
    """Those of a new process: tests before may have left others."""
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in defaults.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def start(networks, tmp_path, monkeypatch):
    """``start(out)`` -> a session with a picture and a video of five frames; the network is real
    and built once."""
    predictor = PosePredictor(*networks['topdown'], device='cpu', batch=2)
    monkeypatch.setattr(session, 'PosePredictor', lambda *args, **kwargs: predictor)
    monkeypatch.setattr(drawings, '_LEAST_SIDE', 1)  # small ones are encoded in no time
    folder = tmp_path / 'in'
    folder.mkdir()
    (folder / 'a.jpg').write_bytes(jpeg())
    write_video(folder / 'b.avi', 5)

    def start(out, **options):
        return InferenceSession([folder], out, *networks['topdown'], track=True, **options)

    return start


def contents(folder):
    files = sorted(p for p in folder.rglob('*') if p.is_file() and p.name != 'journal.jsonl')
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def trace(run, act):
    """``run()``, with ``act(line)`` before every line of the traced modules."""

    def each(frame, event, _):
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == 'line':
            act((Path(frame.f_code.co_filename).name, frame.f_lineno))
        return each

    before = sys.gettrace()
    sys.settrace(each)
    try:
        return run()
    finally:
        sys.settrace(before)


def frames_of(path):
    with av.open(str(path)) as file:
        return sum(1 for _ in file.decode(video=0))


def assert_whole(out):
    """Tables that can be read, and in the drawn video exactly the frames that are in them."""
    assert not [path for path in out.rglob('.*')]
    if (out / 'images.json').exists():
        images = json.loads((out / 'images.json').read_text())['images']
        known = {image['id'] for image in images}
        assert {r['image_id'] for r in json.loads((out / 'results.json').read_text())} <= known
        video = out / 'drawn' / 'b.avi.mp4'
        count = sum('#' in image['file_name'] for image in images)
        assert (frames_of(video) if video.exists() else 0) == count


@pytest.mark.parametrize(
    ('number', 'step'),
    [
        pytest.param(signal.SIGINT, 1, marks=pytest.mark.slow),
        (signal.SIGINT, 9),
        (signal.SIGTERM, 15),
    ],
)
def test_a_signal_at_any_line(start, tmp_path, number, step):
    whole, lines = tmp_path / 'whole', {}
    running = start(whole)
    trace(lambda: running.run(progress=False), lambda line: lines.setdefault(line))
    assert len(lines) > 120
    if number == signal.SIGTERM:  # which ends this process outside of what run() guards
        lines = [line for line in lines if line[0] in ('journal.py', 'outputs.py')]
    unguarded = []
    for line in list(lines)[::step]:
        out = tmp_path / f'{line[0]}_{line[1]}'
        running, sent = start(out), []

        def send(now, line=line, sent=sent):
            if now == line and not sent:
                sent.append(now)
                signal.raise_signal(number)

        try:
            summary = trace(lambda: running.run(progress=False), send)  # noqa: B023
        except KeyboardInterrupt:  # before anything began, or after all was done
            running.journal.close()
            unguarded.append(line)
        else:
            assert sent and summary.interrupted and summary.exit_status == 128 + number
        assert_whole(out)
        again = start(out, resume=True).run(progress=False)
        assert again.exit_status == 0 and contents(out) == contents(whole), line
    assert len(unguarded) < 20


def test_an_interruption_that_nobody_holds_back(start, tmp_path, monkeypatch):
    """As of a program with a handler of its own: files are whole all the same."""
    for kind, name in (
        (drawings._VideoFile, 'add'),
        (drawings._VideoFile, 'end'),
        (journal.Journal, 'add'),
        (journal.Journal, '_write'),
    ):
        for before in (True, False):
            out = tmp_path / f'{kind.__name__}_{name}_{before}'
            running = start(out)
            function, calls = getattr(kind, name), []

            def interrupted(*args, function=function, before=before, calls=calls):
                calls.append(args)
                if len(calls) == 1 and before:
                    raise KeyboardInterrupt
                done = function(*args)
                if len(calls) == 1:
                    raise KeyboardInterrupt
                return done

            with monkeypatch.context() as patch:
                patch.setattr(kind, name, interrupted)
                summary = running.run(progress=False)
            assert calls and summary.exit_status == 130
            for name_ in outputs.TABLES:
                assert (out / name_).exists()
            assert not list(out.rglob('.*'))
            assert start(out, resume=True).run(progress=False).frames == 6


def test_a_line_of_the_journal_that_was_cut_is_taken_back(tmp_path):
    kept = journal.Journal(tmp_path / 'journal.jsonl', {}, resume=False)
    before = kept.path.read_bytes()

    class Cut:
        def __init__(self, file):
            self._file = file

        def write(self, data):
            self._file.write(data[:7])
            raise KeyboardInterrupt

        def __getattr__(self, name):
            return getattr(self._file, name)

    kept._file = Cut(kept._file)
    with pytest.raises(KeyboardInterrupt):
        kept.add([], 'b.avi')
    assert kept.path.read_bytes() == before
    kept.close()


def test_handlers_of_others_stay_and_ours_go():
    mine = []

    def handler(*_):
        mine.append(True)

    before = signal.signal(signal.SIGINT, handler)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGINT)
        assert mine and interrupts.signal is None
    finally:
        signal.signal(signal.SIGINT, before)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)  # is kept
        with pytest.raises(KeyboardInterrupt):
            interrupts.next(iter([1]))
    assert interrupts.signal == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    found = []
    thread = threading.Thread(target=lambda: found.append(Interrupts().__enter__().next(iter([3]))))
    thread.start(), thread.join()
    assert found == [3]


def test_the_tool(networks, tmp_path, number=signal.SIGTERM):
    config, checkpoint = networks['topdown']
    write_video(tmp_path / 'b.avi', 200)
    process = subprocess.Popen(
        [
            *(sys.executable, '-W', 'ignore', ROOT / 'tools' / 'infer.py', tmp_path / 'b.avi'),
            *('--config', config, '--checkpoint', checkpoint, '--out', tmp_path / 'out'),
            *('--batch', '1', '--device', 'cpu'),
        ],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    partial, deadline = tmp_path / 'out' / 'drawn' / '.partial_b.avi.mp4', time.monotonic() + 120
    while not partial.exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert 'Interrupted; the same command with --resume goes on.' in out and 'error' not in err
    assert_whole(tmp_path / 'out')
