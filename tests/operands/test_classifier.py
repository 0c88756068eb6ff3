"""Classifiers and reward models: declarations, what their outputs mean, what they read, their memory."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from arith.errors import OperandError, PromptError
from arith.language.values import Type
from arith.operands import LLM, Classifier, RewardModel
from arith.operands.guide_operand import GuideOperand
from arith.operands.guide_prompts import frame, prompt_text
from arith.operands.loading import load_config
from arith.operands.memory import MemoryEstimate, estimate_guide
from arith.operands.sequence_models import load_sequence_model, output_index
from arith.operands.tokenizers import load_tokenizer
from tests.operands.packed_size import packed_size
from tests.sequence_models import save_bert_classifier, save_llama_reward

CPU = torch.device("cpu")
CHANGES: dict[str, Any] = {
    "model": "org/other",
    "template": "{prompt} {text}",
    "revision": "v2",
    "dtype": "bfloat16",
    "device_map": "auto",
}


@pytest.mark.parametrize("field", [*CHANGES, "label"])
def test_classifiers_are_equal_only_if_every_field_is(field: str) -> None:
    fields = {"model": "org/name", "label": "formal"}
    plain, changed = Classifier(**fields), Classifier(**(fields | {field: (CHANGES | {"label": 0})[field]}))
    assert plain != changed
    assert plain == Classifier(**fields) and hash(plain) == hash(Classifier(**fields))


@pytest.mark.parametrize("field", CHANGES)
def test_reward_models_are_equal_only_if_every_field_is(field: str) -> None:
    assert RewardModel("org/name") != RewardModel(**({"model": "org/name"} | {field: CHANGES[field]}))
    assert RewardModel("org/name") == RewardModel("org/name")


def test_guides_are_of_their_own_type_and_share_weights() -> None:
    operands: list[GuideOperand] = [
        Classifier("org/name", "a"),
        Classifier("org/name", 1, template="{prompt} {text}"),
        RewardModel("org/name"),
    ]
    assert {operand.kind for operand in operands} == {Type.CLASSIFIER}
    assert len({operand.weights for operand in operands}) == 1
    assert Classifier("org/name", "a", dtype=torch.bfloat16).weights.dtype == "bfloat16"


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (Classifier, {"model": 3}, "`model` must be text"),
        (Classifier, {"model": " "}, "`model` is empty"),
        (Classifier, {"model": "a/B.gguf"}, "GGUF files hold causal language models only"),
        (RewardModel, {"model": "package:a/b.GGUF"}, "GGUF files hold causal language models only"),
        (Classifier, {"label": True}, "`label` must be a name or an index, not True"),
        (Classifier, {"label": None}, "`label` must be a name or an index"),
        (Classifier, {"label": ""}, "`label` is empty"),
        (Classifier, {"template": "{prompt}"}, "has no {text}"),
        (Classifier, {"template": None}, "`template` must be text, not None"),
        (RewardModel, {"template": "{prompt}"}, "has no {text}"),
        (RewardModel, {"template": "raw"}, "has no {text}"),
        (RewardModel, {"template": 3}, "`template` must be text"),
        (RewardModel, {"dtype": "int8"}, "float32, bfloat16, float16, float64"),
        (RewardModel, {"revision": ""}, "`revision` is empty"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_the_name_of_its_field(
    kind: Any, fields: dict[str, Any], message: str
) -> None:
    label = {"label": "a"} if kind is Classifier else {}
    with pytest.raises(OperandError) as refusal:
        kind(**({"model": "org/name"} | label | fields))
    assert message in str(refusal.value)


def test_a_label_is_found_by_its_name_or_index(tiny_classifier: str) -> None:
    found = [output_index(Classifier(tiny_classifier, label)) for label in ("formal", "casual", "rude", 2)]
    assert found == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("polite", "has no label `polite`: its labels are formal, casual, rude"),
        ("Formal", "did you mean `formal`?"),
        (3, "numbered 0 to 2\nhint: they are formal, casual, rude"),
        (-1, "has no label -1"),
    ],
)
def test_a_label_that_the_model_lacks_is_refused_with_its_labels(
    tiny_classifier: str, label: str | int, message: str
) -> None:
    with pytest.raises(OperandError) as refusal:
        output_index(Classifier(tiny_classifier, label))
    assert message in str(refusal.value)


def test_outputs_have_to_be_what_the_operand_takes_them_for(
    tiny_classifier: str, tiny_reward: str, models_folder: Path
) -> None:
    assert output_index(RewardModel(tiny_reward)) == 0
    with pytest.raises(OperandError, match=r"has 3 outputs \(formal, casual, rude\), and a reward model has"):
        output_index(RewardModel(tiny_classifier))
    with pytest.raises(
        OperandError, match=r"has one output, which is no probability .*\nhint: .*RewardModel"
    ):
        output_index(Classifier(tiny_reward, 0))
    for name, outputs, problem in (("one", 1, "multi_label_classification"), ("several", 2, "regression")):
        folder = str(models_folder / f"outputs_{name}")
        save_bert_classifier(
            Path(folder),
            id2label={index: f"l{index}" for index in range(outputs)},
            problem_type=problem,
        )
    assert output_index(Classifier(str(models_folder / "outputs_one"), "l0")) == 0
    with pytest.raises(OperandError, match="has 2 outputs, which are no probability of a label"):
        output_index(Classifier(str(models_folder / "outputs_several"), "l0"))


def test_missing_models_and_other_kinds_of_models_are_refused(tiny_llama: str, tmp_path: Path) -> None:
    with pytest.raises(OperandError, match=r"no model folder at \./nowhere"):
        output_index(Classifier("./nowhere", 0))
    with pytest.raises(OperandError, match=r"isn't a model folder: it has no config\.json"):
        output_index(RewardModel(str(tmp_path)))
    with pytest.raises(
        OperandError, match=r"isn't a whole sequence classification model: .* lacks 1 .*score\.weight"
    ):
        load_sequence_model(Classifier(tiny_llama, 0).weights, CPU)


@pytest.mark.parametrize("fixture", ["tiny_classifier", "tiny_reward"])
def test_loaded_tensors_are_those_of_the_checkpoint(fixture: str, request: pytest.FixtureRequest) -> None:
    operand = Classifier(request.getfixturevalue(fixture), 0)
    model = load_sequence_model(operand.weights, CPU)
    saved = load_file(Path(operand.model) / "model.safetensors")
    state = model.state_dict()
    assert saved and all(torch.equal(state[name], saved[name]) for name in saved)
    assert not model.training and not any(one.requires_grad for one in model.parameters())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("fixture", ["tiny_classifier", "tiny_reward"])
def test_the_estimate_is_what_the_model_takes(
    fixture: str, dtype: str, request: pytest.FixtureRequest
) -> None:
    """The reward model caches keys and values of 2 layers, 2 heads of 8; a BERT caches nothing."""
    operand = RewardModel(request.getfixturevalue(fixture), dtype=dtype)
    model = load_sequence_model(operand.weights, CPU)
    size = packed_size(model)
    cached = 2 * 2 * 2 * 8 * model.dtype.itemsize if fixture == "tiny_reward" else 0
    assert estimate_guide(operand, CPU) == MemoryEstimate(size, cached, model.dtype)
    as_classifier = estimate_guide(Classifier(operand.model, 0, dtype=dtype), CPU)
    assert as_classifier == MemoryEstimate(size, 0, model.dtype)


def test_a_model_that_is_not_here_has_no_estimate(tiny_classifier: str, tmp_path: Path) -> None:
    assert estimate_guide(Classifier("nobody/nothing", 0)) is None
    shutil.copy(Path(tiny_classifier) / "config.json", tmp_path)
    with pytest.raises(OperandError, match="has no whole weights"):
        estimate_guide(Classifier(str(tmp_path), 0))


def read(operand: GuideOperand, prompt: Any, text: str) -> str:
    return frame(operand, load_tokenizer(operand), prompt, "line 3").around(text)


def test_a_template_replaces_fields_of_the_prompt_and_the_text_in_one_pass(tiny_classifier: str) -> None:
    prompt = {"prompt": "{text}", "topic": "{prompt}", "text": "not this"}
    operand = Classifier(tiny_classifier, 0, template="{topic}|{prompt}|{text}|{{text}} { text }")
    assert read(operand, prompt, "{topic}") == "{prompt}|{text}|{topic}|{{topic}} { text }"
    assert read(Classifier(tiny_classifier, 0), [{"role": "user", "content": "p"}] * 3, "t") == "t"


def test_a_reward_model_reads_the_text_as_an_unfinished_turn(tiny_reward: str) -> None:
    """What the tokenizer's own layout of a chat says whose last message goes on."""
    operand = RewardModel(tiny_reward)
    tokenizer = load_tokenizer(operand)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    for prompt in ("hi", [*turns, {"role": "user", "content": "hi"}]):
        before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        whole = [*before, {"role": "assistant", "content": "so be"}]
        expected = tokenizer.apply_chat_template(whole, tokenize=False, continue_final_message=True)
        assert read(operand, prompt, "so be") == expected
        assert read(operand, {"prompt": prompt}, " so be \n") == expected.replace("so be", " so be \n")
    assert read(operand, turns, " c").endswith("<|assistant|>b c")


def test_a_tokenizer_without_a_chat_template_asks_for_a_template(models_folder: Path) -> None:
    folder = save_llama_reward(models_folder / "no_chat", tokenizer={"chat_template": None})
    with pytest.raises(OperandError, match=r"has no chat template\nhint: .*\{prompt\} and \{text\}"):
        read(RewardModel(folder), "hi", "t")
    assert read(RewardModel(folder, template="{prompt}>{text}"), "hi", "t") == "hi>t"


def test_a_chat_template_that_refuses_says_why(tiny_reward: str) -> None:
    operand = RewardModel(tiny_reward)
    strict = copy.deepcopy(load_tokenizer(operand))
    strict.chat_template = "{{ raise_exception('one turn only') }}"
    with pytest.raises(PromptError, match=r"^line 3: the chat template of .* \(user\): one turn only\nhint"):
        frame(operand, strict, "hi", "line 3")


def test_the_text_of_a_prompt_is_that_of_its_one_message() -> None:
    message = {"role": "user", "content": "hi"}
    assert prompt_text("hi", "x") == prompt_text([message], "x") == prompt_text({"prompt": "hi"}, "x") == "hi"
    with pytest.raises(PromptError, match=r"^line 3: .*not for a chat of 2 messages"):
        prompt_text([message, message], "line 3")


def test_configurations_are_shared_with_causal_models_of_the_folder(tiny_reward: str) -> None:
    assert load_config(RewardModel(tiny_reward).weights) is load_config(LLM(tiny_reward).weights)
