"""The networks that several benchmarks measure."""

NUM_KEYPOINTS = 17


def hrnet_extra(width: int) -> dict:
    """Configuration of an HRNet whose highest resolution has ``width`` channels."""
    stages = [[width * 2**branch for branch in range(count)] for count in (2, 3, 4)]
    extra = dict(
        stage1=dict(
            num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(4,), num_channels=(64,)
        )
    )
    for index, (channels, modules) in enumerate(zip(stages, (1, 4, 3), strict=True)):
        extra[f'stage{index + 2}'] = dict(
            num_modules=modules,
            num_branches=len(channels),
            block='BASIC',
            num_blocks=(4,) * len(channels),
            num_channels=tuple(channels),
        )
    return extra
