"""Early exits of many architectures, against transformers' hidden states and each model's head by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from arith.errors import OperandError
from arith.operands import LLM
from arith.operands.loading import depth, load_config
from arith.runtime.backbones.backbone import LaneRequest, make_backbone
from arith.runtime.backbones.recompute import RecomputeBackbone
from arith.runtime.backbones.slots import SlotBackbone
from tests.runtime.plain import check, load, prompt

LAYERS = 3
SIZES: dict[str, Any] = {
    "vocab_size": 270, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "max_position_embeddings": 512, "initializer_range": 0.3, "pad_token_id": 261,
}  # fmt: skip


def norm_and_head(model: Any, states: Tensor) -> Tensor:
    logits: Tensor = model.lm_head(model.model.norm(states))
    return logits


# (configuration, its settings, what the model makes of the last hidden states written out by hand)
Lens = Callable[[Any, Tensor], Tensor]
MODELS: list[tuple[str, dict[str, Any], Lens]] = [
    ("LlamaConfig", {}, norm_and_head),
    ("Qwen2Config", {"num_key_value_heads": 2}, norm_and_head),
    (
        "Gemma2Config",
        {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8, "final_logit_softcapping": 3.0},
        lambda model, states: 3.0 * torch.tanh(norm_and_head(model, states) / 3.0),
    ),
    (
        "CohereConfig",
        {"logit_scale": 0.25, "bos_token_id": 256, "eos_token_id": 257},
        lambda model, states: 0.25 * norm_and_head(model, states),
    ),
    (
        "MixtralConfig",
        {"num_key_value_heads": 2, "num_local_experts": LAYERS, "num_experts_per_tok": 2},
        norm_and_head,
    ),
    (
        "GPTNeoXConfig",
        {},
        lambda model, states: model.lm_head(model.gpt_neox.final_layer_norm(states)),
    ),
    (
        "OPTConfig",
        {"ffn_dim": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
        lambda model, states: model.lm_head(model.model.decoder.project_out(states)),
    ),
    ("BloomConfig", {}, lambda model, states: model.lm_head(model.transformer.ln_f(states))),
]


@pytest.mark.parametrize(("kind", "settings", "lens"), MODELS, ids=[kind for kind, _, _ in MODELS])
@torch.inference_mode()
def test_exits_are_the_hidden_states_under_the_models_own_head(
    kind: str, settings: dict[str, Any], lens: Lens
) -> None:
    import transformers

    builder: Any = transformers.AutoModelForCausalLM
    config = getattr(transformers, kind)(**(SIZES | settings))
    assert depth(config) == LAYERS
    torch.manual_seed(0)
    model = builder.from_config(config, dtype=torch.float32).train(False)
    requests = [LaneRequest(None, prompt(length), keep) for length, keep in ((12, 5), (3, 1))]
    backbone = make_backbone(model, [], 270, exits=range(LAYERS + 1))
    lanes, logits = backbone.open(requests)

    def check_exits(tokens: list[int], keep: int, lane: int, own: Tensor) -> None:
        plain = model(input_ids=torch.tensor([tokens]), use_cache=False, output_hidden_states=True)
        check(own, plain.logits[0, -keep:])
        # The last entry of transformers' list has been through what follows the layers already.
        for exit in range(LAYERS):
            states = plain.hidden_states[exit][0, -keep:]
            check(lanes[lane].early[exit], states)
            check(backbone.early_logits(lanes, exit)[lane], lens(model, states))
        check(backbone.early_logits(lanes, LAYERS)[lane], own)

    for number, request in enumerate(requests):
        check_exits(list(request.tokens), request.keep, number, logits[number])
    stepped = backbone.step(lanes, [7, 8])
    for number, lane in enumerate(lanes):
        check_exits(lane.tokens, 1, number, stepped[number : number + 1])


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2", "tiny_mistral_sliding"])
def test_exits_of_models_on_disk_run_over_slots(model: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(model)
    backbone = make_backbone(load(path), [], 270, exits=[0, 1])
    assert isinstance(backbone, SlotBackbone)
    lanes, _ = backbone.open([LaneRequest(None, prompt(30), 30)])
    with torch.inference_mode():
        plain = load(path)(input_ids=torch.tensor([prompt(30)]), output_hidden_states=True).hidden_states
    for exit in (0, 1):
        check(lanes[0].early[exit], plain[exit][0])


def test_a_recurrent_model_has_exits_too(tiny_mamba: str) -> None:
    model = load(tiny_mamba)
    backbone = make_backbone(model, [], 270, exits=[0, 1, 2])
    assert isinstance(backbone, RecomputeBackbone)
    lanes, _ = backbone.open([LaneRequest(None, prompt(6), 2)])
    backbone.step(lanes, [9])
    with torch.inference_mode():
        embeddings = model.backbone.embeddings(torch.tensor(lanes[0].tokens[-1:]))
        check(lanes[0].early[0], embeddings)
        # Mamba's list starts after the first layer.
        plain = model(input_ids=torch.tensor([lanes[0].tokens]), output_hidden_states=True)
        check(lanes[0].early[1], plain.hidden_states[0][0, -1:])
        expected = model.lm_head(model.backbone.norm_f(plain.hidden_states[0][0, -1:]))
    check(backbone.early_logits(lanes, 1)[0], expected)
    check(backbone.early_logits(lanes, 2)[0], plain.logits[0, -1:])


def test_the_embeddings_are_those_of_the_tokens(tiny_llama: str) -> None:
    model = load(tiny_llama)
    backbone = make_backbone(model, [], 270, exits=[0])
    lanes, _ = backbone.open([LaneRequest(None, prompt(9), 9)])
    assert torch.equal(lanes[0].early[0], model.model.embed_tokens.weight[list(prompt(9))])


@pytest.mark.parametrize("exit", [3, 7, -1])
def test_an_exit_beyond_the_layers_is_refused_with_their_number(exit: int, tiny_llama: str) -> None:
    with pytest.raises(OperandError, match=rf"tiny_llama has 2 layers: .* layer {exit}") as caught:
        make_backbone(load(tiny_llama), [], 270, exits=[0, exit])
    assert "from 0 (the embeddings) to 2" in str(caught.value)


def test_a_model_that_goes_on_after_its_layers_is_refused_for_exits_only(tiny_llama: str) -> None:
    model = load(tiny_llama)
    decode = model.model.forward

    def doubled(*arguments: Any, **named: Any) -> Any:
        output = decode(*arguments, **named)
        output.last_hidden_state = output.last_hidden_state + model.model.embed_tokens.weight[3]
        return output

    model.model.forward = doubled
    make_backbone(model, [], 270)
    with pytest.raises(OperandError, match=r"hidden states between the layers of .*tiny_llama.* list of 2"):
        make_backbone(model, [], 270, exits=[1])
    assert model.model.forward is doubled, "what was put onto the model stays as it was"


def test_a_model_with_layers_of_another_shape_is_refused_for_exits() -> None:
    import transformers

    config_class: Any = transformers.XLNetConfig
    config = config_class(vocab_size=270, d_model=32, n_layer=2, n_head=4, d_inner=64)
    with pytest.raises(OperandError, match="hidden states between the layers of xlnet"):
        make_backbone(transformers.XLNetLMHeadModel(config).train(False), [], 270, exits=[1])


def test_the_depth_is_known_before_loading(
    tiny_llama: str, tiny_llama_other: str, tiny_gpt2: str, tiny_mamba: str
) -> None:
    folders = (tiny_llama, tiny_llama_other, tiny_gpt2, tiny_mamba)
    assert [depth(load_config(LLM(folder).weights)) for folder in folders] == [2, 3, 2, 2]


def test_a_configuration_without_layers_has_no_depth() -> None:
    import transformers

    with pytest.raises(OperandError, match="doesn't tell its number of layers"):
        depth(transformers.PretrainedConfig())
