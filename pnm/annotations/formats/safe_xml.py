"""XML that may have been written by anybody: no entities of its own, and nothing from outside of the file."""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder, indent, tostring
from xml.parsers import expat

from pnm.errors import UserError

_DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'


class _DoctypeError(Exception):
    """There is a document type, the one place where entities are declared."""


def read_xml(path: Path, expected: str) -> Element:
    """The root of a file; errors name it and say that it should be ``expected``.

    Raises:
        FileNotFoundError, UserError: there is none, it is damaged, or it declares a document type.
    """
    try:
        return _parsed(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: expected {expected}") from None
    except _DoctypeError:
        raise UserError(f"{path} has a DOCTYPE, which is not read for safety: remove it; expected {expected}") from None
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise UserError(f"{path} is not XML ({error}): expected {expected}") from None
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): expected {expected}") from None


def _parsed(content: bytes) -> Element:
    builder = TreeBuilder()

    def refuse(*_: Any) -> None:
        raise _DoctypeError

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.Parse(content, True)
    return builder.close()


def xml_text(root: Element) -> str:
    """The text of a file, indented; ``root`` gets the spaces. Characters that XML can't have become question marks."""
    indent(root)
    text = tostring(root, encoding="unicode")
    return _DECLARATION + "".join(c if c in "\t\n\r" or c >= " " and not _is_strange(c) else "?" for c in text) + "\n"


def _is_strange(character: str) -> bool:
    return "\ud800" <= character <= "\udfff" or character in "\ufffe\uffff"
