"""The stand-in for chumpy: it satisfies MMPose's requirement and does nothing."""

import importlib.metadata
import importlib.util
import inspect
import pathlib
import re

import chumpy
import pytest


def test_mmpose_requires_it_and_gets_it():
    requirements = importlib.metadata.requires('mmpose')
    assert any(re.match(r'chumpy\b', line) for line in requirements)
    assert importlib.metadata.version('chumpy') == chumpy.__version__


def test_mmpose_never_imports_it():
    root = pathlib.Path(importlib.util.find_spec('mmpose').origin).parent
    files = list(root.rglob('*.py'))
    assert len(files) > 100
    pattern = re.compile(r'^\s*(import|from)\s+chumpy\b', re.MULTILINE)
    assert not [f for f in files if pattern.search(f.read_text(encoding='utf-8'))]


def test_use_is_an_error_that_says_why():
    with pytest.raises(NotImplementedError, match=r'chumpy\.array.*stand-in'):
        chumpy.array([1, 2])


@pytest.mark.parametrize('name', ['__path__', '__wrapped__', '__all__'])
def test_dunder_names_are_absent(name):
    assert not hasattr(chumpy, name)


def test_introspection_works():
    assert inspect.getmodule(chumpy) is chumpy
    assert inspect.unwrap(chumpy) is chumpy


def test_metadata():
    metadata = importlib.metadata.metadata('chumpy')
    assert 'stand-in' in metadata['Summary']
    assert not importlib.metadata.requires('chumpy')
