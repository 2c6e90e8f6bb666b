custom_imports = dict(imports=['mmpose_attn'], allow_failed_imports=False)
default_scope = 'mmpose'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook',
        interval=10,
        max_keep_ckpts=3,
        save_best='auto',
        # parts of the names of figures, by which the best is chosen unless a rule is given
        greater_keys=['/AP', '/AR', 'PCK', 'AUC', 'acc'],
        less_keys=['EPE', 'NME', 'MPJPE', 'loss', 'error'],
    ),
    agreement=dict(type='AgreementHook'),
    plain_checkpoint=dict(type='PlainCheckpointHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='PoseVisualizationHook', enable=False),
)
custom_hooks = [dict(type='SyncBuffersHook')]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

# add dict(type='TensorboardVisBackend') or dict(type='WandbVisBackend') here
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='AttnPoseVisualizer', vis_backends=vis_backends, name='visualizer')

log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True, num_digits=6)
log_level = 'INFO'
load_from = None
resume = False

val_cfg = dict()
test_cfg = dict()
