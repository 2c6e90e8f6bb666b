"""What a metainfo says of its keypoints is right, or an error says what is wrong."""

import copy
import runpy
from pathlib import Path

import mmpose
import pytest
from mmpose.registry import DATASETS

from mmpose_attn.datasets.metainfo import check_metainfo, flip_problem, read_metainfo

FINE = dict(
    dataset_name='beetles',
    keypoint_info={
        0: dict(name='head', id=0, color=[9, 9, 9], type='upper', swap=''),
        1: dict(name='left_foot', id=1, type='lower', swap='right_foot'),
        2: dict(name='right_foot', swap='left_foot'),
        3: dict(name='tail', swap='tail'),
    },
    skeleton_info={0: dict(link=('head', 'tail'), color=[0, 0, 255])},
    joint_weights=[1.0, 1.0, 0, 1.5],
    sigmas=[0.05] * 4,
)


def joints(**changes):
    return lambda meta: [meta['keypoint_info'][int(k[1:])].update(v) for k, v in changes.items()]


def reorder(order):
    def change(meta):
        info = meta['keypoint_info']
        meta['keypoint_info'] = {i: info[i] for i in order}

    return change


def from_one(meta):
    meta['keypoint_info'] = {i + 1: info for i, info in meta['keypoint_info'].items()}


def as_text(meta):
    meta['keypoint_info'] = {str(i): info for i, info in meta['keypoint_info'].items()}


def other_ids(meta):
    for i, info in meta['keypoint_info'].items():
        info['id'] = 3 - i


CASES = {
    'swap null': (joints(_0=dict(swap=None)), "keypoint 0: swap is a name, or '' for"),
    'a sigma': (lambda m: m.update(sigmas=0.05), 'sigmas is a list of numbers, got 0.05'),
    'sigmas null': (lambda m: m.update(sigmas=None), 'sigmas is a list of numbers'),
    'sigmas in percent': (lambda m: m.update(sigmas=[5] * 4), 'shares of the size .* got 5'),
    'weights null': (lambda m: m.update(joint_weights=None), 'joint_weights is a list of numbers'),
    'swap on one side': (joints(_2=dict(swap='')), "'left_foot' has swap='right_foot', but"),
    'swap onto a third': (joints(_1=dict(swap='tail')), "'tail' has swap=''"),
    'typo in a swap': (joints(_1=dict(swap='right_foott')), "did you mean 'right_foot'"),
    'name twice': (joints(_3=dict(name='head', swap='')), "2 keypoints have the name 'head'"),
    'no name': (joints(_3=dict(name='')), 'keypoint 3 needs a name'),
    'other order': (reorder([0, 2, 1, 3]), 'another order than its ids'),
    'ids that disagree': (other_ids, 'says two orders'),
    'counted from 1': (from_one, r'\[1, 2, 3, 4\].*0 to K - 1'),
    'keys of text': (as_text, 'must be the numbers 0 to K - 1'),
    'a list': (lambda m: m.update(keypoint_info=[1]), 'keypoint_info is a dict'),
    'none': (lambda m: m.update(keypoint_info={}), 'keys of keypoint_info'),
    'kind': (joints(_0=dict(type='uper')), "'upper', 'lower' or ''"),
    'color': (joints(_0=dict(color=[0, 0, 256])), 'three numbers from 0 to 255'),
    'typo in a link': (
        lambda m: m['skeleton_info'][0].update(link=('head', 'tial')),
        "link 0 names 'tial'.* did you mean 'tail'",
    ),
    'link of numbers': (lambda m: m['skeleton_info'][0].update(link=(1, 2)), 'names 1, which is'),
    'link of three': (
        lambda m: m['skeleton_info'][0].update(link=('head', 'tail', 'head')),
        'link is the names of two',
    ),
    'links counted from 1': (lambda m: m.update(skeleton_info=[[1, 2]]), 'skeleton_info is a dict'),
    'sigmas of others': (lambda m: m.update(sigmas=[0.1] * 17), 'sigmas has 17 entries for 4'),
    'sigma 0': (lambda m: m.update(sigmas=[0.1, 0, 1, 1]), 'sigmas must be above 0, got 0'),
    'sigma nan': (lambda m: m.update(sigmas=[0.1, float('nan'), 1, 1]), 'sigmas must be above 0'),
    'sigmas of text': (lambda m: m.update(sigmas=['a'] * 4), 'sigmas are numbers'),
    'weights': (lambda m: m.update(joint_weights=[1.0]), 'joint_weights has 1 entries for 4'),
    'negative weight': (lambda m: m.update(joint_weights=[-1, 1, 1, 1]), 'must be 0 or more'),
    **{
        f'no {part}': (lambda m, part=part: m.pop(part), f"it has no '{part}': write {part}=")
        for part in FINE
    },
}


@pytest.mark.parametrize('case', CASES)
def test_what_is_wrong_is_said(case):
    change, message = CASES[case]
    meta = copy.deepcopy(FINE)
    change(meta)
    problems = check_metainfo(meta)
    assert problems
    with pytest.raises(ValueError, match=message) as error:
        DATASETS.build(
            dict(type='mmpose.CheckedCocoDataset', metainfo=meta, ann_file='x.json', lazy_init=True)
        )
    assert 'cannot be used' in str(error.value)


def test_all_at_once():
    meta = copy.deepcopy(FINE)
    meta['sigmas'] = [0.1]
    del meta['joint_weights']
    joints(_2=dict(swap=''))(meta)
    assert len(check_metainfo(meta)) == 3


def test_what_is_fine_is_loaded():
    assert check_metainfo(FINE) == []
    assert check_metainfo(dict(FINE, sigmas=[])) == []
    dataset = DATASETS.build(
        dict(type='mmpose.CheckedCocoDataset', metainfo=FINE, ann_file='x.json', lazy_init=True)
    )
    assert dataset.metainfo['flip_indices'] == [0, 2, 1, 3]
    assert flip_problem(dataset.metainfo['flip_indices']) == ''
    assert flip_problem([0, 1, 3, 3]) and flip_problem([1, 2, 0]) and flip_problem([0, 4])


def test_metainfo_of_mmpose_is_taken():
    """But for the files that are wrong: a swap, and weights of which one is missing."""
    folder = Path(mmpose.__path__[0], '.mim/configs/_base_/datasets')
    wrong = {
        path.stem
        for path in folder.glob('*.py')
        if check_metainfo(runpy.run_path(str(path))['dataset_info'])
    }
    assert wrong == {'deepfashion2', 'coco_aic', 'humanart_aic'}


def test_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nowhere\.py.*working directory'):
        read_metainfo(dict(from_file='nowhere.py'))
    (tmp_path / 'a.py').write_text('keypoints = 3')
    with pytest.raises(ValueError, match=r'a\.py has no dataset_info'):
        read_metainfo(dict(from_file=str(tmp_path / 'a.py')))
    (tmp_path / 'b.py').write_text('dataset_info = dict(')
    with pytest.raises(ValueError, match=r'b\.py cannot be read'):
        read_metainfo(dict(from_file=str(tmp_path / 'b.py')))
    (tmp_path / 'c.py').write_text(f'dataset_info = {dict(FINE, sigmas=[1])!r}')
    with pytest.raises(ValueError, match=r'c\.py cannot be used:\n  sigmas has 1 entries'):
        DATASETS.build(
            dict(
                type='mmpose.CheckedCrowdPoseDataset',
                metainfo=dict(from_file=str(tmp_path / 'c.py')),
                lazy_init=True,
            )
        )
    # as MMPose does, by the file's name
    assert len(read_metainfo(dict(from_file='somewhere/coco.py'))[0]['keypoint_info']) == 17
