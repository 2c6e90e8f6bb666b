"""The metric's own look at its annotation file; categories and damaged files are in
tests/datasets/test_annotations.py."""

import shutil

import pytest
from mmengine.logging import MessageHub
from mmpose.evaluation.metrics import CocoMetric
from mmpose.registry import METRICS

from mmpose_attn.evaluation import CheckedCocoMetric, coco_metric
from tests.data_helpers import VAL, edit_json, make_small_dataset, record_log
from tests.datasets.oracle import answers_of, build, evaluate, metric_for

pytestmark = pytest.mark.usefixtures('mmpose_scope')


@pytest.fixture(scope='module')
def synthetic(tmp_path_factory):
    return make_small_dataset(tmp_path_factory.mktemp('data') / 'coco', 1, 3)


@pytest.fixture
def root(synthetic, tmp_path):
    return shutil.copytree(synthetic, tmp_path / 'coco')


def test_mmposes_own_stays_what_it_is():
    assert METRICS.get('CocoMetric') is CocoMetric
    assert METRICS.get('CheckedCocoMetric') is CheckedCocoMetric
    assert CheckedCocoMetric.default_prefix == 'coco'


def test_missing_file_names_the_key(root):
    dataset = build(root, 'bottomup')
    with pytest.raises(FileNotFoundError, match='not found: .*nowhere.json.*ann_file of val_eval'):
        metric_for(dataset, ann_file=str(root / 'nowhere.json'))


def test_without_a_file_it_takes_the_test_sets(root):
    answers = answers_of(root)
    dataset = build(root, 'bottomup')
    name = f'{dataset.metainfo["dataset_name"]}_ann_file'
    assert MessageHub.get_current_instance().get_info(name) == dataset.ann_file
    edit_json(root / VAL, lambda c: c.pop('categories'))  # which MMPose needs there
    assert evaluate(dataset, answers, ann_file=None)['coco/AP'] == pytest.approx(1)


@pytest.mark.parametrize('use_area', [True, False])
def test_missing_areas_are_those_of_use_area_false(root, monkeypatch, use_area):
    lines = record_log(monkeypatch, coco_metric)
    answers = answers_of(root)
    dataset = build(root, 'bottomup')
    share = evaluate(dataset, answers, use_area=False)
    contents = edit_json(root / VAL, lambda c: [a.pop('area') for a in c['annotations']])
    assert evaluate(dataset, answers, use_area=use_area) == share
    metric = metric_for(dataset, use_area=use_area)
    if use_area:
        assert (
            f'{len(contents["annotations"])} objects have no area; it is taken as 0.53' in lines[0]
        )
        for annotation in metric.coco.dataset['annotations']:
            _, _, width, height = annotation['bbox']
            assert annotation['area'] == pytest.approx(0.53 * width * height)
    else:
        assert lines == []


def test_a_list_of_images_is_for_submissions(root, tmp_path):
    dataset = build(root, 'bottomup')
    edit_json(root / VAL, lambda c: c.pop('annotations'))
    with pytest.raises(ValueError, match='no annotations to evaluate with.*format_only=True'):
        metric_for(dataset)
    out = dict(format_only=True, outfile_prefix=str(tmp_path / 'out'))
    assert evaluate(dataset, {}, **out) == {}
    assert (tmp_path / 'out.keypoints.json').read_text() == '[]'


def test_other_types_are_read_as_by_mmpose(root):
    metric = metric_for(build(root, 'bottomup'), iou_type='keypoints_body')
    assert len(metric.coco.imgs) == 3


@pytest.mark.parametrize('more, said', [(18, 0), (20, 1)])
def test_more_objects_than_coco_takes(root, monkeypatch, more, said):
    lines = record_log(monkeypatch, coco_metric)
    dataset = build(root, 'bottomup')

    def add(contents):
        one = next(a for a in contents['annotations'] if a['num_keypoints'] and not a['iscrowd'])
        contents['annotations'] += [dict(one, id=10**6 + i) for i in range(more)]

    edit_json(root / VAL, add)
    metric_for(dataset)
    assert sum('more than 20 objects, of which COCO takes 20' in line for line in lines) == said
