"""Results as JUnit XML, which every CI shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from .test_prompts import Result, Verdict

_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(results: Sequence[Result]) -> str:
    """A JUnit document: a suite for each template, a case for each test and stage."""
    root = Element("testsuites")
    for template, group in groupby(sorted(results, key=lambda one: one.template), lambda one: one.template):
        _suite(SubElement(root, "testsuite"), template, list(group))
    indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _suite(suite: Element, template: str, results: Sequence[Result]) -> None:
    counts = {verdict: sum(one.verdict is verdict for one in results) for verdict in Verdict}
    suite.attrib |= {
        "name": template,
        "tests": str(len(results)),
        "failures": str(counts[Verdict.FAIL]),
        "skipped": str(counts[Verdict.SKIPPED]),
        "time": f"{sum(one.seconds for one in results):.3f}",
    }
    for result in results:
        case = SubElement(
            suite,
            "testcase",
            classname=template,
            name=_safe(f"{result.name} ({result.stage})"),
            time=f"{result.seconds:.3f}",
        )
        if result.problems:
            told = _safe("\n".join(result.problems))
            SubElement(case, "failure", message=told.partition("\n")[0]).text = told
        elif result.verdict is Verdict.SKIPPED:
            SubElement(case, "skipped", message=_safe(result.note))


def _safe(text: str) -> str:
    """Text without what XML can't hold."""
    return _NOT_XML.sub("\ufffd", text)
