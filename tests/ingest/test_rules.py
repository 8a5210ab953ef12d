"""Placement rules: the first that matches decides, wrong ones are refused, and no value leaves its component."""

import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.ingest import Placement, Rules, Subject, WrongRules, load_rules, parse_rules
from allocator.ingest.names import MAX_BYTES, safe_component

RECEIVED_AT = 1_709_208_000.0
"""Noon of 29 February 2024, UTC."""


def a_subject(**given: object) -> Subject:
    """A photo, unless told otherwise."""
    usual = Subject("a photo.jpg", "media", "image/jpeg", 1000, "ann", RECEIVED_AT, sha256="ab" * 32)
    return replace(usual, **given)  # type: ignore[arg-type]


def rules_of(text: str) -> Rules:
    """Rules written in TOML."""
    return parse_rules(text.encode(), "test.toml")


def one_rule(match: str = "", path: str = "{name}") -> Rules:
    """A single rule."""
    return rules_of(f'[[rule]]\nname = "it"\nmatch = {{ {match} }}\npath = {path!r}\n')


# Place


@pytest.mark.parametrize(
    ("subject", "placement"),
    [
        (a_subject(), Placement("pictures", "pictures/2024/02/a photo.jpg")),
        (a_subject(taken_at=0.0), Placement("pictures", "pictures/1970/01/a photo.jpg")),
        (a_subject(taken_at=-1.0), Placement("pictures", "pictures/1969/12/a photo.jpg")),
        (a_subject(taken_at=1e20), Placement("pictures", "pictures/2024/02/a photo.jpg")),
        (a_subject(type="audio/wav", name="x.wav"), Placement("sound", "sound/2024/x.wav")),
        (a_subject(type="video/mp4", name="x.mp4"), Placement("video", "video/2024/02/x.mp4")),
        (a_subject(kind="json", type="application/json", name="x"), Placement("json", "json/ann/2024/02/x")),
        (a_subject(kind="other", type="text/csv", name="x.csv"), Placement("tables", "tables/ann/2024/02/x.csv")),
        (a_subject(kind="other", type="application/pdf", name="x"), Placement("papers", "papers/2024/x")),
        (a_subject(kind="other", type="text/plain", name="x", owner=""), Placement("text", "text/unnamed/2024/02/x")),
        (a_subject(kind="other", type="application/zip", name="x"), Placement("rest", "other/2024/02/x")),
    ],
)
def test_the_default_rules_place_everything(subject: Subject, placement: Placement) -> None:
    """By kind, type and the date it was taken, else received."""
    assert load_rules().place(subject) == placement


def test_the_first_match_wins() -> None:
    """Of two that match, and the next one if it does not."""
    rules = rules_of(
        '[[rule]]\nname = "first"\nmatch = { owner = "a*" }\npath = "1/{name}"\n'
        '[[rule]]\nname = "second"\npath = "2/{name}"\n'
    )

    assert [rules.place(a_subject(owner=owner)).rule for owner in ("ann", "bob")] == ["first", "second"]


@pytest.mark.parametrize(
    ("match", "subject", "matches"),
    [
        ('kind = "media"', a_subject(), True),
        ('kind = "json"', a_subject(), False),
        ('type = "IMAGE/*"', a_subject(), True),
        ('type = "image/p?g"', a_subject(), False),
        ('owner = "[a-c]nn"', a_subject(), True),
        ('owner = "Ann"', a_subject(), False),
        ("size_min = 1000, size_max = 1000", a_subject(), True),
        ("size_min = 1001", a_subject(), False),
        ("size_max = 999", a_subject(), False),
        ("after = 2024-02-29", a_subject(received_at=RECEIVED_AT - 43_200), True),
        ("after = 2024-02-29", a_subject(received_at=RECEIVED_AT - 43_201), False),
        ('before = "2024-02-29"', a_subject(received_at=RECEIVED_AT - 43_201), True),
        ("before = 2024-02-29T00:00:00Z", a_subject(received_at=RECEIVED_AT - 43_200), False),
        ("after = 2024-02-29T13:00:00+02:00", a_subject(), True),
        ("before = 2000-01-01", a_subject(taken_at=0.0), True),
        ('kind = "media", owner = "bob"', a_subject(), False),
    ],
)
def test_a_rule_matches_when_all_of_it_holds(match: str, subject: Subject, matches: bool) -> None:
    """Bounds included, except the end of a time."""
    assert (one_rule(match).place(subject).rule == "it") is matches


def test_without_a_match_there_is_a_place_all_the_same() -> None:
    """And it says that no rule decided."""
    placement = one_rule('kind = "json"').place(a_subject())

    assert placement == Placement("(none)", "unsorted/2024/02/a photo.jpg")


def test_every_field_can_be_used() -> None:
    """Each with its value."""
    path = "{kind}/{type}/{subtype}/{owner}/{stem}{suffix}/{name}/{sha256}/{year}-{month}-{day}/{{x}}"

    placed = one_rule(path=path).place(a_subject()).path

    assert placed == f"media/image_jpeg/jpeg/ann/a photo.jpg/a photo.jpg/{'ab' * 32}/2024-02-29/{{x}}"


def test_a_name_without_a_suffix_has_none() -> None:
    """The field is empty then, not "unnamed"."""
    assert one_rule(path="{stem}-1{suffix}").place(a_subject(name="README")).path == "README-1"


# Names


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("", "unnamed"),
        (".", "unnamed"),
        ("..", "unnamed"),
        (" .. ", "unnamed"),
        (".\u202e.", "unnamed"),
        ("\x00\x1f", "unnamed"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("C:\\x.txt", "C:_x.txt"),
        ("a\x00b\n.txt", "ab.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("cafe\u0301.txt", "caf\u00e9.txt"),
        ("half\ud800.txt", "half.txt"),
        ("…/日本語.txt", "…_日本語.txt"),
        (".bashrc", ".bashrc"),
        ("x" * 300 + ".tar.gz", "x" * 117 + ".gz"),
        ("ä" * 300 + ".jpeg", "ä" * 57 + ".jpeg"),
        ("x." + "y" * 300, "x." + "y" * 118),
        ("x" * 100_000 + ".jpg", "x" * 116 + ".jpg"),
    ],
)
def test_a_name_becomes_one_safe_component(name: str, safe: str) -> None:
    """Whatever it held, with its suffix where it has one."""
    assert safe_component(name) == safe
    assert one_rule().place(a_subject(name=name)).path == safe


@given(st.text(max_size=300), st.text(max_size=300), st.sampled_from(["", "image/png", "x/../../y", "\x00"]))
def test_no_value_leaves_its_component(name: str, owner: str, type: str) -> None:
    """For any text: as many components as the template has, each of them safe."""
    path = one_rule(path="a/{owner}{name}/{stem}.{suffix}/{type}{subtype}").place(
        a_subject(name=name, owner=owner, type=type)
    )

    parts = path.path.split("/")
    assert len(parts) == 4
    for part in parts:
        assert part not in ("", ".", "..")
        assert len(part.encode()) <= MAX_BYTES
        assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in part)
        assert unicodedata.is_normalized("NFC", part)
        assert "\\" not in part


# Refused


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there are no rules"),
        ("rule = []", "there are no rules"),
        ("rule = 1", "there are no rules"),
        ("[[rule]", "no valid TOML"),
        pytest.param("x = " + "9" * 5000, "no valid TOML", id="a number of 5,000 digits"),
        ('rules = 1\n[[rule]]\nname = "a"\npath = "{name}"', "test.toml, rules: there is no such key"),
        ('[[rule]]\npath = "{name}"', "rule number 1, name: must be a text"),
        ('[[rule]]\nname = "a"', "rule 'a', path: must be a template"),
        ('[[rule]]\nname = "a"\npath = "x"\ncolour = 1', "rule 'a', colour: there is no such key"),
        ('[[rule]]\nname = "a"\npath = "x"\n[[rule]]\nname = "a"\npath = "x"', "another rule has it"),
        ('[[rule]]\nname = "a"\npath = "x"\nmatch = 1', "rule 'a', match: must be a table"),
    ],
)
def test_a_wrong_file_is_refused(text: str, said: str) -> None:
    """The text names the file, the rule and the field."""
    with pytest.raises(WrongRules, match=r"test\.toml") as refused:
        rules_of(text)

    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("match", "field"),
    [
        ('colour = "red"', "match.colour"),
        ('kind = "video"', "match.kind"),
        ("type = 1", "match.type"),
        ('owner = ""', "match.owner"),
        ("size_min = -1", "match.size_min"),
        ('size_max = "1 MB"', "match.size_max"),
        ("size_min = true", "match.size_min"),
        ("size_min = 2, size_max = 1", "match.size_min"),
        ('after = "2023-02-29"', "match.after"),
        ("before = 2024", "match.before"),
        ("before = 12:00:00", "match.before"),
        ("after = 0001-01-01T00:00:00+14:00", "match.after"),
        ("before = 9999-12-31T23:59:59-12:00", "match.before"),
        ("after = 2024-01-02, before = 2024-01-02", "match.after"),
    ],
)
def test_a_wrong_match_is_refused(match: str, field: str) -> None:
    """Naming the field."""
    with pytest.raises(WrongRules) as refused:
        one_rule(match)

    assert (refused.value.source, refused.value.rule, refused.value.field) == ("test.toml", "'it'", field)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/{name}",
        "~/x",
        "C:/x",
        "\\\\host\\x",
        "../{name}",
        "a/../{name}",
        "a/./{name}",
        "a//{name}",
        "{name}/",
        "{colour}",
        "{}",
        "{0}",
        "{name",
        "name}",
        "{name!r}",
        "{name:>10000000}",
        "{name.__class__}",
        "{name[0]}",
        "{ye/ar}",
        "a/" * 20 + "b",
        "x\x01",
        "x\u202e",
    ],
)
def test_a_wrong_template_is_refused(path: str) -> None:
    """Whatever would lead elsewhere, or means nothing."""
    quoted = path.replace("\\", "\\\\").replace("\x01", "\\u0001")

    with pytest.raises(WrongRules) as refused:
        rules_of(f'[[rule]]\nname = "it"\npath = "{quoted}"\n')

    assert refused.value.field == "path"


def test_rules_are_read_from_a_file(tmp_path: Path) -> None:
    """And errors name it."""
    path = tmp_path / "mine.toml"
    path.write_text('[[rule]]\nname = "all"\npath = "all/{name}"\n')
    placed = load_rules(path).place(a_subject())
    path.write_text("x = 1")

    with pytest.raises(WrongRules, match=r"mine\.toml"):
        load_rules(path)

    assert placed == Placement("all", "all/a photo.jpg")
