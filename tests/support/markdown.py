"""Parses a document: fenced blocks, inline code, tables, headings, and links."""

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

_FENCE = re.compile(r"( *)(`{3,}|~{3,})(.*)")
_HEADING = re.compile(r"(#{1,6}) (.+)")
_CODE = re.compile(r"(`+)(.+?)\1")
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\]\([^)]*\))*\]\(([^)\s]+)\)|<[^>]+ (?:href|src|srcset)=\"([^\"]+)\"")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: What follows the fence.
        text: What is between the fences.
        line: The line of the document in which the text begins, from 1 on.
        lead: The last line in front of it that is not empty, without the colon at its end.
    """

    language: str
    text: str
    line: int
    lead: str


@dataclass
class Section:
    """The content below a heading, up to the next one.

    Attributes:
        title: The heading.
        level: 1 for the title of the document.
        blocks: The fenced blocks.
    """

    title: str
    level: int
    blocks: list[Block] = field(default_factory=list)

    @property
    def all(self) -> str:
        """The title and the text of all blocks."""
        return "\n".join([self.title, *(block.text for block in self.blocks)])


@dataclass(frozen=True)
class Table:
    """A table; the cells are as they are written."""

    header: list[str]
    rows: list[list[str]]


@dataclass
class Document:
    """A document.

    Attributes:
        path: The file.
        sections: The content below each heading, in order.
        text: The lines outside of fenced blocks with their numbers, from 1 on.
    """

    path: Path
    sections: list[Section] = field(default_factory=lambda: [Section("", 0)])
    text: list[tuple[int, str]] = field(default_factory=list)

    @property
    def blocks(self) -> list[Block]:
        """All fenced blocks."""
        return [block for section in self.sections for block in section.blocks]

    @cached_property
    def anchors(self) -> set[str]:
        """What links can point at, as GitHub names it."""
        anchors: set[str] = set()
        for section in self.sections[1:]:
            plain = anchor = re.sub(r"[^\w\- ]", "", section.title.lower()).replace(" ", "-")
            number = 0
            while anchor in anchors:
                number += 1
                anchor = f"{plain}-{number}"
            anchors.add(anchor)
        return anchors

    @cached_property
    def paragraphs(self) -> list[tuple[int, str]]:
        """The text in pieces that no code within it can cross, with the lines in which they begin."""
        paragraphs: list[tuple[int, str]] = []
        before = ""
        for line, text in self.text:
            if text and before and not text.lstrip().startswith(("|", "-", "#")):
                first, paragraph = paragraphs.pop()
                paragraphs.append((first, f"{paragraph} {text.strip()}"))
            elif text:
                paragraphs.append((line, text))
            before = text
        return paragraphs

    @property
    def code(self) -> list[tuple[int, str]]:
        """The code within the text, with the lines of its paragraphs."""
        return [(line, code) for line, text in self.paragraphs for code in codes(text)]

    @property
    def links(self) -> list[tuple[int, str]]:
        """Where links and pictures point, with the lines of their paragraphs."""
        return [
            (line, match[1] or match[2])
            for line, text in self.paragraphs
            for match in _LINK.finditer(_CODE.sub("", text))
        ]

    @property
    def tables(self) -> list[Table]:
        """The tables."""
        tables: list[Table] = []
        inside = False
        for _, text in self.text:
            if not text.startswith("|"):
                inside = False
                continue
            cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", text.strip("|"))]
            if not inside:
                tables.append(Table(cells, []))
            elif set("".join(cells)) - set("-: "):
                tables[-1].rows.append(cells)
            inside = True
        return tables


def codes(text: str) -> list[str]:
    """Return the code within a text."""
    return [match[2].strip() for match in _CODE.finditer(text)]


def read(path: Path) -> Document:
    """Parse a document.

    Raises:
        ValueError: If a block is not closed.
    """
    document = Document(path)
    lines = iter(enumerate(path.read_text(encoding="utf-8").splitlines(), start=1))
    lead = ""
    for line, text in lines:
        if fence := _FENCE.fullmatch(text):
            inside: list[str] = []
            for _, content in lines:
                if content.strip() == fence[2]:
                    break
                inside.append(content.removeprefix(fence[1]))
            else:
                raise ValueError(f"{path.name}:{line} | the block is not closed")
            block = Block(fence[3].strip(), "\n".join(inside) + "\n", line + 1, lead.rstrip(":"))
            document.sections[-1].blocks.append(block)
        else:
            if heading := _HEADING.fullmatch(text):
                document.sections.append(Section(heading[2], len(heading[1])))
            document.text.append((line, text))
            lead = text or lead
    return document
