"""BatchedAssociativeEmbeddingLoss against the official code's numbers and a slow reference."""

import numpy as np
import pytest
import torch
from mmpose.registry import MODELS

from mmpose_attn.models import BatchedAssociativeEmbeddingLoss
from tests.helpers import PARITY, assert_close


@pytest.fixture(scope='module')
def parity():
    with np.load(PARITY / 'ae_loss.npz') as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def unweighted(**kwargs):
    return BatchedAssociativeEmbeddingLoss(pull_weight=1.0, push_weight=1.0, **kwargs)


def random_case(seed, batch=3, people=4, joints=5, size=(6, 7), dims=1, visible=0.7):
    rng = np.random.default_rng(seed)
    height, width = size
    tags = torch.from_numpy(rng.normal(0, 2, (batch, dims * joints, height, width))).float()
    index = rng.integers(0, height * width, (batch, people, joints))
    seen = rng.random((batch, people, joints)) < visible
    return tags, torch.from_numpy(np.stack((index * seen, seen), -1))


def slow(tags, indices):
    """The official loss in loops: one image at a time, per-image (pull, push) without factors."""
    losses = []
    for image, people in zip(tags.double(), indices, strict=True):
        joints = people.shape[1]
        maps = image.reshape(-1, joints, image.shape[1] * image.shape[2])
        means, pull = [], 0.0
        for person in people:
            read = [maps[:, k, i] for k, (i, v) in enumerate(person.tolist()) if v > 0]
            if not read:
                continue
            read = torch.stack(read)
            means.append(read.mean(0))
            pull = pull + ((read - means[-1]) ** 2).mean()
        count = len(means)
        push = 0.0
        for a in range(count):
            for b in range(count):
                if a != b:
                    push = push + torch.exp(-((means[a] - means[b]) ** 2)).sum()
        losses.append(
            (pull / max(count, 1), push * 0.5 / (count * (count - 1)) if count > 1 else 0.0)
        )
    return torch.tensor(losses, dtype=torch.float64).T


# ----------------------------------------------------------------- parity
def test_parity_of_every_image(parity):
    loss = unweighted()
    for i in range(len(parity['tags'])):
        pull, push = loss(parity['tags'][i : i + 1], parity['keypoint_indices'][i : i + 1])
        assert_close(pull, parity['pull'][i], 1e-6)
        assert_close(push, parity['push'][i], 1e-6)


def test_parity_of_the_batch_and_its_gradient(parity):
    tags = parity['tags'].clone().requires_grad_()
    pull, push = BatchedAssociativeEmbeddingLoss()(tags, parity['keypoint_indices'])
    # traps 3 and 4: a mean over images, without the pairs of a person with itself
    assert_close(pull.detach(), 1e-3 * parity['pull'].mean(), 1e-6)
    assert_close(push.detach(), 1e-3 * parity['push'].mean(), 1e-6)
    (pull + push).backward()
    assert_close(tags.grad, parity['grad'], 1e-5)


@pytest.mark.parametrize('dims', [1, 2, 3])
@pytest.mark.parametrize('people', [1, 2, 7])
def test_equals_the_slow_reference(people, dims):
    tags, indices = random_case(people, people=people, dims=dims)
    expected = slow(tags, indices)
    pull, push = unweighted()(tags, indices)
    assert_close(pull, expected[0].mean(), 1e-5)
    assert_close(push, expected[1].mean(), 1e-5)
    assert (push.item() == 0) is (people == 1)


def test_gradcheck():
    tags, indices = random_case(0, batch=2, people=3, joints=2, size=(2, 3))
    loss = unweighted()
    assert torch.autograd.gradcheck(
        lambda t: loss(t, indices), tags.double().requires_grad_(), eps=1e-3, atol=1e-3, rtol=1e-3
    )


def test_weights_are_factors():
    tags, indices = random_case(1)
    pull, push = unweighted()(tags, indices)
    scaled = MODELS.build(
        dict(type='BatchedAssociativeEmbeddingLoss', pull_weight=0.5, push_weight=3.0)
    )(tags, indices)
    torch.testing.assert_close(scaled, (0.5 * pull, 3.0 * push))


# ------------------------------------------------------------- invariances
def test_duplicating_the_batch_changes_nothing():
    tags, indices = random_case(2)
    loss = unweighted()
    torch.testing.assert_close(
        loss(tags.repeat(3, 1, 1, 1), indices.repeat(3, 1, 1, 1)), loss(tags, indices)
    )


def test_ragged_list_equals_padded_tensor():
    tags, indices = random_case(3, batch=4, people=5)
    counts = [3, 0, 5, 1]
    ragged = [people[:count] for people, count in zip(indices, counts, strict=True)]
    padded = torch.stack(
        [
            torch.cat((people, people.new_zeros(5 - len(people), *people.shape[1:])))
            for people in ragged
        ]
    )
    loss = unweighted()
    assert torch.equal(torch.stack(loss(tags, ragged)), torch.stack(loss(tags, padded)))
    expected = slow(tags, ragged)
    assert_close(torch.stack(loss(tags, ragged)), expected.mean(1), 1e-5)
    assert torch.equal(
        torch.stack(loss(tags, tuple(ragged))), torch.stack(loss(tags, padded.int()))
    )


def test_order_of_people_and_images_does_not_matter():
    tags, indices = random_case(4)
    loss = unweighted()
    torch.testing.assert_close(loss(tags, indices.flip(1)), loss(tags, indices))
    torch.testing.assert_close(loss(tags.flip(0), indices.flip(0)), loss(tags, indices))


def test_other_cells_get_no_gradient():
    tags, indices = random_case(5, visible=0.5)
    tags.requires_grad_()
    sum(unweighted()(tags, indices)).backward()
    read = torch.zeros_like(tags).flatten(2)
    for image, people in enumerate(indices):
        for person in people:
            for joint, (index, visible) in enumerate(person.tolist()):
                read[image, joint, index] += visible
    assert (tags.grad.flatten(2)[read == 0] == 0).all()
    assert tags.grad.flatten(2)[read > 0].abs().min() > 0


def test_invisible_keypoints_do_not_count_whatever_their_index():
    tags, indices = random_case(6)
    assert (indices[..., 1] == 0).any()
    wild = indices.clone()
    wild[..., 0][indices[..., 1] == 0] = torch.iinfo(torch.int64).max
    wild[0, :, :, 0][indices[0, :, :, 1] == 0] = -17
    loss = unweighted()
    assert torch.equal(torch.stack(loss(tags, wild)), torch.stack(loss(tags, indices)))


# ------------------------------------------------------------------- edges
@pytest.mark.parametrize(
    'indices',
    [
        torch.zeros(2, 0, 5, 2, dtype=torch.int64),
        [torch.zeros(0, 5, 2, dtype=torch.int64)] * 2,
        torch.zeros(2, 3, 5, 2, dtype=torch.int64),
    ],
    ids=['nobody', 'nobody, as a list', 'all invisible'],
)
def test_nobody(indices):
    tags = torch.randn(2, 5, 4, 4, requires_grad=True)
    pull, push = unweighted()(tags, indices)
    assert pull.item() == push.item() == 0
    # the graph still reaches the tags: no unused parameter, no hang in distributed training
    (pull + push).backward()
    assert torch.equal(tags.grad, torch.zeros_like(tags))


def test_one_person_is_not_pushed():
    tags, indices = random_case(7, people=1, visible=1.0)
    pull, push = unweighted()(tags.requires_grad_(), indices)
    assert push.item() == 0 and pull.item() > 0
    push.backward()
    assert torch.equal(tags.grad, torch.zeros_like(tags))


def test_empty_images_count_in_the_mean():
    tags, indices = random_case(8, batch=2)
    alone = unweighted()(tags[:1], indices[:1])
    indices[1] = 0
    torch.testing.assert_close(unweighted()(tags, indices), tuple(value / 2 for value in alone))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_tags(dtype):
    # tags so large that their squares do not fit float16, as early in training
    tags, indices = random_case(9)
    tags = (tags * 300).to(dtype).requires_grad_()
    pull, push = unweighted()(tags, indices)
    assert pull.dtype == push.dtype == torch.float32
    assert pull.item() > torch.finfo(torch.float16).max
    expected = slow(tags.detach(), indices)
    assert_close(pull.detach(), expected[0].mean(), 1e-5)
    (pull * 1e-3).backward()
    assert tags.grad.dtype == dtype and tags.grad.isfinite().all()


@pytest.mark.parametrize(
    'tags, indices',
    [
        ((2, 5, 4, 4), (2, 3, 4, 2)),
        ((2, 5, 4, 4), (3, 3, 5, 2)),
        ((2, 7, 4, 4), (2, 3, 5, 2)),
    ],
)
def test_shapes_that_do_not_fit(tags, indices):
    with pytest.raises(ValueError, match=r'do not fit keypoint_indices .* \(B, L\*K, H, W\)'):
        unweighted()(torch.zeros(tags), torch.zeros(indices, dtype=torch.int64))


# ------------------------------------------------- trap 5: synchronisation
class NoSync(torch.overrides.TorchFunctionMode):
    """Fails on what makes the host wait for the device."""

    WAITS = {'item', 'tolist', 'cpu', 'numpy', 'nonzero', '__bool__', '__int__', '__float__'}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, '__name__', '')
        assert name not in self.WAITS, f'{name} waits for the device'
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device():
    tags, indices = random_case(10)
    with NoSync(), pytest.raises(AssertionError, match='waits'):
        bool(tags.sum() > 0)
    with NoSync():
        pull, push = unweighted()(tags.requires_grad_(), list(indices))
        (pull + push).backward()
    # boolean indexing would need the host as well, and fails on tensors without data
    meta = unweighted()(tags.to('meta'), indices.to('meta'))
    assert [value.shape for value in meta] == [(), ()]


def test_one_graph():
    tags, indices = random_case(11)
    torch.compiler.reset()  # earlier tests count towards the limit of recompilations
    compiled = torch.compile(unweighted(), fullgraph=True, backend='eager')
    torch.testing.assert_close(compiled(tags, indices), unweighted()(tags, indices))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_cuda_agrees_without_synchronisation():
    tags, indices = random_case(12)
    on_cpu = unweighted()(tags, indices)
    tags, ragged = tags.cuda().requires_grad_(), [people.cuda() for people in indices]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        pull, push = unweighted()(tags, ragged)
        (pull + push).backward()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    torch.testing.assert_close((pull.cpu(), push.cpu()), on_cpu)
