"""SECURITY.md: what holds its promises exists."""

import re

import pytest

from tests.helpers import ROOT

POLICY = (ROOT / 'SECURITY.md').read_text(encoding='utf-8')
LINKS = re.findall(r'\]\(([^)#]+)\)', POLICY)


def test_every_door_but_configs_has_its_tests():
    rows = [line.split(' | ') for line in POLICY.splitlines() if line.startswith('| ')]
    doors = rows[1:]
    assert len(doors) > 10
    for door, *_, held in doors:
        assert 'Configs' in door or re.search(r'tests/\S+\.py', held), door


@pytest.mark.parametrize('path', sorted(set(LINKS)))
def test_what_is_named_exists(path):
    assert (ROOT / path).is_file()


def test_named_by_their_paths():
    for text, target in re.findall(r'\[(tests/[^]]+)\]\(([^)]+)\)', POLICY):
        assert text == target
    anchors = set(re.findall(r'\]\(#([^)]+)\)', POLICY))
    titles = {title.lower().replace(' ', '-') for title in re.findall(r'^#+ (.+)$', POLICY, re.M)}
    assert anchors <= titles
