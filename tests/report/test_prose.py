"""Prose is templated: no figure is written out in it, each is bound to a value."""

import re
from importlib import resources

import pytest

SECTIONS = resources.files("allocator.report") / "templates" / "sections"
TEMPLATES = sorted(each.name for each in SECTIONS.iterdir() if each.name.endswith(".j2"))
NAMES = r"\b(p50|p99|SHA-256)\b"
"""Names that have digits in them, and are no figures."""


def prose(template: str) -> str:
    """What a reader would see of a template, without what is bound."""
    text = re.sub(r"\{#.*?#\}|\{\{.*?\}\}|\{%.*?%\}", " ", template, flags=re.DOTALL)
    return re.sub(NAMES, " ", re.sub(r"<[^>]*>|&#?\w+;", " ", text))


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_holds_no_figure(name: str) -> None:
    """A literal figure would stay when what it speaks of has changed."""
    assert re.findall(r"\S*\d\S*", prose((SECTIONS / name).read_text("utf-8"))) == []


def test_a_figure_would_be_found() -> None:
    """Also beside one that is bound."""
    assert re.findall(r"\d+", prose('<p class="x1">{{ count }} jobs of 100 in {# 7 #} all</p>')) == ["100"]
