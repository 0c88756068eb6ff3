"""The keys of a recipe's `adapter`."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]


class AdapterKeys(BaseModel):
    """A LoRA adapter (Hu et al. 2021, arXiv 2106.09685), made by peft."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    r: Annotated[int, Field(ge=1, description="rank")] = 8
    alpha: Annotated[float, Field(gt=0, description="scale: the adapter's part counts alpha/r")] = 16
    dropout: Annotated[float, Field(ge=0, lt=1, description="of the adapter's input")] = 0.0
    targets: Annotated[
        list[Text] | None,
        Field(min_length=1, description="names of modules, such as q_proj; null takes every linear layer"),
    ] = None
    dora: Annotated[bool, Field(description="weight-decomposed (Liu et al. 2024, arXiv 2402.09353)")] = False
