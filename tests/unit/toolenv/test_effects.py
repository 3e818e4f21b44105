"""Side effects: corrections by the operator, and inverse calls in documents."""

import json
from pathlib import Path

import pytest

from services.contracts.apis import ApiRef, SideEffect
from services.contracts.errors import FailedPrecondition, InvalidArgument
from services.toolenv.catalog import load_catalogue
from services.toolenv.documents import ToolDocument, parse_document
from services.toolenv.effects import EffectBook
from services.toolenv.exports import toolbench_documents
from services.toolenv.pins import Pins, descriptors
from services.toolenv.registry import load_pinned

CREATE = ApiRef(category="Shop", tool="orders", api="create")
CANCEL = ApiRef(category="Shop", tool="orders", api="cancel")


def parsed(inverse: object, *, cancel: str = "cancel") -> ToolDocument:
    apis = [
        {"name": "create", "method": "POST", "x-toolwright": {"inverse": inverse}},
        {"name": cancel, "method": "DELETE"},
    ]
    content = json.dumps({"tool_name": "Orders", "api_list": apis}).encode()
    return parse_document(
        content, file="Shop/orders.json", category_name="Shop", ref_category="Shop", tool="orders"
    )


def tools(root: Path, *, inverse: bool = False) -> Path:
    path = root / "Shop" / "orders.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    create: dict[str, object] = {"name": "create", "method": "POST"}
    if inverse:
        create["x-toolwright"] = {"inverse": {"api": "cancel", "arguments": {"id": "$response.id"}}}
    apis = [create, {"name": "cancel", "method": "DELETE"}, {"name": "status"}]
    path.write_text(json.dumps({"tool_name": "Orders", "api_list": apis}), encoding="utf-8")
    return root


def effects_of(root: Path, book: EffectBook) -> dict[str, SideEffect]:
    found = load_pinned(trusted_roots=(root,), roots=(), pins=None, effects=book).catalogue
    return {document.ref.api: document.side_effect for document in found.documents()}


@pytest.fixture
def book(tmp_path: Path) -> EffectBook:
    return EffectBook(tmp_path / "home")


def test_the_method_decides_until_somebody_corrects_it(tmp_path: Path, book: EffectBook) -> None:
    assert effects_of(tools(tmp_path / "tools"), book) == {
        "create": SideEffect.WRITE,
        "cancel": SideEffect.IDEMPOTENT,
        "status": SideEffect.READ,
    }


def test_a_correction_holds_for_an_api_or_a_whole_tool_and_the_apis_own_wins(
    tmp_path: Path, book: EffectBook
) -> None:
    book.correct("Shop/orders", SideEffect.READ)
    book.correct("Shop/orders/cancel", SideEffect.IRREVERSIBLE)
    assert effects_of(tools(tmp_path / "tools"), book) == {
        "create": SideEffect.READ,
        "cancel": SideEffect.IRREVERSIBLE,
        "status": SideEffect.READ,
    }


def test_a_correction_is_taken_back(tmp_path: Path, book: EffectBook) -> None:
    book.correct("Shop/orders/create", SideEffect.READ)
    book.correct("Shop/orders/create", None)
    assert effects_of(tools(tmp_path / "tools"), book)["create"] is SideEffect.WRITE
    assert book.read() == {}


def test_a_correction_that_fits_nothing_is_named(tmp_path: Path, book: EffectBook) -> None:
    book.correct("Shop/orders/crate", SideEffect.READ)
    root = tools(tmp_path / "tools")
    found = load_pinned(trusted_roots=(root,), roots=(), pins=None, effects=book).catalogue
    assert [refusal.field for refusal in found.refusals] == ["Shop/orders/crate"]


def test_a_correction_does_not_make_a_tool_another_one(tmp_path: Path, book: EffectBook) -> None:
    root, pins = tools(tmp_path / "tools"), Pins(tmp_path / "pins")
    load_pinned(trusted_roots=(), roots=(root,), pins=pins, effects=book)
    book.correct("Shop/orders", SideEffect.READ)
    again = load_pinned(trusted_roots=(), roots=(root,), pins=pins, effects=book)
    assert again.quarantined == {}


@pytest.mark.parametrize("address", ["orders", "Shop/orders/create/now", "Shop//create"])
def test_what_is_no_address_is_refused(address: str, book: EffectBook) -> None:
    with pytest.raises(InvalidArgument, match="category/tool"):
        book.correct(address, SideEffect.READ)


@pytest.mark.parametrize("content", ["{", '{"Shop/orders": "harmless"}', "[]"])
def test_a_file_that_says_nothing_clear_is_refused(content: str, book: EffectBook) -> None:
    book.path.parent.mkdir(parents=True)
    book.path.write_text(content, encoding="utf-8")
    with pytest.raises(FailedPrecondition, match=r"effects\.json"):
        book.read()


@pytest.mark.parametrize("api", ["cancel", "Cancel", "Shop/orders/cancel"])
def test_an_inverse_call_is_named_as_people_do_and_kept_as_models_do(api: str) -> None:
    (create, _) = parsed({"api": api, "arguments": {"id": "$response.id"}}).apis
    assert create.inverse is not None
    assert (create.inverse.api, create.inverse.arguments) == (CANCEL, {"is_id": "$response.id"})


@pytest.mark.parametrize("api", ["Bank/bank/transfer", "other/cancel", "!"])
def test_an_inverse_call_into_another_tool_is_refused_with_its_api(api: str) -> None:
    found = parsed({"api": api})
    assert [document.ref for document in found.apis] == [CANCEL]
    assert found.refusals[0].field.endswith("inverse.api")


def test_an_inverse_call_that_leads_nowhere_is_named_and_not_offered() -> None:
    found = parsed({"api": "cancel"}, cancel="revoke")
    assert found.apis[0].inverse is None
    assert "'cancel'" in found.refusals[0].reason


def test_an_inverse_call_survives_an_export(tmp_path: Path) -> None:
    entries = load_catalogue([tools(tmp_path, inverse=True)]).entries()
    (content,) = toolbench_documents(entries).values()
    again = parse_document(
        json.dumps(content).encode(),
        file="Shop/orders.json",
        category_name="Shop",
        ref_category="Shop",
        tool="orders",
    )
    before = {entry.document.ref: entry.document.inverse for entry in entries}
    assert {document.ref: document.inverse for document in again.apis} == before
    assert before[CREATE] is not None


def test_pins_are_about_inverse_calls_and_older_ones_stand(tmp_path: Path) -> None:
    plain = load_catalogue([tools(tmp_path / "a")]).entries()
    undoing = load_catalogue([tools(tmp_path / "b", inverse=True)]).entries()
    (before,), (after,) = descriptors(plain).values(), descriptors(undoing).values()
    assert before.sha256 != after.sha256
    assert "inverse" not in before.text
