"""The keys of `data`, and what pydantic finds wrong in them."""

import pytest
from pydantic import ValidationError

from trainers.data.keys import DATA_SET, FRACTION, DataKeys, DataSet


def keys(**changes: object) -> DataKeys:
    return DataKeys.model_validate({"source": "hh", "train": "a.jsonl", **changes})


def test_text_stands_for_the_path_alone() -> None:
    assert keys().train == DataSet(path="a.jsonl")
    assert keys(train={"path": "org/set", "split": "train_prefs"}).train.split == "train_prefs"
    assert keys(validation="b.jsonl").validation == DataSet(path="b.jsonl")
    assert keys(validation={"path": "org/set"}).validation == DataSet(path="org/set")


@pytest.mark.parametrize("validation", [None, 0.05, 0.5])
def test_validation_may_be_a_fraction_or_nothing(validation: float | None) -> None:
    assert keys(validation=validation).validation == validation
    assert keys().validation is None


@pytest.mark.parametrize(
    ("changes", "location", "kind"),
    [
        ({"source": "hhh"}, ("source",), "literal_error"),
        ({"train": None}, ("train",), "model_type"),
        ({"train": ""}, ("train", "path"), "string_too_short"),
        ({"train": {"split": "train"}}, ("train", "path"), "missing"),
        ({"train": {"path": "a", "splt": "x"}}, ("train", "splt"), "extra_forbidden"),
        ({"trian": "a"}, ("trian",), "extra_forbidden"),
        ({"validation": 0}, ("validation", FRACTION), "greater_than"),
        ({"validation": 1}, ("validation", FRACTION), "less_than"),
        ({"validation": float("nan")}, ("validation", FRACTION), "finite_number"),
        ({"validation": True}, ("validation", FRACTION), "float_type"),
        ({"validation": ["a"]}, ("validation", DATA_SET), "model_type"),
        ({"validation": {"path": 3}}, ("validation", DATA_SET, "path"), "string_type"),
        ({"columns": {"prompt": 3}}, ("columns", "prompt"), "string_type"),
        ({"max_length": 1}, ("max_length",), "greater_than_equal"),
        ({"max_length": 1.5}, ("max_length",), "int_type"),
        ({"max_prompt_length": 0}, ("max_prompt_length",), "greater_than_equal"),
        ({"max_prompt_length": True}, ("max_prompt_length",), "int_type"),
    ],
)
def test_a_wrong_key_is_found_where_it_stands(
    changes: dict[str, object], location: tuple[str, ...], kind: str
) -> None:
    with pytest.raises(ValidationError) as invalid:
        keys(**changes)
    assert [(error["loc"], error["type"]) for error in invalid.value.errors()] == [(location, kind)]


def test_every_key_has_a_description() -> None:
    for model in (DataKeys, DataSet):
        assert all(field.description for field in model.model_fields.values())
