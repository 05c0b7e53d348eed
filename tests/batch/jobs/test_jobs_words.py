"""Names, pins and digests of jobs: pure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from promptkit.batch.input import input_digest
from promptkit.batch.options import JobOptions, job_name, stored_params
from promptkit.batch.tables import Format
from promptkit.types import Params, Reasoning

_paths = st.none() | st.sampled_from([Path("/a/out.csv"), Path("/b/out.csv"), Path("/a/more.jsonl")])
_sources = st.sampled_from(["/a/rows.csv", "/b/rows.csv", "/a/other.csv", "-"])
_templates = st.sampled_from(["ugc/hooks", "ugc/script", "shop/hooks"])


@given(*[st.tuples(_templates, _sources, _paths)] * 2)
def test_a_name_stands_for_template_input_and_output(
    one: tuple[str, str, Path | None], other: tuple[str, str, Path | None]
) -> None:
    """The same command makes the same name, another template, input or output another one."""
    names = [job_name(None, *each, "2026-11-22") for each in (one, other)]
    assert (names[0] == names[1]) is (one == other)
    assert names[0].startswith(one[0].split("/")[1])


@given(st.text())
def test_a_name_as_said(said: str) -> None:
    """A name is taken as said; `{date}` alone stands for the budget day."""
    assert job_name(said, "a", "b", None, "2026-11-22") == said.replace("{date}", "2026-11-22")


_options = st.builds(
    JobOptions,
    mapping=st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y"])),
    constants=st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from([1, "1", 1.5, True])),
    tags=st.dictionaries(st.sampled_from(["client"]), st.sampled_from(["@x", "x"])),
    strict=st.booleans(),
    format=st.none() | st.sampled_from(Format),
)


@given(_options, _options)
def test_the_digest_of_an_input_tells_how_it_is_read(one: JobOptions, other: JobOptions) -> None:
    """The digest differs exactly where the options could make other rows of the same file."""

    def read(options: JobOptions) -> str:
        return repr(
            [sorted(each.items()) for each in (options.mapping, options.constants, options.tags)]
        ) + repr((options.strict, options.format))

    assert (input_digest("ab", one) == input_digest("ab", other)) is (read(one) == read(other))
    assert input_digest("ab", one) != input_digest("cd", one)
    assert input_digest("ab", one) == input_digest(
        "ab", replace(one, limit=3, concurrency=2, retry_failed=True)
    )
    assert input_digest(None, one) is None


def test_parameters_as_they_are_pinned() -> None:
    """Parameters are pinned as JSON; those that are not set are left out."""
    assert stored_params(Params()) == {}
    params = Params(60, Reasoning.LOW, temperature=0.5, stop=("x",))
    assert stored_params(params) == {
        "max_output_tokens": 60,
        "reasoning": "low",
        "temperature": 0.5,
        "stop": ["x"],
    }
