"""Rows as a table, under a line about the machine."""

import os
import platform

import cv2
import mmpose
import torch

from .timing import Row


def environment(device: str = 'cpu') -> str:
    """What the figures depend on, in one line."""
    name = platform.processor() or platform.machine()
    if os.path.exists('/proc/cpuinfo'):
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            models = [line.split(':', 1)[1].strip() for line in file if 'model name' in line]
        name = models[0] if models else name
    if device.startswith('cuda'):
        name = f'{torch.cuda.get_device_name(device)}, {name}'
    return (
        f'{name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; '
        f'{torch.get_num_threads()} threads (torch), '
        f'{cv2.getNumThreads()} (OpenCV); Python {platform.python_version()}, '
        f'torch {torch.__version__}, MMPose {mmpose.__version__}'
    )


def format_row(row: Row, markdown: bool = False) -> str:
    """A line of the table that :func:`format_head` starts."""
    theirs, ours = row.medians
    numbers = (f'{theirs:.2f}', f'{ours:.2f}', f'{row.ratio:.1f}x')
    if markdown:
        return '| ' + ' | '.join((row.name, *numbers, row.note)) + ' |'
    return f'{row.name:<72}' + ''.join(f'{number:>11}' for number in numbers) + f'   {row.note}'


def format_head(markdown: bool = False) -> str:
    """Head of the table."""
    heads = ('MMPose ms', 'ours ms', 'ratio')
    if markdown:
        return '| | ' + ' | '.join(heads) + ' | verified |\n|---|---|---|---|---|'
    return f'{"medians":<72}' + ''.join(f'{head:>11}' for head in heads)
