"""JSON and YAML from outside, through every door that reads them: one error that names the file."""

import json
import os
import pickle

import numpy as np
import pytest

from mmpose_attn.apis import find_sources
from mmpose_attn.apis.detection import GivenBoxes
from mmpose_attn.apis.outputs import Journal
from mmpose_attn.evaluation.complexity import published
from mmpose_attn.files import read_file, read_json
from mmpose_attn.visualization.curves import read_curve
from mmpose_attn.yaml_files import read_yaml
from tests.data_helpers import jpeg

HOSTILE_JSON = {
    'empty': b'',
    'white': b' \n\t',
    'truncated': b'[{"image_id": 1, "bbox": [1, 2',
    'truncated text': b'[{"image_id": "1',
    'no JSON': b'<html>404</html>',
    'two values': b'[] []',
    'UTF-16': '[{"image_id": 1}]'.encode('utf-16'),
    'not UTF-8': b'["\xff\xfe"]',
    'compressed': b'\x1f\x8b\x08\0\0\0\0\0',
    'pickle': pickle.dumps([1]),
    'deep lists': b'[' * 200_000,
    'deep objects': b'{"a":' * 100_000 + b'1' + b'}' * 100_000,
    'deep and whole': b'[' * 65 + b']' * 65,
    'twice': b'[{"image_id": 1, "score": 0.5, "image_id": 2}]',
    'twice within': b'{"images": [{"id": 1, "file_name": "a", "id": 2}]}',
    'long integer': b'[' + b'9' * 5000 + b']',
    'beyond 64 bits': b'[{"id": 9223372036854775808}]',
    'half a character': b'[{"file_name": "a\\ud800.jpg"}]',
    'other type': b'"images"',
    'null': b'null',
}
DOORS = {
    'read_json': lambda path: read_json(path, kind=(list if path.suffix == '.list' else dict)),
    'boxes': GivenBoxes,
    'ids': lambda path: find_sources(path.parent / '1.jpg', path),
    'log': read_curve,
    'journal': lambda path: Journal(path, {}, resume=True),
}


@pytest.mark.parametrize('door', DOORS)
@pytest.mark.parametrize('content', HOSTILE_JSON)
def test_hostile_json_is_one_error(tmp_path, door, content):
    path = tmp_path / 'from_outside.json'
    path.write_bytes(HOSTILE_JSON[content])
    (tmp_path / '1.jpg').write_bytes(jpeg())
    if (content, door) == ('empty', 'journal'):
        pytest.skip('a run that ended before its first line: it begins anew')
    with pytest.raises(ValueError, match=r'from_outside\.json') as error:
        DOORS[door](path)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize('read', [read_json, read_yaml, read_file])
def test_what_is_no_file_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / 'pipe')
    with open(tmp_path / 'huge', 'wb') as file:
        file.truncate(2**40)
    for name, what in (('pipe', 'pipe or device'), ('.', 'folder'), ('huge', 'bytes, at most')):
        with pytest.raises(ValueError, match=what):
            read(tmp_path / name)
    with pytest.raises(ValueError, match='pipe or device'):
        read('/dev/zero')
    with pytest.raises(FileNotFoundError, match=r'gone\\x1b\[31m does not exist'):
        read(tmp_path / 'gone\x1b[31m')


def test_good_json(tmp_path):
    path = tmp_path / 'good.json'
    deep = json.loads('[' * 63 + ']' * 63)
    value = {'deep': deep, 'text': '[' * 500 + '9' * 500, 'id': 2**63 - 1}
    path.write_bytes(b'\xef\xbb\xbf' + json.dumps(value).encode())
    assert read_json(path, kind=dict) == value
    path.write_text(r'["\ud83d\ude00"]')
    assert read_json(path) == ['\U0001f600']
    path.write_text('[NaN, 1e5, 0.12345678901234567890123, -9223372036854775808]')
    with pytest.raises(ValueError, match=r'good\.json .*NaN is no number'):
        read_json(path)
    nan, *numbers = read_json(path, nan=True)
    assert np.isnan(nan) and numbers == [1e5, 0.12345678901234568, -(2**63)]


BOX = dict(image_id=1, category_id=1, bbox=[1, 2, 3, 4], score=0.5)


@pytest.mark.parametrize(
    'change',
    [
        *(dict(bbox=[1, 2, 3, bad]) for bad in ('NaN', 1e39, -5)),
        *(dict(image_id=bad) for bad in (1.5, '1', True, None, [1])),
        *(dict(category_id=bad) for bad in (0.5, 'person')),
        *(dict(score=bad) for bad in ('high', 1e300, [1])),
    ],
)
def test_boxes_that_are_no_numbers(tmp_path, change):
    path = tmp_path / 'boxes.json'
    path.write_text(json.dumps([BOX, dict(BOX, **change)]))
    with pytest.raises(ValueError, match=r'boxes\.json is not a COCO detection file.*entry 1'):
        GivenBoxes(path)


def test_ids_that_are_none_or_of_two_pictures(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(jpeg())
    path = tmp_path / 'ids.json'
    for ids in (['x'], [1.5], [True], [1, 2]):
        path.write_text(json.dumps(dict(images=[dict(file_name='a.jpg', id=i) for i in ids])))
        with pytest.raises(ValueError, match=r'ids\.json is no COCO file'):
            find_sources(tmp_path / 'a.jpg', path)


def test_journal_of_others(tmp_path):
    path = tmp_path / 'journal.jsonl'
    for record in ('{"journal": 1}', '{"frame": 1}\n{"end": 0}', '{"done": []}\n{"end": 0}', '[1]'):
        path.write_text(f'{record}\n')
        with pytest.raises(ValueError, match=r'journal\.jsonl'):
            Journal(path, {}, resume=True)


# ----------------------------------------------------------------------------- YAML
LEVELS = [f'a{i}: &a{i} [{", ".join([f"*a{i - 1}"] * 9)}]' for i in range(1, 10)]
MERGES = [f'a{i}: &a{i} {{<<: [{", ".join([f"*a{i - 1}"] * 9)}]}}' for i in range(1, 10)]
HOSTILE_YAML = {
    'code': "a: !!python/object/apply:os.system ['echo > {folder}/created']",
    'aliases of aliases': '\n'.join(['a0: &a0 [1]', *LEVELS]),
    'merges of merges': '\n'.join(['a0: &a0 {x: 1}', *MERGES]),
    'within itself': '&a [*a]',
    'deep': '[' * 200 + ']' * 200,
    'twice': 'a: 1\na: 2',
    'long integer': f'a: {"9" * 5000}',
    'no date': 'a: 2020-13-45',
    'odd tag': '? !!timestamp x\n: 1',
    'no key': '? {a: b}\n: c',
    'control': 'a: \x01',
    'two': '--- a\n--- b',
    'list': '[1]',
    'empty': '',
}


@pytest.mark.parametrize('door', [lambda p: read_yaml(p, kind=dict), lambda p: published([p])])
@pytest.mark.parametrize('content', HOSTILE_YAML)
def test_hostile_yaml_is_one_error(tmp_path, door, content):
    path = tmp_path / 'from_outside.yml'
    path.write_text(HOSTILE_YAML[content].replace('{folder}', str(tmp_path)))
    with pytest.raises(ValueError, match=r'from_outside\.yml'):
        door(path)
    assert not (tmp_path / 'created').exists()


def test_good_yaml(tmp_path):
    path = tmp_path / 'good.yml'
    path.write_text('a: &a [1, x]\nb: *a\nc: {<<: &d {e: 1}}\n')
    assert read_yaml(path) == dict(a=[1, 'x'], b=[1, 'x'], c=dict(e=1))
