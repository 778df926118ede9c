"""A command line with placeholders: from a configuration to the words of a program.

No shell ever sees them: a value goes into one word, whatever characters it has.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Placeholders that are no parameters, unless the space has some of these names.
CONFIG, TRIAL = "config", "trial"

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NUMBER = re.compile(r"-[\d.]")


def text_of(value: object) -> str:
    """A value as a program gets it: a string as it is, anything else as in JSON.

    >>> [text_of(value) for value in ("a b", 0.1, 3, True, None)]
    ['a b', '0.1', '3', 'true', 'null']
    """
    return value if isinstance(value, str) else json.dumps(value)


@dataclass(frozen=True)
class Word:
    """A word in pieces: literal text at the even places, names of placeholders at the odd ones."""

    pieces: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "Word":
        """A word as the user writes it, `{{` and `}}` standing for braces.

        Raises:
            ValueError: a brace stands alone.

        >>> Word.parse("--lr={lr}").pieces, Word.parse("{{{lr}}}").pieces
        (('--lr=', 'lr', ''), ('{', 'lr', '}'))
        """
        pieces, end = [""], 0
        for token in _TOKEN.finditer(text):
            pieces[-1] += text[end : token.start()]
            end = token.end()
            if token[0] in ("{{", "}}"):
                pieces[-1] += token[0][0]
            elif token[1] is not None:
                pieces += [token[1], ""]
            else:
                raise ValueError(
                    f"{text!r}: {token[0]!r} stands alone; write {2 * token[0]!r} for a brace, {{name}} for "
                    "a value"
                )
        pieces[-1] += text[end:]
        return cls(tuple(pieces))

    @property
    def names(self) -> tuple[str, ...]:
        """The placeholders."""
        return self.pieces[1::2]

    @property
    def is_option(self) -> bool:
        """Whether it is an option that may take the next word as its value: `--depth`, `-d`."""
        text = self.pieces[0]
        return (
            not self.names
            and text.startswith("-")
            and text not in ("-", "--")
            and "=" not in text
            and not _NUMBER.match(text)
        )

    def fill(self, values: Mapping[str, str]) -> str:
        """The word with its values."""
        return "".join(values[piece] if place % 2 else piece for place, piece in enumerate(self.pieces))


@dataclass(frozen=True)
class Template:
    """A command line with placeholders: {name} for each parameter, {config} and {trial}."""

    words: tuple[Word, ...]

    @classmethod
    def parse(cls, words: Sequence[str]) -> "Template":
        """The command line as the user writes it.

        Raises:
            ValueError: there is no word, or a brace stands alone.
        """
        if not words:
            raise ValueError("no program to run; write it after --, as in: -- python train.py --lr {lr}")
        return cls(tuple(map(Word.parse, words)))

    def check(self, parameters: Mapping[str, Sequence[object]], elsewhere: bool = False) -> None:
        """Find out whether all values can get to the program.

        Args:
            parameters: the names, with those of their values that are texts.
            elsewhere: whether the program may get them in another way.

        Raises:
            ValueError: a placeholder is unknown, a parameter has none, or a text cannot be an argument.
        """
        used = {name for word in self.words for name in word.names}
        for name in used - parameters.keys() - {CONFIG, TRIAL}:
            raise ValueError(
                f"placeholder {{{name}}} is no parameter of the space; it has {', '.join(parameters)}, and "
                "there are {config} and {trial}"
            )
        missing = [name for name in parameters if name not in used]
        if missing and not elsewhere and (CONFIG not in used or CONFIG in parameters):
            raise ValueError(
                f"the program never gets {', '.join(missing)}: write {{{missing[0]}}} where it belongs, or "
                "{config} for all as JSON, or pass --env if the program reads BAYESOPT_CONFIG"
            )
        for name in used & parameters.keys():
            for value in parameters[name]:
                _check_text(name, value)

    def fill(self, config: Mapping[str, Any], number: int) -> list[str]:
        """The program and its arguments.

        A word that needs an inactive parameter is left out, and so is the option in front of it.

        >>> command = Template.parse(["train", "--lr", "{lr}", "--depth", "{depth}"])
        >>> command.fill({"lr": 0.1}, 0)
        ['train', '--lr', '0.1']
        """
        values = {CONFIG: json.dumps(config), TRIAL: str(number)}
        values |= {name: text_of(value) for name, value in config.items()}
        filled: list[str] = []
        before: Word | None = None
        for word in self.words:
            if all(name in values for name in word.names):
                filled.append(word.fill(values))
            elif before is not None and before.is_option:
                filled.pop()
            before = word
        return filled


def _check_text(name: str, value: object) -> None:
    text = text_of(value)
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(f"choice {value!r} of {name!r} is no text that a program can be given") from None
    if "\0" in text:
        raise ValueError(f"choice {value!r} of {name!r} holds a NUL, which no argument can hold")
