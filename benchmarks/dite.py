"""Dite-HRNet: the authors' arithmetic against shorter ones, one image and training steps."""

import copy
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmpose.models import HRNet
from torch import Tensor, nn

from mmpose_attn.deploy import export_onnx, onnx_session
from mmpose_attn.models import DiteHRNet

from .networks import hrnet_extra
from .timing import Row, interleave


def _dite_extra(width: int, modules: Sequence[int]) -> dict:
    return dict(
        stem=dict(stem_channels=32, out_channels=32),
        num_stages=3,
        stages_spec=dict(
            num_modules=modules,
            num_branches=(2, 3, 4),
            num_blocks=(2, 2, 2),
            reduce_ratios=(8, 8, 8),
            num_channels=[[width * 2**branch for branch in range(count)] for count in (2, 3, 4)],
        ),
        with_head=True,
    )


def _stored(step: Callable[[], Any]) -> float:
    """Megabytes that autograd keeps for the backward pass, every storage once."""
    sizes = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = step()  # as long as it lives no address is used twice
    del out
    return sum(sizes.values()) / 1e6


def _in_onnxruntime(network: nn.Module, size: tuple[int, int], tuned: bool) -> Callable:
    """A network, exported, as a function of a tensor."""
    import onnxruntime

    threads = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        path = os.path.join(folder, 'network.onnx')
        export_onnx(network, path, size)
        if tuned:
            session = onnx_session(path, threads)
        else:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            # between its turns it leaves the cores to PyTorch
            options.add_session_config_entry('session.force_spinning_stop', '1')
            cpu = ['CPUExecutionProvider']
            session = onnxruntime.InferenceSession(path, options, providers=cpu)

    def run(image: Tensor) -> list[Tensor]:
        outputs = session.run(None, {'image': image.cpu().numpy()})
        return [torch.from_numpy(output).to(image.device) for output in outputs]

    return run


def _networks(
    extra: dict, size: tuple[int, int], generator: torch.Generator, device: str
) -> tuple[DiteHRNet, DiteHRNet]:
    """The plain form and the short one with the same weights, for evaluation."""
    plain, short = (DiteHRNet(extra, fast=fast).to(device) for fast in (False, True))
    norms = [module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for parameter in plain.cpu().parameters():
            if parameter.ndim > 1:  # the initial 0.001 would hide every difference
                nn.init.kaiming_normal_(parameter, generator=generator)
        # Statistics of what there is, or such weights enlarge rounding to a percent; but means of
        # noise hardly differ, and dividing by how little they do would enlarge it to all.
        for norm in norms:
            norm.momentum = None  # all that was seen, not the latest tenth
        plain(torch.randn(8, 3, *size[::-1], generator=generator))
        for norm in norms:
            norm.momentum = 0.1
            norm.running_var.clamp_(min=1)
    plain.to(device)
    short.load_state_dict(plain.state_dict())
    return plain.eval(), short.eval()


def _inference_rows(
    name: str, plain: DiteHRNet, forms: dict[str, Callable], image: Tensor, repeat: int, device: str
) -> Iterator[Row]:
    @torch.no_grad()
    def run(network: Callable[[Tensor], Sequence[Tensor]]) -> Tensor:
        return network(image)[0]

    # both sides round: they are compared with exact arithmetic
    exact = run(lambda x: copy.deepcopy(plain).double()(x.double()))

    def error(network: Callable[[Tensor], Sequence[Tensor]]) -> float:
        return float((run(network) - exact).abs().max() / exact.abs().max())

    for kind, network in forms.items():
        theirs, ours = error(plain), error(network)
        if ours > max(1e-5, 3 * theirs):
            raise RuntimeError(f'the {kind} is {ours:.2g} off, the plain one {theirs:.2g}')
        calls = 16 if 'onnx' in kind else 1
        yield Row(
            f'{name}, one image: {kind}',
            *interleave(partial(run, plain), partial(run, network), repeat, device, calls),
            f'off by {ours:.1g} of the largest output for rounding, the plain one by {theirs:.1g}',
        )


def _training_row(
    name: str, plain: DiteHRNet, short: DiteHRNet, images: Tensor, repeat: int, device: str
) -> Row:
    def step(network: nn.Module) -> None:
        network.zero_grad()
        network(images)[0].square().mean().backward()

    stored = [_stored(partial(network, images)) for network in (plain, short)]
    return Row(
        f'{name}, training step of {len(images)}',
        *interleave(partial(step, plain), partial(step, short), repeat, device),
        f'kept for the backward pass: {stored[0]:.0f} MB, then {stored[1]:.0f} MB, '
        f'{stored[1] / stored[0]:.2f}x',
    )


def rows(quick: bool, repeat: int | None, device: str) -> Iterator[Row]:
    width, modules, size = (8, (1, 1, 1), (64, 64)) if quick else (40, (2, 4, 2), (192, 256))
    batches, hrnet_width = ((2,), 8) if quick else ((8, 32), 32)
    repeat = repeat or (2 if quick else 20)
    generator = torch.Generator().manual_seed(0)
    plain, short = _networks(_dite_extra(width, modules), size, generator, device)
    hrnet = HRNet(hrnet_extra(hrnet_width)).to(device)
    hrnet.eval()
    image = torch.randn(1, 3, *size[::-1], generator=generator).to(device)
    name = f'dite {width} wide, modules {modules}, {size[0]}x{size[1]}'
    fused = short.fuse_for_inference()
    forms = {
        'short form': short,
        'fused, not recorded': short.fuse_for_inference(record=False),
        'fused': fused,
    }
    if importlib.util.find_spec('onnxruntime') and importlib.util.find_spec('onnx'):
        forms['onnxruntime'] = _in_onnxruntime(short, size, tuned=False)
        forms['onnx_session'] = _in_onnxruntime(short, size, tuned=True)

    yield from _inference_rows(name, plain, forms, image, repeat, device)
    with torch.no_grad():
        pair = interleave(partial(hrnet, image), partial(fused, image), repeat, device)
    yield Row(f'{name}, one image: HRNet-W{hrnet_width}, then fused', *pair, 'another network')

    plain.train(), short.train()
    for batch in batches:
        images = torch.randn(batch, 3, *size[::-1], generator=generator).to(device)
        pairs = max(2, repeat * 2 // (batch + 4))
        yield _training_row(name, plain, short, images, pairs, device)
