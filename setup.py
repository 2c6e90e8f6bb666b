"""Build of mmpose_attn; besides the modules a wheel carries configs and tools for ``mim``.

mim looks for them in ``mmpose_attn/.mim``. They are copied there while building, so that neither a
link nor a copy has to live in the repository, and nothing named ``configs`` ends up at the top of
site-packages, where MMEngine would take it for MMPose's.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.errors import FileError

ROOT = Path(__file__).resolve().parent
MIM_FILES = ('configs', 'tools', 'model-index.yml')
# These run what lies beside the package in a checkout, and would not work from a wheel.
CHECKOUT_TOOLS = ('bench.py', 'demo.py', 'pictures.py')
IGNORED = shutil.ignore_patterns('__pycache__', '*.py[cod]', '.*', '*~')

# Only the mim extra names packages of OpenMMLab: they are distributed under several names
# (mmcv, mmcv-lite, onedl-mmcv) that overwrite each other, and torch must stay what it is.
MIM_REQUIRES = ['mmengine>=0.7.1,<1.0', 'mmcv>=2.0.0,<2.2', 'mmdet>=3.0.0,<3.4', 'mmpose>=1.3.0,<2']

# 6.10 has the page load a script from far away; 6.20 is the first release that was tested.
APP_REQUIRES = ['gradio>=6.20,<7']


def read(name: str) -> str:
    path = ROOT / name
    return path.read_text(encoding='utf-8') if path.is_file() else ''


class BuildPyWithMim(build_py):
    """``build_py`` that adds ``mmpose_attn/.mim``; editable installs use the checkout instead."""

    def run(self) -> None:
        if not getattr(self, 'editable_mode', False):
            # setuptools never removes what an earlier build left there.
            shutil.rmtree(self._package_dir, ignore_errors=True)
        super().run()
        if not getattr(self, 'editable_mode', False):
            self._copy_mim_files()

    @property
    def _package_dir(self) -> Path:
        return Path(self.build_lib) / 'mmpose_attn'

    def _copy_mim_files(self) -> None:
        missing = [name for name in MIM_FILES if not (ROOT / name).exists()]
        if missing:
            raise FileError(
                f'{", ".join(missing)} not found in {ROOT}: without them `mim train mmpose_attn` '
                'does not work. Build from a complete checkout or source distribution.'
            )
        for name in MIM_FILES:
            source, target = ROOT / name, self._package_dir / '.mim' / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=IGNORED)
            else:
                shutil.copy2(source, target)
        for name in CHECKOUT_TOOLS:
            (self._package_dir / '.mim' / 'tools' / name).unlink()

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        mim = self._package_dir / '.mim'
        return super().get_outputs(include_bytecode) + [
            str(path) for path in sorted(mim.rglob('*')) if path.is_file()
        ]


setup(
    name='mmpose_attn',
    version=re.search(r"__version__ = '(.+)'", read('mmpose_attn/version.py')).group(1),
    description='Attention plugins, high-resolution backbones and bottom-up heads for MMPose 1.x',
    long_description=read('README.md'),
    long_description_content_type='text/markdown',
    author='The mmpose_attn authors',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords='computer vision, human pose estimation, attention, HigherHRNet, MMPose',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['mmpose_attn*']),
    python_requires='>=3.10',
    install_requires=['av>=15', 'numpy>=1.22', 'rich>=10.7', 'scipy>=1.8'],
    extras_require={
        'app': APP_REQUIRES,
        'mim': MIM_REQUIRES,
        'onnx': ['onnx>=1.17', 'onnxruntime>=1.20'],
        'test': ['pytest>=8', 'pytest-xdist>=3.6'],
        'tools': ['seaborn>=0.12'],
    },
    cmdclass={'build_py': BuildPyWithMim},
    zip_safe=False,
)
