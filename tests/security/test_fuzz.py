"""The fuzzer finds what it is to find, repeats itself, and finds nothing in a few seconds."""

import faulthandler
import os
import subprocess
import sys
import time

import pytest

from fuzz import engine
from fuzz.mutate import mutate_bytes, mutate_json, mutate_png, mutate_zip
from tests.helpers import ROOT


def killed(path):
    faulthandler.disable()  # pytest's, which would print where
    os.kill(os.getpid(), 11)


def allocated(path):
    return len(b'x' * 1_600_000_000)


def refused(path):
    raise ValueError('documented')


def raised(path):
    raise KeyError('not documented')


@pytest.mark.parametrize(
    ('enter', 'kind', 'detail'),
    [
        (len, 'undocumented', 'TypeError'),
        (str, 'result', ''),
        (refused, 'error', 'ValueError'),
        (raised, 'undocumented', 'KeyError at test_fuzz.py'),
        (killed, 'crash', 'SIGSEGV'),
        (lambda path: os._exit(3), 'crash', 'exit status 3'),
        (allocated, 'memory', ''),
        (lambda path: bytearray(2**40), 'memory', 'MemoryError'),
        (lambda path: time.sleep(600), 'hang', ''),
    ],
)
def test_verdicts(tmp_path, monkeypatch, enter, kind, detail):
    monkeypatch.setattr(engine, 'MOST_SECONDS', 2.0 if kind == 'hang' else 60.0)
    door = engine.Door('door', [('.txt', b'abcdef')], enter, (ValueError,))
    verdict = engine.judge(door, tmp_path / 'file')
    assert verdict.kind == kind and detail in verdict.detail
    assert verdict.bad == (kind not in ('result', 'error'))


def test_findings_are_kept(tmp_path):
    def enter(path):
        if len(path.read_bytes()) % 2:
            raise KeyError('odd')

    door = engine.Door('door', [('.txt', b'abcdef' * 9)], enter, (ValueError,))
    tally = engine.run([door], 1.0, seed=1, out=tmp_path)['door']
    assert tally.kinds['result'] > 0 and tally.kinds['undocumented'] > 0
    ((what, repeat),) = tally.findings.items()
    assert what.startswith('undocumented: KeyError at test_fuzz.py')
    kept, details = sorted(tmp_path.iterdir())
    assert repeat == f'--door door --file {kept}' and len(kept.read_bytes()) % 2
    assert "KeyError: 'odd'" in details.read_text()
    assert engine.judge(door, kept).kind == 'undocumented'
    number = int(kept.stem.split('-')[-1])
    assert door.case(1, number) == ('.txt', kept.read_bytes())


def test_a_door_that_refuses_good_files_is_a_finding(tmp_path):
    door = engine.Door('door', [('.txt', b'good')], refused, (ValueError,))
    tally = engine.run([door], 0.1, seed=1, out=tmp_path)['door']
    assert list(tally.findings) == ['refused: a good file: ValueError']


@pytest.mark.parametrize('mutate', [mutate_bytes, mutate_json, mutate_png, mutate_zip])
def test_mutations_differ_and_repeat(mutate):
    seed = b'[{"id": 1, "bbox": [1, 2, 3, 4]}, "text", null]'
    door = engine.Door('door', [('', seed)], len, (), mutate)
    made = [door.case(0, number)[1] for number in range(200)]
    assert made == [door.case(0, number)[1] for number in range(200)]
    assert len(set(made)) > 100


def test_a_few_seconds_of_it(tmp_path):
    ran = subprocess.run(
        [sys.executable, '-m', 'fuzz', '--seconds', '5', '--out', str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert 'seed 0: 0 findings' in ran.stdout
