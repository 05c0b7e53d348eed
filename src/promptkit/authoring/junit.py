"""Test results as JUnit XML, which every CI understands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from promptkit.authoring.template_tests import TemplateTestOutcome, TemplateTestResult

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(results: Sequence[TemplateTestResult]) -> str:
    """Return a JUnit document: a suite per template, a case per test and tested text."""
    root = Element("testsuites")
    by_template = sorted(results, key=lambda result: result.template)
    for template, group in groupby(by_template, lambda result: result.template):
        _add_suite(SubElement(root, "testsuite"), template, list(group))
    indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _add_suite(suite: Element, template: str, results: Sequence[TemplateTestResult]) -> None:
    outcomes = [result.outcome for result in results]
    suite.attrib |= {
        "name": template,
        "tests": str(len(results)),
        "failures": str(outcomes.count(TemplateTestOutcome.FAIL)),
        "skipped": str(outcomes.count(TemplateTestOutcome.SKIPPED)),
        "time": f"{sum(result.seconds for result in results):.3f}",
    }
    for result in results:
        case = SubElement(
            suite,
            "testcase",
            classname=template,
            name=_xml_text(f"{result.name} ({result.tested})"),
            time=f"{result.seconds:.3f}",
        )
        if result.problems:
            text = _xml_text("\n".join(result.problems))
            SubElement(case, "failure", message=text.partition("\n")[0]).text = text
        elif result.skipped:
            SubElement(case, "skipped", message=_xml_text(result.note))


def _xml_text(text: str) -> str:
    """Replace the characters that XML can't contain."""
    return _NOT_XML.sub("\ufffd", text)
