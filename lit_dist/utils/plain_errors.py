"""Mistakes in a command's words and settings, each in one sentence that names what may have been meant."""

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

from jsonargparse import ArgumentParser

from lit_dist.utils.errors import InputError
from lit_dist.utils.signatures import imported, parameters

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list, such as [a, b]",
    "dict": "settings by name",
    "NoneType": "null",
}
_MEANT = {"seed_everything": "seeds"}
"""Settings of one command, by those of another that are as likely meant."""
_REASON = re.compile(
    r"Option '(?P<option>[^']+)' is not accepted"
    r"|Expected a dot import path string: (?P<path>.*)"
    r"|module '[\w.]+' has no attribute '(?P<attribute>\w+)'"
    r"|No module named '(?P<module>[^']+)'"
    r"|Importing '(?P<denied>[^']+)' is not allowed"
    r"|Import path (?P<foreign>\S+) does not correspond to a subclass of (?P<base>\w+)"
    r"|Expected an? (?!path but|<class 'NoneType'>)(?P<type>.+?)(?=\. Got value|$)",
    re.MULTILINE,
)
_NO_CLASS = re.compile(
    r"Parser key \"(?P<part>\w+)\".*(?: is abstract\n|class_path 'lightning\.Lightning(?:Data)?Module').*"
    r"Given value: NestedArg\(key='(?P<setting>[\w.]+)'",
    re.DOTALL,
)
_VALUE = re.compile(r"(?:Got|Given) value: (.*?)(?:\. Got value: .*)?$", re.MULTILINE)
_LONGEST = 600


class PlainErrors:
    """For parsers of the kind of ``argparse``: what they refuse is an ``InputError`` of one sentence.

    Put it before the parser's own class. Parsers that others use to try something out keep their own way.

    Attributes:
        kinds: What a setting's ``class_path`` may have to belong to; the classes of these kinds are suggested.
        parts: Classes whose settings are likely meant where a part's name, such as ``data``, was left out.
    """

    kinds: ClassVar[Sequence[type]] = ()
    parts: ClassVar[Mapping[str, type]] = {}

    def error(self, message: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse the words, of which the parser says what is wrong, by an ``InputError``."""
        if not getattr(self, "exit_on_error", True):
            super().error(message, *args, **kwargs)  # type: ignore[misc]
        raise InputError(plain(message, self)) from None


class PlainParser(PlainErrors, ArgumentParser):
    """The parser of a command that is not Lightning's."""


def plain(message: str, parser: Any) -> str:
    """Say in one sentence what a parser has refused, and what of its options may have been meant."""
    text = _of_no_class(message) or _of_words(message, parser) or _of_value(message, parser)
    if text is None:
        text = "; ".join(line.strip(" -") for line in message.splitlines() if line.strip())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _of_no_class(message: str) -> str | None:
    """What to give where a command was given no model, or a setting of a part without the part's class."""
    if "arguments are required: " in message and message.endswith(".model"):
        return "name a model and data, in a configuration: --config FILE, such as configs/phantom/cyclical.yaml"
    if found := _NO_CLASS.search(message):
        name = f"--{found['part']}.{found['setting']}"
        by = f"--{found['part']}.class_path NAME"
        return f"{name} belongs to no class yet: name one ({by}), or a configuration (--config FILE)"
    return None


def nearest(name: str, known: Iterable[str], sign: str = "") -> str:
    """The end of a sentence that says which names look like one that is unknown; empty if none does.

    Args:
        name: The unknown name.
        known: The known ones, whose last parts after a dot are compared, too.
        sign: What to put before each.

    Example:
        >>> nearest("bach_size", ["batch_size", "size", "sites"])
        '; did you mean batch_size?'
    """
    names = sorted(set(known), key=lambda each: (each.count("."), each))
    lasts = {each.rpartition(".")[2]: each for each in reversed(names)}
    last = name.rpartition(".")[2]
    found = [
        *(each for each in names if each.lower() == name.lower()),
        *([lasts[last]] if last in lasts else []),
        *(each for each in names if len(name) > 2 and each.startswith(name)),
        *difflib.get_close_matches(name, names, 3, 0.75),
    ] or [lasts[each] for each in difflib.get_close_matches(last, lasts, 3, 0.75)]
    meant = " or ".join(f"{sign}{each}" for each in [*dict.fromkeys(found)][:3])
    return f"; did you mean {meant}?" if meant else ""


def _of_words(message: str, parser: Any) -> str | None:
    """What is wrong with the words themselves."""
    if found := re.match(r"unrecognized arguments: (\S+)", message):
        word = found[1].partition("=")[0]
        if not word.startswith("-"):
            return f"the word {word!r} belongs to no option of this command"
        name = word.lstrip("-")
        return f"there is no option {word}{nearest(_MEANT.get(name, name), _options(parser), '--')}"
    if found := re.match(r"Subcommand '\w+' does not accept option '([^']+)'|Key '([^']+)' is not expected", message):
        name = found[1] or found[2]
        return f"there is no setting {name!r}{nearest(name, _options(parser)) or _part_of(name, parser)}"
    if found := re.match(r"argument subcommand: invalid choice: '(.*?)' \(choose from ", message):
        commands = re.findall(r"\w+", parser.usage.partition("{")[2])
        return f"there is no command {found[1]!r}{nearest(found[1], commands)}; there are {', '.join(commands)}"
    if message.startswith('expected "subcommand"'):
        return f"say which command: {parser.usage}"
    if message.startswith("Unexpected config"):
        return "the configuration has no settings by name"
    if found := re.match(r'(?:Parser key "config"|Problems parsing config): *(.*)', " ".join(message.split())):
        return f"the configuration cannot be read: {found[1]}"
    return None


def _options(parser: Any) -> Iterator[str]:
    """The names of all options of a parser and its subcommands, and of the settings that are often meant."""
    for action in parser._actions:
        for option in action.option_strings:
            if not option.endswith("+"):  # which adds to a list that has an option of its own
                yield option.lstrip("-")
        if isinstance(action.choices, dict):  # the parsers of subcommands
            for sub in action.choices.values():
                yield from _options(sub)
    for part, kind in parser.parts.items():
        yield from (f"{part}.{name}" for name in parameters(kind)[0])


def _part_of(name: str, parser: Any) -> str:
    first = name.partition(".")[0]
    return nearest(first, {option.partition(".")[0] for option in _options(parser)})


def _of_value(message: str, parser: Any) -> str | None:
    """What is wrong with the value of a setting: the first reason of those that the parser lists."""
    reasons = [*_REASON.finditer(message)]
    named = [each for each in reasons if any(each[of] for of in ("path", "attribute", "module", "foreign"))]
    reason = next((each for each in reasons if each["denied"]), next(iter(reasons), None))
    if reason and reason["type"] == "<class 'list'>":  # of one thing or a list of them
        reason = next(iter(named), reason)
    if reason is None:
        return _of_shape(message)
    before, after = message[: reason.start()], message[reason.end() :]
    setting = ".".join(re.findall(r'Parser key "([^"]+)"', before))
    if (option := reason["option"]) and not setting:
        return f"there is no setting {option!r}{nearest(_MEANT.get(option, option), _options(parser))}"
    if option := reason["option"]:
        line = after.partition("\n")[0]
        owner = re.search(r"class_path='([^']+)'", line) or [None, *re.finditer(r"class_path '([^']+)'", before)][-1]
        kind = imported(owner[1]) if owner else None
        names = list(parameters(kind)[0]) if inspect.isclass(kind) else []
        known = [*names, "class_path", "init_args"]
        hint = nearest(option, known) or nearest(option.partition(".")[0], known) or f"; it has {', '.join(names)}"
        whose = f" of {owner[1].rpartition('.')[2]}" if owner else ""
        return f"there is no setting {setting}.{option}{whose}{hint}"
    if reason["path"] is not None or reason["attribute"] or reason["module"]:
        given = re.search(r"class_path='([^']+)'", after.partition("\n")[0])
        if given is None and reason["path"] is None:
            given = _VALUE.search(after)
        name = given[1] if given else reason["path"].strip()
        if not name:
            return f"{setting} is empty; name a class"
        return f"{setting}: there is no class {name}{nearest(name.rpartition('.')[2], _classes(parser.kinds))}"
    if reason["denied"]:
        return f"{setting}: {reason['denied']} is nothing that a run is made of; name a class of the wanted kind"
    if reason["foreign"]:
        return f"{setting}: {reason['foreign']} is not a subclass of {reason['base']}"
    return _of_type(setting, message[reason.start() :])


def _of_type(setting: str, text: str) -> str:
    value = _VALUE.search(text)
    wanted = [
        each["type"].strip(". ") for each in _REASON.finditer(text[: value.start()] if value else text) if each["type"]
    ]
    choices = [
        found for each in wanted if each.startswith("typing.Literal") for found in re.findall(r"[^\[\]', ]+", each[15:])
    ]
    types = [
        re.sub(r"<class '(\w+)'>", lambda found: _TYPES.get(found[1], found[1]), each)
        for each in wanted
        if not each.startswith("typing.Literal")
    ]
    given = _shortened(value[1]) if value else "what was given"
    kinds = " or ".join(dict.fromkeys([*([f"one of {', '.join(dict.fromkeys(choices))}"] if choices else []), *types]))
    return f"{setting} is {given or 'empty'}, which is not {kinds}{nearest(given, choices)}"


def _of_shape(message: str) -> str | None:
    """What is wrong with a setting that has neither a class nor arguments where there should be both."""
    key = re.search(r'Parser key "([^"]+)"', message)
    path = re.search(r"Expected a path but (.*) either not accessible|Unable to load config '(.*)'", message)
    if key and path:
        return f"{key[1]}: {path[1] or path[2]} is neither a class nor a readable file of settings"
    base = re.search(r"Not a valid subclass of (\w+)", message)
    if key is None or base is None:
        return None
    value = _VALUE.findall(message)
    given = _shortened(value[-1]) if value else "what was given"
    return f"{key[1]} is {given}, which names no {base[1]}: give its class_path and its init_args"


def _shortened(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]} ..."


def _classes(kinds: Iterable[type]) -> Iterator[str]:
    """The names of all classes of these kinds that were imported."""
    for kind in kinds:
        yield kind.__name__
        yield from _classes(kind.__subclasses__())
