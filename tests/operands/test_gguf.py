"""GGUF conversion: exact, once, and never half done. The file is written here with the `gguf` library."""

import json
import threading
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, quants
from safetensors.torch import load_file
from transformers import LlamaConfig

from arith.errors import OperandError
from arith.operands import LLM
from arith.operands import gguf as conversion
from arith.operands.adapters import attach
from arith.operands.gguf import conversion_target, converted_folder
from arith.operands.loading import end_ids, load_model
from arith.operands.precision import default_dtype
from arith.operands.prompts import render
from arith.operands.source import is_unconverted
from arith.operands.tokenizers import load_tokenizer

HEADS, KEY_HEADS, HEAD_SIZE, WIDTH, INNER, LAYERS = 4, 2, 8, 32, 64, 2
TYPES = {
    "attn": GGMLQuantizationType.Q4_1,
    "ffn": GGMLQuantizationType.Q8_0,
    "output": GGMLQuantizationType.Q4_0,
}


def shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    tensors: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocabulary, WIDTH),
        "output.weight": (vocabulary, WIDTH),
    }
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        tensors |= {f"{block}.attn_norm.weight": (WIDTH,), f"{block}.ffn_norm.weight": (WIDTH,)}
        tensors |= {f"{block}.attn_q.weight": (WIDTH, WIDTH), f"{block}.attn_output.weight": (WIDTH, WIDTH)}
        tensors |= {f"{block}.attn_{kind}.weight": (KEY_HEADS * HEAD_SIZE, WIDTH) for kind in "kv"}
        tensors |= {f"{block}.ffn_{kind}.weight": (INNER, WIDTH) for kind in ("gate", "up")}
        tensors |= {f"{block}.ffn_down.weight": (WIDTH, INNER)}
    return tensors | {"output_norm.weight": (WIDTH,)}


@pytest.fixture(scope="module")
def dequantised(
    tiny_llama: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, np.ndarray]]:
    """A tiny Llama as a GGUF file, and its tensors as the `gguf` library dequantises them."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.Q4_1.gguf"
    tokenizer = json.loads((Path(tiny_llama) / "tokenizer.json").read_text())
    vocabulary = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    special = {token["content"] for token in tokenizer["added_tokens"]}
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in vocabulary]
    )
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    writer.add_pad_token_id(261)
    writer.add_add_bos_token(False)
    writer.add_chat_template((Path(tiny_llama) / "chat_template.jinja").read_text())
    random = np.random.default_rng(0)
    expected = {}
    for name, shape in shapes(len(vocabulary)).items():
        values = random.normal(size=shape).astype(np.float32)
        kind = next((kind for part, kind in TYPES.items() if part in name), GGMLQuantizationType.F32)
        if len(shape) == 1 or name == "token_embd.weight":
            kind = GGMLQuantizationType.F32
        packed = quants.quantize(values, kind)
        expected[name] = quants.dequantize(packed, kind).reshape(shape)
        writer.add_tensor(name, packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, expected


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def gguf_file(dequantised: tuple[Path, dict[str, np.ndarray]]) -> Path:
    return dequantised[0]


def interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a rotary projection from GGUF's order (pairs side by side) to transformers' (halves)."""
    half = HEAD_SIZE // 2
    order = [
        head * HEAD_SIZE + 2 * i + side for head in range(heads) for side in range(2) for i in range(half)
    ]
    return rows[order]


def test_the_converted_tensors_are_exactly_the_dequantised_ones(
    dequantised: tuple[Path, dict[str, np.ndarray]], capfd: pytest.CaptureFixture[str]
) -> None:
    path, expected = dequantised
    capfd.readouterr()
    folder = converted_folder(path)
    assert capfd.readouterr() == ("", "")
    converted = load_file(folder / "model.safetensors")
    names = {
        "model.embed_tokens.weight": expected["token_embd.weight"],
        "lm_head.weight": expected["output.weight"],
        "model.norm.weight": expected["output_norm.weight"],
    }
    for layer in range(LAYERS):
        ours, theirs = f"model.layers.{layer}", f"blk.{layer}"
        names |= {
            f"{ours}.mlp.{kind}_proj.weight": expected[f"{theirs}.ffn_{kind}.weight"]
            for kind in ("gate", "up", "down")
        }
        names[f"{ours}.input_layernorm.weight"] = expected[f"{theirs}.attn_norm.weight"]
        names[f"{ours}.post_attention_layernorm.weight"] = expected[f"{theirs}.ffn_norm.weight"]
        names[f"{ours}.self_attn.o_proj.weight"] = expected[f"{theirs}.attn_output.weight"]
        names[f"{ours}.self_attn.v_proj.weight"] = expected[f"{theirs}.attn_v.weight"]
        names[f"{ours}.self_attn.q_proj.weight"] = interleaved(expected[f"{theirs}.attn_q.weight"], HEADS)
        names[f"{ours}.self_attn.k_proj.weight"] = interleaved(expected[f"{theirs}.attn_k.weight"], KEY_HEADS)
    assert converted.keys() == names.keys()
    for name, values in names.items():
        assert converted[name].dtype == torch.float32
        assert torch.equal(converted[name], torch.from_numpy(np.ascontiguousarray(values))), name


def test_a_gguf_operand_is_whole(gguf_file: Path, tiny_llama: str) -> None:
    """Configuration, tokenizer, chat template and end ids survive; the file says it adds no BOS. Nothing is
    rounded before a dtype is chosen."""
    from transformers import AutoTokenizer

    operand = LLM(str(gguf_file))
    model = load_model(operand.weights, torch.device("cpu"))
    assert model.dtype == default_dtype(LlamaConfig(dtype=torch.bfloat16), torch.device("cpu"))
    exact = load_model(LLM(str(gguf_file), dtype="float32").weights, torch.device("cpu"))
    weights = [weight for weight in exact.parameters() if weight.dim() == 2]
    assert any((weight.bfloat16().float() != weight).any() for weight in weights)
    assert not hasattr(model.config, "quantization_config")
    assert end_ids(operand) == {257}
    tokenizer, original = load_tokenizer(operand), load_tokenizer(LLM(tiny_llama))
    direct = AutoTokenizer.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    assert tokenizer.get_vocab() == direct.get_vocab()
    assert tokenizer.get_vocab().items() >= original.get_vocab().items()
    assert tokenizer.special_tokens_map == direct.special_tokens_map
    assert tokenizer.chat_template == original.chat_template
    assert set(tokenizer.all_special_ids) >= {256, 257, 261}
    for text in ("the <|user|>in\n", " <s>é  x</s>", "2 + 2\t😀"):
        assert tokenizer(text)["input_ids"] == original(text, add_special_tokens=False)["input_ids"]
    assert render(operand, tokenizer, "hi") == render(LLM(tiny_llama), original, "hi")


def test_a_second_start_finds_the_conversion(gguf_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = converted_folder(gguf_file)

    def convert_again(path: Path, folder: Path) -> None:
        raise AssertionError("converted twice")

    monkeypatch.setattr(conversion, "_write", convert_again)
    assert converted_folder(gguf_file) == folder


@pytest.mark.parametrize("harm", ["cut", "overwritten", "deleted", "manifest"])
def test_a_damaged_conversion_is_made_anew(gguf_file: Path, harm: str) -> None:
    folder = converted_folder(gguf_file)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    if harm == "cut":
        weights.write_bytes(whole[:-1])
    elif harm == "overwritten":
        weights.write_bytes(bytes(len(whole)))
    elif harm == "deleted":
        weights.unlink()
    else:
        (folder / conversion.MANIFEST).unlink()
    assert is_unconverted(str(gguf_file))
    assert converted_folder(gguf_file) == folder and weights.read_bytes() == whole
    assert not is_unconverted(str(gguf_file))


def test_an_adapter_that_does_not_fit_names_the_file_and_not_the_cache(
    gguf_file: Path, own_cache: Path, lora_other_architecture: str
) -> None:
    with pytest.raises(OperandError) as refusal:
        attach(load_model(LLM(str(gguf_file)).weights, torch.device("cpu")), [lora_other_architecture])
    assert f"doesn't fit {gguf_file} (llama)" in str(refusal.value) and str(own_cache) not in str(
        refusal.value
    )


def test_a_changed_file_is_another_conversion(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    targets = set()
    for content in (b"1", b"22"):
        path.write_bytes(content)
        targets.add(conversion_target(path))
    assert len(targets) == 2
    assert all(target.name.startswith("model-") for target in targets)


def test_an_interrupted_conversion_leaves_nothing_trusted(
    gguf_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = conversion_target(gguf_file)

    def interrupted(path: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(conversion, "_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            converted_folder(gguf_file)
    assert not list(target.parent.glob(f"{target.name}*/config.json"))
    # What a killed process leaves behind is cleared away by the next one.
    killed = target.with_name(f"{target.name}.part-killed")
    killed.mkdir()
    (killed / "model.safetensors").write_bytes(b"half")
    assert (converted_folder(gguf_file) / "model.safetensors").stat().st_size > 4
    assert not killed.exists()


def test_two_at_once_convert_once(gguf_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def slow(path: Path, folder: Path) -> None:
        written.append(folder)
        time.sleep(0.2)
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(conversion, "_write", slow)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(converted_folder(gguf_file))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
    assert len(found) == 3
    assert (found[0] / "config.json").is_file()


def test_what_is_no_gguf_is_one_clear_error(tmp_path: Path, own_cache: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"not a gguf at all")
    with pytest.raises(OperandError, match=r"can't read the contents of .*broken\.gguf: "):
        converted_folder(path)
    assert not any(entry.is_dir() for entry in (own_cache / "arith" / "gguf").iterdir())


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, gguf_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OperandError, match=r"can't keep the converted .*\nhint: .*XDG_CACHE_HOME"):
        converted_folder(gguf_file)
