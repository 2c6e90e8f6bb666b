"""check_dataset: what it says of good data, and that it finds each kind of bad ones."""

import copy
import json
import re
import runpy
import sys
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmpose_attn.datasets.check import Section, Table, check_dataset
from mmpose_attn.datasets.check.contact_sheet import _choose, side_colors
from mmpose_attn.datasets.check.contents import leaves, load
from mmpose_attn.datasets.check.oracles import imperfect
from mmpose_attn.datasets.check.page import page
from mmpose_attn.datasets.check.report import MOST, Report
from tests.data_helpers import (
    TINY,
    TINY_TOPDOWN,
    edit_json,
    make_crowdpose,
    make_mpii,
    make_small_dataset,
    real_data,
    write_config,
)
from tests.helpers import ROOT
from tests.own_data import BOTTOM_UP, NAMES, TOP_DOWN, draw_flies, write_metainfo

BASES = dict(
    bottomup=(ROOT / 'configs/demo_higherhrnet_se_synthetic_256.py', TINY, BOTTOM_UP),
    topdown=(ROOT / 'configs/hrnet_w32_coco_256x192.py', TINY_TOPDOWN, TOP_DOWN),
)


@pytest.fixture(params=BASES)
def flies(request, tmp_path):
    """A config for an own data set of a few flies, and its folder."""
    folder = draw_flies(tmp_path / 'flies', dict(train=3, val=3), seed=3)
    return make_config(folder, request.param), folder


def make_config(folder, kind):
    base, tiny, own = BASES[kind]
    text = own.format(root=f'{folder}/', metainfo=str(write_metainfo(folder / 'metainfo.py')))
    # two files, as a config may set a name once
    (folder / 'tiny.py').write_text(tiny.format(base=str(base)))
    (folder / 'config.py').write_text("_base_ = ['./tiny.py']\n" + text)
    return folder / 'config.py'


def figures(report, title):
    """The rows of a table as a dict."""
    tables = [t for s in report.sections for t in s.tables if t.title.startswith(title)]
    return {row[0].strip(): row[1:] for row in tables[-1].rows}


def problems(config, **kwargs):
    return '\n'.join(check_dataset(config, jobs=1, **kwargs).problems)


def test_good_data(flies, tmp_path):
    config, folder = flies
    report = check_dataset(config, out=tmp_path / 'out', jobs=2)
    assert report.problems == [] and report.exit_status == 0
    assert [section.name for section in report.sections] == [
        'config',
        'train: annotations/train.json',
        'val, test: annotations/val.json',
    ]
    flies_there = json.loads((folder / 'annotations/val.json').read_text())['annotations']
    rows = figures(report, 'pictures and objects')
    assert rows['pictures'] == ['3'] and rows['of category 1 (fly)'] == [str(len(flies_there))]
    assert figures(report, 'keypoints')['left_wing'][3] == 'right_wing'
    said = figures(report, 'what the evaluator says')
    assert said['coco/AP'][0] == '1' and float(said['coco/AP'][1]) > 0.7
    every = figures(report, 'the best')['all']
    assert every[0] == str(7 * len(flies_there)) and 0 < float(every[1]) < 3 and every[3] == '0.0%'
    names = {path.name for path in (tmp_path / 'out').iterdir()}
    assert names == {'report.html', 'contact_sheet_train.png', 'contact_sheet_val_test.png'}
    sheet = cv2.imread(str(tmp_path / 'out/contact_sheet_train.png'))
    # lines of all three colours are in every third of the sheet: annotation, input, targets
    for part in np.array_split(sheet[30:], 3, axis=1):
        for color in set(side_colors(_meta())):
            near = np.abs(part.astype(int) - color).sum(-1) < 60
            assert near.sum() > 10
    assert 'nothing is wrong' in report.text()


def _meta():
    from tests.own_data import SWAPS

    return dict(flip_indices=list(SWAPS), keypoint_id2name=dict(enumerate(NAMES)))


def val(edit):
    return lambda folder: edit_json(folder / 'annotations/val.json', edit)


def first(**changes):
    return val(lambda contents: contents['annotations'][0].update(changes))


def lengthen(contents):
    for ann in contents['annotations']:
        x, y, w, h = ann['bbox']
        ann['bbox'] = [x + w, y + h, w, h]


def again(contents):
    ann = copy.deepcopy(contents['annotations'][0])
    contents['annotations'].append(dict(ann, id=999))


def copy_picture(name, other):
    def act(folder):
        (folder / 'images' / name).unlink()
        (folder / 'images' / name).write_bytes((folder / 'images' / other).read_bytes())
        for split in ('train', 'val'):
            sizes = {n: cv2.imread(str(folder / 'images' / n)).shape for n in (name, other)}

            def resize(contents, sizes=sizes):
                for image in contents['images']:
                    if image['file_name'] in sizes:
                        image['height'], image['width'] = sizes[image['file_name']][:2]

            edit_json(folder / 'annotations' / f'{split}.json', resize)

    return act


def break_picture(folder):
    path = folder / 'images/val_001.png'
    path.write_bytes(path.read_bytes()[:200])


def gone(folder):
    (folder / 'images/val_001.png').unlink()


def move_evaluated(folder):
    """The evaluator reads an older version of the annotations."""
    old = json.loads((folder / 'annotations/val.json').read_text())
    for ann in old['annotations']:
        ann['keypoints'] = [v + 8 * (i % 3 == 0) for i, v in enumerate(ann['keypoints'])]
    (folder / 'annotations/old.json').write_text(json.dumps(old))
    text = (folder / 'config.py').read_text()
    name = "val_evaluator = dict(ann_file=data_root + 'annotations/{}.json')"
    (folder / 'config.py').write_text(text.replace(name.format('val'), name.format('old')))


def _far(contents):
    contents['annotations'][0]['keypoints'][:3] = [5000, 5, 2]


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (break_picture, r'val_001\.png'),
        (gone, r'val_001\.png'),
        (val(again), 'the same object 2 times in .*: annotations .*, 999'),
        (copy_picture('val_001.png', 'val_000.png'), 'the same picture 2 times'),
        (copy_picture('val_001.png', 'train_000.png'), '1 pictures are the same in train'),
        (val(lengthen), 'outside|outside the box of their own object'),
        (val(_far), '5000'),
        (val(lambda c: c['images'][0].update(width=999)), '999'),
        (first(keypoints=[1, 2, 2]), 'keypoint'),
        (first(bbox=[0, 0, 3, 3], area=5), r'all its keypoints lie outside its box \(0, 0, 3, 3\)'),
        (
            first(area=2e4),
            'its area of 20,000 is larger than its box of .* AP, is then too high',
        ),
        (move_evaluated, 'the annotations themselves as predictions give coco/AP 0'),
    ],
)
def test_bad_data(spoil, message, tmp_path):
    folder = draw_flies(tmp_path / 'flies', dict(train=2, val=2), seed=4, most=1)
    config = make_config(folder, 'bottomup')
    spoil(folder)
    report = check_dataset(config, jobs=1)
    assert report.exit_status == 1
    assert re.search(message, '\n'.join(report.problems)), report.problems


def test_every_problem_of_a_file_is_listed(tmp_path):
    folder = draw_flies(tmp_path / 'flies', dict(train=2, val=3), most=1)

    def spoil(contents):
        for ann in contents['annotations'][:2]:
            ann['keypoints'] = ann['keypoints'][:-1]
        contents['annotations'][2]['bbox'] = [1, 2, 'a', 4]

    val(spoil)(folder)
    found = problems(make_config(folder, 'bottomup'), phases=['val'])
    ids = [
        ann['id']
        for ann in json.loads((folder / 'annotations/val.json').read_text())['annotations']
    ]
    assert all(f'annotation {ident}' in found for ident in ids)


def test_categories_other_than_one_are_evaluated(flies):
    config, folder = flies
    for split in ('train', 'val'):

        def renumber(contents):
            contents['categories'][0]['id'] = 3
            for ann in contents['annotations']:
                ann['category_id'] = 3

        edit_json(folder / 'annotations' / f'{split}.json', renumber)
    report = check_dataset(config, ['val'], jobs=1)
    assert not report.problems
    assert figures(report, 'what the evaluator says')['coco/AP'][0] == '1'


def test_a_keypoint_that_is_never_labelled_is_a_note(tmp_path):
    folder = draw_flies(tmp_path / 'flies', dict(train=2, val=2), most=1)

    def hide(contents):
        for ann in contents['annotations']:
            ann['keypoints'][6:9], ann['num_keypoints'] = [0, 0, 0], 6

    val(hide)(folder)
    report = check_dataset(make_config(folder, 'topdown'), ['val'], jobs=1)
    assert not report.problems
    assert any('left_wing is labelled nowhere' in note for note in report.sections[1].notes)


def test_exif_that_keeps_the_size_is_shown_first(tmp_path, mmpose_scope):
    folder = draw_flies(tmp_path / 'flies', dict(train=8, val=1), most=1)
    path = folder / 'images/train_005.png'
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(path).save(path, exif=exif)
    report = check_dataset(make_config(folder, 'topdown'), ['train'], jobs=2)
    assert not report.problems
    (note,) = report.sections[1].notes
    assert '1 pictures have an EXIF orientation' in note and 'train_005.png' in note
    dataset = load(
        leaves(Config.fromfile(folder / 'config.py').train_dataloader.dataset)[0]
    ).dataset
    chosen = _choose(dataset, {str(path)}, 4)
    assert [dataset.get_data_info(i)['img_path'].endswith('_005.png') for i in chosen] == [
        True,
        False,
        False,
        False,
    ]


def test_disagreements_are_problems(flies):
    config, _ = flies
    cfg = Config.fromfile(config)
    head = cfg.model.head
    head.update(dict(num_keypoints=8) if 'num_keypoints' in head else dict(out_channels=8))
    assert 'model.head' in problems(cfg, phases=['train'])


def test_files_of_other_phases_may_be_elsewhere(flies):
    config, _ = flies
    cfg = Config.fromfile(config)
    cfg.test_evaluator = dict(cfg.test_evaluator, ann_file='gone.json')
    assert problems(cfg, phases=['val']) == ''
    assert 'gone.json' in problems(cfg, phases=['test'])


def test_other_formats(tmp_path, monkeypatch):
    """CrowdPose bottom-up and MPII: the annotations are perfect for their evaluators as well."""
    coco = make_small_dataset(tmp_path / 'coco', 2, 3)
    monkeypatch.setenv('CROWDPOSE_ROOT', str(make_crowdpose(coco, tmp_path / 'crowdpose')))
    monkeypatch.setenv('MPII_ROOT', str(make_mpii(coco, tmp_path / 'mpii')))
    for name, figure in (
        ('higherhrnet_w32_crowdpose_512', 'crowdpose/AP'),
        ('hrnet_w32_mpii_256x256', 'PCK'),
    ):
        config = write_config(tmp_path, base=ROOT / f'configs/{name}.py', name=f'{name}.py')
        report = check_dataset(config, ['val'], jobs=1)
        assert not report.problems, report.problems
        true, best = figures(report, 'what the evaluator says')[figure]
        assert float(true) in (1, 100) and float(best) > 0.8 * float(true)


@pytest.mark.parametrize('name', ['hrnet_udp_w32_coco_256x192', 'hrnet_dark_w32_coco_256x192'])
def test_other_codecs_are_nearly_exact(name, tmp_path):
    folder = draw_flies(tmp_path / 'flies', dict(train=2, val=3), most=1)
    config = make_config(folder, 'topdown')
    base = str(ROOT / f'configs/{name}.py')
    (folder / 'tiny.py').write_text(TINY_TOPDOWN.format(base=base))
    report = check_dataset(config, ['test'], jobs=1)
    assert not report.problems
    assert float(figures(report, 'the best')['all'][1]) < 0.2


def test_real_images(tmp_path):
    root = real_data('coco_real')
    config = write_config(
        tmp_path,
        f"""
root = {str(root)!r} + '/'
own = dict(data_root=root, data_prefix=dict(img='images/'))
file = 'annotations/person_keypoints_train.json'
train_dataloader.update(dataset=dict(train_dataloader.get('dataset', {{}}), ann_file=file, **own))
val_dataloader.update(dataset=dict(val_dataloader.get('dataset', {{}}), ann_file=file, **own))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=root + file)
test_evaluator = val_evaluator
""",
        base=ROOT / 'configs/higherhrnet_w32_coco_512.py',
    )
    report = check_dataset(config, ['train'], jobs=1)
    assert not report.problems
    assert figures(report, 'pictures and objects')['pictures'] == ['28']


def test_what_is_imperfect():
    assert imperfect({'coco/AP': 1.0, 'PCK': 100.0, 'EPE': 0.0, 'AUC': 0.5, 'coco/AR': 0.1}) == []
    assert imperfect({'coco/AP': 0.98}) == ['coco/AP 0.98']
    assert imperfect({'coco/AP': -1.0, 'PCK': 99.0, 'NME': float('nan')}) == [
        'coco/AP -1',
        'PCK 99',
        'NME nan',
    ]


class Reader(HTMLParser):
    """All tags and addresses of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.links = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for key, value in attrs if key in ('src', 'href')]


def test_page_is_alone_and_escaped():
    table = Table('<b>', ['a', 'b'], [['<script>alert(1)</script>', '&']])
    section = Section('<i>name</i>', ['<img src=x>'], ['"note"'], [table])
    text = page(Report('<u>', [section]), {section.name: np.zeros((4, 4, 3), np.uint8)})
    reader = Reader()
    reader.feed(text)
    assert not reader.tags & {'script', 'i', 'u'}
    assert len(reader.links) == 1 and reader.links[0].startswith('data:image/jpeg;base64,')


def test_many_problems_are_counted():
    section = Section('s')
    section.several([f'p{i}' for i in range(MOST + 7)], 'pictures')
    assert len(section.problems) == MOST + 1
    assert section.problems[-1] == '... and 7 more pictures'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(phases=['training']), 'phases are of train, val, test'),
        (dict(jobs=0), 'jobs must be positive'),
        (dict(jobs=1.5), 'jobs must be positive, a whole number, got 1.5'),
        (dict(out=__file__), r'test_check\.py cannot be the folder of the report: it is a file'),
        (dict(cfg_options={'test_dataloader': None}, phases=['test']), 'no test_dataloader'),
    ],
)
def test_bad_arguments(arguments, message, tmp_path):
    config = make_config(draw_flies(tmp_path / 'flies', dict(train=1, val=1)), 'topdown')
    with pytest.raises(ValueError, match=message):
        check_dataset(config, **arguments)
    with pytest.raises(FileNotFoundError, match='config not found: gone.py'):
        check_dataset('gone.py')


def test_command(tmp_path, monkeypatch, capsys):
    folder = draw_flies(tmp_path / 'flies', dict(train=1, val=1))
    config = str(make_config(folder, 'topdown'))

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['check_dataset', *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / 'tools/check_dataset.py'), run_name='__main__')
        return ended.value.code

    assert run(config, '--phase', 'val', '--jobs', '1') == 0
    assert 'nothing is wrong' in capsys.readouterr().out
    val(again)(folder)
    assert run(config, '--phase', 'val', '--jobs', '1') == 1
    assert 'WRONG: the same object' in capsys.readouterr().out
    assert run(config, '--jobs', '0') == 2 and run('gone.py') == 2
    assert run(config, '--phase', 'training') == 2
