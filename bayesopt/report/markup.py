"""HTML by strings: everything that comes from a study passes through `escaped`."""

import html
import math
from collections.abc import Iterable, Sequence

#: Texts that could be taken for other values.
_AMBIGUOUS = ("", "None", "True", "False")


class Markup(str):
    """A string that is HTML already."""

    __slots__ = ()


def escaped(value: object) -> Markup:
    """Text as HTML, safe between tags and in attributes; what is HTML already stays as it is.

    Characters that HTML or UTF-8 cannot hold, control characters and lone surrogates, become U+FFFD.

    >>> escaped("<b onclick='x'>&")
    '&lt;b onclick=&#x27;x&#x27;&gt;&amp;'
    """
    if isinstance(value, Markup):
        return value
    return Markup(html.escape("".join(map(_legible, str(value)))))


def _legible(character: str) -> str:
    code = ord(character)
    control = (code < 32 and character not in "\t\n") or 127 <= code < 160
    return "\ufffd" if control or 0xD800 <= code < 0xE000 or code & 0xFFFE == 0xFFFE else character


def tag(name: str, *inside: object, **attributes: object) -> Markup:
    """An element; a trailing underscore of an attribute goes, others become hyphens, None leaves it out.

    >>> tag("p", "1 < 2", tag("br"), class_="note")
    '<p class="note">1 &lt; 2<br></br></p>'
    """
    pairs = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    written = "".join(f' {key}="{escaped(value)}"' for key, value in pairs if value is not None)
    return Markup(f"<{name}{written}>{joined(inside)}</{name}>")


def joined(parts: Iterable[object]) -> Markup:
    """Parts one after the other."""
    return Markup("".join(map(escaped, parts)))


def table(
    header: Sequence[object], rows: Iterable[Sequence[object]], label: str, look: str = "wide"
) -> Markup:
    """A table that scrolls by itself where the screen is narrow; the keyboard reaches it.

    With the look "wide facts", of a few words and numbers, its cells wrap instead.
    """
    head = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in header)))
    body = tag("tbody", *(tag("tr", *(tag("td", _cell(cell)) for cell in row)) for row in rows))
    return tag("div", tag("table", head, body), class_=look, tabindex=0, role="region", aria_label=label)


def _cell(value: object) -> object:
    return number(value) if isinstance(value, float) else value


def number(value: float, digits: int = 4) -> str:
    """A number for people: so many significant digits, a true minus sign.

    >>> number(1234567.0), number(-0.00012345), number(3.0), number(float("nan"))
    ('1.235e6', '−0.0001234', '3', 'none')
    """
    if math.isnan(value):
        return "none"
    mantissa, e, exponent = f"{value:.{digits}g}".partition("e")
    return (mantissa + (f"e{int(exponent)}" if e else "")).replace("-", "−")


def shown_value(value: object) -> str:
    """A value of a parameter; a text in quotes where it could be taken for something else."""
    if isinstance(value, str):
        return repr(value) if value.strip() in _AMBIGUOUS else value
    return number(value, 5) if isinstance(value, float) else str(value)
