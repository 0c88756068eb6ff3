"""Whole models without what their code does around the layers: which run so, and what they give."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPast

from arith.runtime.backbones.backbone import LaneRequest, make_backbone
from arith.runtime.backbones.quick_model import QuickModel
from arith.runtime.backbones.slots import SlotBackbone
from tests.runtime.plain import Plain, check, load, prompt
from tests.runtime.small_models import HEADS, SMALL, logits_of, plain_logits, save

MIXED = {
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "sliding_window": 6,
    "use_sliding_window": True,
}
KINDS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "plain": ("Llama", SMALL, True),
    "tied": ("Llama", SMALL | {"tie_word_embeddings": True}, True),
    "windows everywhere": ("Mistral", SMALL | {"sliding_window": 6}, True),
    "windows in some layers": ("Qwen2", SMALL | MIXED, True),
    "embeddings that scale": ("Gemma", SMALL | HEADS, True),
    "layers of its own": ("Phi3", SMALL, True),
    "angles for every second layer": ("SmolLM3", SMALL | {"no_rope_layer_interval": 2}, True),
    "scaled logits": ("Cohere", SMALL | {"logit_scale": 0.25}, False),
    "scaled embeddings": ("Granite", SMALL | {"embedding_multiplier": 2.0, "logits_scaling": 3.0}, False),
    "angles for each kind of layer": ("Gemma3Text", SMALL | HEADS | {"sliding_window": 6}, False),
    "experts": ("Mixtral", SMALL, False),
    "other names": ("GPTNeoX", {k: v for k, v in SMALL.items() if k != "num_key_value_heads"}, False),
}


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A model of that kind."""
    name, settings, _ = KINDS[request.param]
    return save(name, settings, tmp_path)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[QuickModel]:
    """The quick models that were run, one entry for each forward."""
    found: list[QuickModel] = []
    own = QuickModel.__call__

    def noted(self: QuickModel, *arguments: Any, **named: Any) -> Any:
        found.append(self)
        return own(self, *arguments, **named)

    monkeypatch.setattr(QuickModel, "__call__", noted)
    return found


@pytest.mark.parametrize(("folder", "kind"), [(kind, kind) for kind in KINDS], indirect=["folder"])
def test_every_forward_gives_the_logits_of_a_plain_one(
    folder: str, kind: str, runs: list[QuickModel]
) -> None:
    backbone = make_backbone(load(folder), [], 270)
    assert isinstance(backbone, SlotBackbone)
    runs.clear()
    for found, expected in zip(logits_of(backbone), plain_logits(Plain(folder)), strict=True):
        check(found, expected)
    assert len(runs) == (4 if KINDS[kind][2] else 0)  # both prompts, the step, and what is further


def test_other_arithmetic_under_the_same_names_is_left_alone(tiny_llama: str, runs: list[QuickModel]) -> None:
    """A decoder that normalises embeddings too, which no name tells."""

    def normed_twice() -> Any:
        model = load(tiny_llama)

        class NormedTwice(type(model.model)):  # type: ignore[misc]
            def forward(
                self,
                input_ids: Any,
                attention_mask: Any = None,
                position_ids: Any = None,
                past_key_values: Any = None,
                inputs_embeds: Any = None,
                **kwargs: Any,
            ) -> Any:
                states = self.norm(self.embed_tokens(input_ids))
                if position_ids is None:
                    position_ids = torch.arange(states.shape[1]).unsqueeze(0)
                kwargs["position_embeddings"] = self.rotary_emb(states, position_ids)
                for layer in self.layers:
                    states = layer(
                        states, attention_mask=attention_mask, past_key_values=past_key_values, **kwargs
                    )
                return BaseModelOutputWithPast(last_hidden_state=self.norm(states))

        model.model.__class__ = NormedTwice
        return model

    backbone, plain = make_backbone(normed_twice(), [], 270), Plain(tiny_llama)
    assert isinstance(backbone, SlotBackbone)
    plain.model = normed_twice()
    runs.clear()
    for found, expected in zip(logits_of(backbone), plain_logits(plain), strict=True):
        check(found, expected)
    assert not runs


def test_hooks_of_layers_see_each_forward(tiny_llama: str, runs: list[QuickModel]) -> None:
    """Early exits are such hooks, whose layers aren't called by themselves."""
    backbone = make_backbone(load(tiny_llama), [], 270, exits=[2])
    runs.clear()
    lanes, (logits,) = backbone.open([LaneRequest(None, prompt(9))])
    check(backbone.early_logits(lanes, 2)[0], logits)
    entered: list[tuple[int, ...]] = []
    layer = backbone.model.model.layers[0]
    handle = layer.register_forward_pre_hook(lambda _, given: entered.append(given[0].shape[:2]))
    backbone.step(lanes, [4])
    handle.remove()
    backbone.step(lanes, [5])
    assert entered == [(1, 1)]
    assert len(runs) == 3


def test_what_is_no_forward_over_slots_is_the_models_own(tiny_llama: str, runs: list[QuickModel]) -> None:
    backbone, plain = make_backbone(load(tiny_llama), [], 270), Plain(tiny_llama)
    model, own = backbone.model, type(plain.model)
    assert inspect.signature(model.forward) == inspect.signature(plain.model.forward)
    assert own.forward is type(load(tiny_llama)).forward  # other models keep theirs
    tokens = torch.tensor([prompt(9)])
    runs.clear()
    with torch.inference_mode():
        embedded = model(inputs_embeds=model.get_input_embeddings()(tokens), labels=tokens)
        last = model(tokens, logits_to_keep=1)
    assert embedded.loss.isfinite()
    check(embedded.logits[0], plain(prompt(9), 9))
    check(last.logits[0], plain(prompt(9)))
    assert not runs
