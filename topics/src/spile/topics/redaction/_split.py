"""Secrets that stand in several neighbouring texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, cast

from spile.topics.redaction._cards import is_card_number
from spile.topics.redaction._detectors import TextDetectors, decoded, may_be_base64
from spile.topics.redaction._tokens import PEM_BEGIN, PEM_END, TOKEN, TOKEN_BEGINS
from spile.topics.redaction._walk import Leaf, Walk

_MAX_PARTS: Final = 8
_TAIL: Final = 4096
_TOKEN_HEAD: Final = re.compile(r"[A-Za-z0-9_.+/=-]+")
_BASE64_PART: Final = re.compile(r"[A-Za-z0-9+/_-]{2,}={0,2}")
_DIGITS: Final = re.compile(r"[0-9]{2,10}")
_REST: Final = re.compile(r"(?=[^0-9]{0,64}[0-9]|.{16})[A-Za-z0-9_.+/=-]{8,}")
_CREDENTIALS: Final = re.compile(r"(?=[^0-9]{0,64}[0-9]|.{16})[A-Za-z0-9_.~+/=-]{6,}")
_SHORTEST_CARD: Final = 14
_LONGEST_CARD: Final = 19
_MAX_PEM_LINES: Final = 200


def join_split(walk: Walk) -> None:
    """
    Find secrets in several texts that follow one another, and replace the parts.

    Texts follow one another in the order of the document; names and numbers in between do not
    count. A token's beginning must stand whole in the first part; later parts must consist of
    token letters up to where the token ends. Base64 is joined when a part has 16 letters, card
    numbers when all parts are digits of one object or list.

    Raises:
        RedactionError: It takes too long.
    """
    leaves = walk.leaves
    for index, leaf in enumerate(leaves):
        if index + 1 == len(leaves):
            break
        if index % 64 == 0:
            walk.check_time()
        if not leaf.done:
            _announced(walk, index)
        _ = (
            _split_token(walk, index)
            or _split_key(walk, index)
            or _split_card(walk, index)
            or _split_base64(walk, index)
        )


def _following(leaves: list[Leaf], index: int) -> Iterator[tuple[int, Leaf]]:
    """
    Yield the texts after one, up to the first that was replaced already.

    When the first itself was replaced, a whole secret stood in it, and only what looks like the
    rest of it follows.
    """
    first = leaves[index]
    for after in range(index + 1, min(index + 1 + _MAX_PARTS, len(leaves))):
        leaf = leaves[after]
        if leaf.done or TextDetectors.is_replacement(leaf.text):
            return
        if first.done and (leaf.holder is not first.holder or _REST.fullmatch(leaf.text) is None):
            return
        yield after, leaf


def _set(walk: Walk, leaf: Leaf, text: str) -> None:
    if not leaf.done:
        cast("Any", leaf.holder)[leaf.at] = text
        leaf.done = True
        walk.note(leaf.path)


def _announced(walk: Walk, index: int) -> None:
    """Replace the text after one that ends in `password=`, or in a list in `Bearer`."""
    leaf, after = walk.leaves[index], walk.leaves[index + 1]
    if after.done or after.holder is not leaf.holder or not after.text:
        return
    if walk.detectors.is_replacement(after.text):
        return
    in_list = isinstance(leaf.holder, list)
    is_credentials = in_list and _CREDENTIALS.fullmatch(after.text) is not None
    if walk.detectors.announces(leaf.text, scheme=is_credentials):
        _set(walk, after, walk.replace(after.text))


def _split_token(walk: Walk, index: int) -> bool:
    leaves, first = walk.leaves, walk.leaves[index]
    if not walk.detectors.may_begin_token(first.text):
        return False
    begun = TOKEN_BEGINS.search(first.text, max(0, len(first.text) - _TAIL))
    if begun is None:
        return False
    joined, last, rest = begun.group(), -1, ""
    parts: list[int] = []
    for after, leaf in _following(leaves, index):
        head = _TOKEN_HEAD.match(leaf.text)
        if head is None or (last >= 0 and leaf.holder is not leaves[last].holder):
            break
        joined += head.group()
        parts.append(after)
        if TOKEN.fullmatch(joined) is not None:
            last, rest = after, leaf.text[head.end() :]
        if head.end() < len(leaf.text):
            break
    if last < 0:
        return False
    replacement = walk.replace(joined)
    _set(walk, first, first.text[: begun.start()] + replacement)
    for after in parts[: parts.index(last) + 1]:
        _set(walk, leaves[after], replacement + (rest if after == last else ""))
    return True


def _split_key(walk: Walk, index: int) -> bool:
    """Replace the lines of a private key that stand one by one."""
    leaves, first = walk.leaves, walk.leaves[index]
    if "PRIVATE KEY" not in first.text or PEM_BEGIN.search(first.text) is None:
        return False
    if PEM_END.search(first.text) is not None:
        return True
    for leaf in leaves[index + 1 : index + 1 + _MAX_PEM_LINES]:
        if leaf.holder is not first.holder:
            break
        _set(walk, leaf, walk.replace(leaf.text))
        if PEM_END.search(leaf.text) is not None:
            break
    return True


def _split_card(walk: Walk, index: int) -> bool:
    leaves, first = walk.leaves, walk.leaves[index]
    if _DIGITS.fullmatch(first.text) is None:
        return False
    parts, joined = [index], first.text
    for after, leaf in _following(leaves, index):
        if leaf.holder is not first.holder or _DIGITS.fullmatch(leaf.text) is None:
            return False
        parts.append(after)
        joined += leaf.text
        if len(joined) > _LONGEST_CARD:
            return False
        if len(joined) >= _SHORTEST_CARD and is_card_number(joined):
            replacement = walk.replace(joined)
            for part in parts:
                _set(walk, leaves[part], replacement)
            return True
    return False


def _split_base64(walk: Walk, index: int) -> bool:
    leaves, first = walk.leaves, walk.leaves[index]
    if _BASE64_PART.fullmatch(first.text) is None:
        return False
    parts, joined, is_long = [index], first.text, may_be_base64(first.text)
    hit = 0
    for after, leaf in _following(leaves, index):
        if _BASE64_PART.fullmatch(leaf.text) is None or joined.endswith("="):
            break
        parts.append(after)
        joined += leaf.text
        is_long = is_long or may_be_base64(leaf.text)
        if is_long and (inner := decoded(joined)) is not None and walk.detectors.spans(inner, 1):
            hit = len(parts)
    if not hit:
        return False
    replacement = walk.replace(joined)
    for part in parts[:hit]:
        _set(walk, leaves[part], replacement)
    return True
