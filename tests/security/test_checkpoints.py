"""Checkpoints that lie: about sizes, shapes and types; and code in them that nobody runs."""

import collections
import io
import pickle
import resource
import zipfile

import pytest
import torch
from mmengine.runner import CheckpointLoader
from torch import nn

from mmpose_attn.apis.building import load_weights
from mmpose_attn.engine import CheckpointError, CorruptCheckpointError

NUMBERS = 2000


def load(path):
    return CheckpointLoader.load_checkpoint(str(path), map_location='cpu', logger='silent')


class Storage(str):
    """Stands for the memory of a tensor: its name in the archive."""


class Tensor:
    """What torch pickles of a tensor, with any numbers in it."""

    def __init__(self, shape=(2, 3), stride=(3, 1), offset=0, numbers=6, storage='0'):
        self.arguments = (Storage(storage), offset, shape, stride, False, collections.OrderedDict())
        self.numbers = numbers

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def __init__(self, file, numbers):
        super().__init__(file, 2)
        self.numbers = numbers

    def persistent_id(self, value):
        if isinstance(value, Storage):
            return ('storage', torch.FloatStorage, str(value), 'cpu', self.numbers)
        return None


def write(path, value, numbers=6, parts=(), kind=zipfile.ZIP_STORED):
    """A checkpoint with this pickle, whose storage 0 has ``NUMBERS`` numbers."""
    made = io.BytesIO()
    torch.save(dict(a=torch.zeros(NUMBERS)), made)
    pickled = io.BytesIO()
    Pickler(pickled, numbers).dump(value)
    parts = dict(parts)
    with zipfile.ZipFile(made) as good, zipfile.ZipFile(path, 'w', kind) as bad:
        for name in good.namelist():
            data = pickled.getvalue() if name.endswith('data.pkl') else good.read(name)
            bad.writestr(name, parts.pop(name.partition('/')[2], data))
        for name, data in parts.items():
            bad.writestr(name, data)
    return path


def state(**values):
    return dict(state_dict=dict(values))


def test_the_way_of_writing_is_right(tmp_path):
    path = write(tmp_path / 'good.pth', state(a=Tensor(numbers=NUMBERS)), NUMBERS)
    assert torch.equal(load(path)['state_dict']['a'], torch.zeros(2, 3))


@pytest.mark.parametrize(
    ('tensor', 'numbers'),
    [
        (Tensor(stride=(10**6, 1)), NUMBERS),
        (Tensor(stride=(-1, 1)), NUMBERS),
        (Tensor(offset=10**6), NUMBERS),
        (Tensor(offset=-8), NUMBERS),
        (Tensor(shape=(-2, 3)), NUMBERS),
        (Tensor(shape=(10**5, 10**5), stride=(0, 0)), NUMBERS),
        (Tensor(shape=(10**9, 10**9), stride=(0, 0)), NUMBERS),
        (Tensor(shape=(2**40, 2**40), stride=(0, 0)), NUMBERS),
        (Tensor(shape=(2, 3), stride=(3,)), NUMBERS),
        (Tensor(shape='abc'), NUMBERS),
        (Tensor(storage='9'), NUMBERS),
        (Tensor(storage='../../etc/passwd'), NUMBERS),
        *((Tensor(), numbers) for numbers in (-6, 10**9, 2**62, 10**30, 'x', None)),
    ],
)
def test_tensors_that_are_not_what_they_say(tmp_path, tensor, numbers):
    path = write(tmp_path / 'lies.pth', state(a=tensor), numbers)
    with pytest.raises(CorruptCheckpointError, match=r'lies\.pth .*truncated, damaged'):
        load(path)


@pytest.mark.parametrize('part', ['data/0', 'data.pkl', 'other'])
def test_archives_that_grow_are_not_unpacked(tmp_path, part):
    value, bomb = state(a=Tensor(numbers=NUMBERS)), {part: bytes(2**27)}
    path = write(tmp_path / 'bomb.pth', value, NUMBERS, bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**6
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CorruptCheckpointError, match=r'bomb\.pth .*its parts are said to have'):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16  # kB


def test_a_changed_byte_of_a_weight_is_noticed(tmp_path):
    path = tmp_path / 'rotten.pth'
    torch.save(state(a=torch.arange(1000.0)), path)
    data = bytearray(path.read_bytes())
    place = data.index(torch.arange(1000.0).numpy().tobytes()[2000:2100])
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptCheckpointError, match=r'rotten\.pth .*not a whole zip .*CRC'):
        load(path)


@pytest.mark.skipif(
    not hasattr(torch.serialization, 'set_crc32_options'), reason='torch always writes checksums'
)
def test_an_archive_without_checksums_loads(tmp_path):
    before = torch.serialization.get_crc32_options()
    try:
        torch.serialization.set_crc32_options(False)
        torch.save({'state_dict': {'weight': torch.arange(5.0)}}, tmp_path / 'a.pth')
    finally:
        torch.serialization.set_crc32_options(before)
    assert load(tmp_path / 'a.pth')['state_dict']['weight'].tolist() == [0, 1, 2, 3, 4]


def test_parts_with_paths_leave_nothing(tmp_path):
    folder = tmp_path / 'a' / 'b'
    folder.mkdir(parents=True)
    path = write(folder / 'x.pth', state(a=Tensor(numbers=NUMBERS)), NUMBERS, {'../../left': b'x'})
    with pytest.raises(CorruptCheckpointError):
        load(path)
    assert not list(tmp_path.rglob('left'))


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def doubled(times):
    value = ['x' * 10]
    for _ in range(times):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        (dict(state_dict=[1]), 'its state_dict is a list'),
        (dict(state_dict=3), 'its state_dict is a int'),
        (dict(state_dict={}, meta='x'), 'its meta is a str'),
        (dict(state_dict={1: Tensor(numbers=NUMBERS)}), 'a name of its weights is no text'),
        ({2: 3}, 'a name of its weights is no text'),
        (dict(state_dict={}, meta=dict(x=nested(200))), 'nested deeper than'),
        (dict(state_dict={}, meta=dict(x=doubled(40))), 'repeat to more than'),
    ],
)
def test_contents_of_other_kinds(tmp_path, value, message):
    path = write(tmp_path / 'odd.pth', value, NUMBERS)
    with pytest.raises(CorruptCheckpointError, match=rf'odd\.pth .*{message}'):
        load(path)


@pytest.mark.parametrize('value', [[1, 2], 3, None, 'weights', dict(state_dict=dict(weight='x'))])
def test_no_weights_of_a_network(tmp_path, value):
    path = write(tmp_path / 'odd.pth', value)
    with pytest.raises((ValueError, CheckpointError), match=r'odd\.pth|weight'):
        load_weights(nn.Linear(2, 2), path)


def test_config_in_a_checkpoint_is_not_there_to_be_run(tmp_path):
    # MMEngine's runner executes it when it resumes
    path = tmp_path / 'epoch_1.pth'
    code = f'open({str(tmp_path / "created")!r}, "w")'
    torch.save(dict(meta=dict(config=code, epoch=1, iter=2), state_dict={}), path)
    assert load(path)['meta'] == dict(epoch=1, iter=2)


def test_not_the_file_s_fault_names_the_file(tmp_path):
    path = tmp_path / 'good\x1b[31m.pth'
    torch.save(state(a=torch.zeros(2)), path)
    with pytest.raises(CheckpointError, match=r'good\\x1b\[31m\.pth was not loaded') as error:
        CheckpointLoader.load_checkpoint(str(path), map_location='cuda:99', logger='silent')
    assert not isinstance(error.value, CorruptCheckpointError)
