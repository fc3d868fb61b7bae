"""Bytes and values that no parser of a user's file should stumble over."""

from __future__ import annotations

import json

from hypothesis import strategies as some

DIGITS = "9" * 5000
TOML_VALUES = (
    *(
        '"x"',
        '""',
        '"../../x"',
        r'"a\u0000b"',
        r'"\u001b[2J"',
        '"' + "n" * 300 + '"',
        "true",
        "nan",
        "-inf",
        "1e308",
        "0",
    ),
    *("-1", "9223372036854775807", "9223372036854775808", DIGITS, f'"{DIGITS}"', "0x" + "f" * 4000, "1979-05-27", "[]"),
    *("{}", "[1, 1]", '["x", 2.5, false]', "[[1]]", '{x = "y"}', "{x = [1, 2]}", "[" * 3000 + "]" * 3000, "[nan]"),
    *("{x = {x = 1}}", "07:32:00", '[{method = "lora"}]', '"/dev/null"', '"."', '["lora"]', '["digits-lt"]', "[0, 1]"),
)
"""Right and wrong values, of every type and beyond every bound."""
WORDS = some.sampled_from(
    ["", "-1", "0", "1e308", "nan", "true", "\0", "\udcff", DIGITS, "٣", "[", "{", "a,b", "\n", "=", "../x"]
)
JSON = some.recursive(
    some.none()
    | some.booleans()
    | some.integers()
    | some.sampled_from([10**400, 2**63, -1, 0.5, 1e308, "", "x", "\0", "../x", "a" * 64]),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def toml(keys: list[str]) -> some.SearchStrategy[bytes]:
    """Bytes of a TOML file that gives some of ``keys`` some of :data:`TOML_VALUES`."""
    lines = some.dictionaries(some.sampled_from(keys), some.sampled_from(TOML_VALUES), max_size=6)
    return lines.map(lambda found: "\n".join(f"{key} = {value}" for key, value in found.items()).encode())


def spliced(content: bytes) -> some.SearchStrategy[bytes]:
    """``content`` with a few bytes replaced, removed or put in anywhere."""
    places = some.integers(0, len(content))
    odd = some.binary(max_size=4) | some.sampled_from([b'"', b"\0", b"\xff", b"\r", b",", b"\n", b"\xef\xbb\xbf"])

    def splice(start: int, length: int, put: bytes) -> bytes:
        return content[:start] + put + content[start + length :]

    return some.builds(splice, places, some.integers(0, 3), odd)


def changed(document: dict) -> some.SearchStrategy[bytes]:
    """JSON of ``document`` in which one value, however deep, is another."""

    def paths(value, path=()):
        yield path
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, child in children:
            yield from paths(child, (*path, key))

    def change(path, new) -> bytes:
        if not path:
            return json.dumps(new).encode()
        copy = json.loads(json.dumps(document))
        at = copy
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = new
        return json.dumps(copy).encode()

    return some.builds(change, some.sampled_from(list(paths(document))), JSON)
