"""Shows an answer while it is still being written: the fields of its JSON as lines."""

from dataclasses import dataclass, field

_ESCAPES = {"n": " ", "t": " ", "r": " ", "b": "", "f": ""}


@dataclass(slots=True)
class Unfolding:
    """Turns the pieces of a JSON object of texts into `name: text` lines; an answer that is no JSON comes through as it is."""

    _is_json: bool | None = None
    _in_string: bool = False
    _is_value: bool = False
    _escaped: str | None = None
    """What of an escape was read, without its backslash; None outside of one."""
    _name: list[str] = field(default_factory=list)
    _high: str = ""
    """The first half of a character that is written as two escapes."""

    def take(self, piece: str) -> str:
        """What a further piece adds to what is shown."""
        return "".join(map(self._one, piece))

    def _one(self, character: str) -> str:
        if self._is_json is None and not character.isspace():
            self._is_json = character == "{"
        if not self._is_json:
            return character
        if not self._in_string:
            return self._between(character)
        if self._escaped is not None:
            return self._unescaped(character)
        if character == "\\":
            self._escaped = ""
            return ""
        if character == '"':
            self._in_string = False
            return "\n" if self._is_value else ""
        return self._said(character)

    def _between(self, character: str) -> str:
        if character == '"':
            self._in_string = True
            if not self._is_value:
                self._name.clear()
        elif character == ":":
            self._is_value = True
            return f"{''.join(self._name)}: "
        elif character in ",{":
            self._is_value = False
        return ""

    def _unescaped(self, character: str) -> str:
        assert self._escaped is not None
        self._escaped += character
        if self._escaped[0] != "u":
            self._escaped = None
            return self._said(_ESCAPES.get(character, character))
        if len(self._escaped) < 5:
            return ""
        code, self._escaped = self._escaped[1:], None
        try:
            unit = chr(int(code, 16))
        except ValueError:
            return self._said("\ufffd")
        if "\ud800" <= unit < "\udc00":
            self._high = unit
            return ""
        both, self._high = self._high + unit, ""
        return self._said(both.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))

    def _said(self, text: str) -> str:
        if self._is_value:
            return text
        self._name.append(text)
        return ""
