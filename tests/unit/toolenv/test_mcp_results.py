import mcp_types as types
import pytest

from services.toolenv.mcp_servers.results import error_of, value_of


def result(*blocks: types.ContentBlock, **more: object) -> types.CallToolResult:
    return types.CallToolResult(content=list(blocks), **more)  # type: ignore[arg-type]


def text(words: str) -> types.TextContent:
    return types.TextContent(text=words)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("plain", "plain"),
        ('{"a": [1]}', {"a": [1]}),
        (' ["b"]', ["b"]),
        ("{broken", "{broken"),
        ("[NaN]", "[NaN]"),
        ("[" * 100_000, "[" * 100_000),
        ("12", "12"),
    ],
)
def test_a_single_text_is_the_value_parsed_where_it_is_an_object_or_array(
    words: str, value: object
) -> None:
    assert value_of(result(text(words))) == value


def test_structured_content_goes_before_its_printed_copy() -> None:
    assert value_of(result(text('{"a": 1}'), structured_content={"a": 1})) == {"a": 1}


def test_binary_content_is_described_and_not_dumped() -> None:
    image = types.ImageContent(data="AAAA" * 1000, mime_type="image/png")
    sound = types.AudioContent(data="AAA=", mime_type="audio/wav")
    assert value_of(result(text("see"), image, sound)) == [
        "see",
        {"type": "image", "media_type": "image/png", "bytes": 3000},
        {"type": "audio", "media_type": "audio/wav", "bytes": 2},
    ]


def test_structured_content_keeps_what_is_not_text_beside_it() -> None:
    image = types.ImageContent(data="AAAA", mime_type="image/png")
    value = value_of(result(text("{}"), image, structured_content={"a": 1}))
    assert value == {
        "structured": {"a": 1},
        "content": [{"type": "image", "media_type": "image/png", "bytes": 3}],
    }


def test_resources_are_given_as_text_or_described() -> None:
    link = types.ResourceLink(name="report", uri="file:///r.pdf", mime_type="application/pdf")
    inner = types.TextResourceContents(uri="file:///a.txt", mime_type="text/plain", text="A")
    blob = types.BlobResourceContents(uri="file:///b.bin", blob="AAAA")
    value = value_of(
        result(
            link,
            types.EmbeddedResource(resource=inner),
            types.EmbeddedResource(resource=blob),
        )
    )
    assert value == [
        {
            "type": "resource_link",
            "uri": "file:///r.pdf",
            "name": "report",
            "media_type": "application/pdf",
        },
        {"type": "resource", "uri": "file:///a.txt", "media_type": "text/plain", "text": "A"},
        {"type": "resource", "uri": "file:///b.bin", "media_type": None, "bytes": 3},
    ]


def test_an_error_without_words_says_so() -> None:
    assert error_of(result(text("no such city"), is_error=True)) == "no such city"
    assert "without saying why" in error_of(result(is_error=True))
