"""How a row is sampled: the generation options, under transformers' names."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from arith.errors import OptionError
from grammar.errors import nearest


class Sampling(BaseModel):
    """The generation options of one call. Everything that reshapes the distribution is off by default."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    max_new_tokens: Annotated[int, Field(ge=1, description="tokens to write at most")] = 128
    do_sample: Annotated[bool, Field(description="draw tokens; false takes the most likely one")] = True
    temperature: Annotated[float, Field(ge=0, description="divides the log-weights; 0 is greedy")] = 1.0
    top_k: Annotated[int, Field(ge=0, description="keep the k most likely tokens; 0 is off")] = 0
    top_p: Annotated[
        float, Field(gt=0, le=1, description="keep the smallest set of this probability; 1 is off")
    ] = 1.0
    min_p: Annotated[
        float, Field(ge=0, le=1, description="drop tokens below this share of the most likely; 0 is off")
    ] = 0.0
    repetition_penalty: Annotated[
        float, Field(gt=0, description="penalty on tokens already present; 1 is off")
    ] = 1.0
    stop_strings: Annotated[
        tuple[str, ...], Field(strict=False, description="end a row when its text contains one of these")
    ] = ()
    num_return_sequences: Annotated[int, Field(ge=1, description="samples for each prompt")] = 1
    seed: Annotated[int, Field(ge=0, lt=2**63, description="fixes every row's random numbers")] = 0

    @property
    def greedy(self) -> bool:
        """Whether rows take the most likely token (transformers' two ways of saying so)."""
        return not self.do_sample or self.temperature == 0

    @classmethod
    def of(cls, options: dict[str, object]) -> "Sampling":
        """The options given as keywords, checked. Raises `OptionError` naming the option at fault."""
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else "sampling"
            if first["type"] == "extra_forbidden":
                close = nearest(name, cls.model_fields)
                hint = (
                    f"did you mean `{close}`?" if close else f"the options are {', '.join(cls.model_fields)}"
                )
                raise OptionError(f"unknown sampling option `{name}`", hint) from None
            raise OptionError(
                f"sampling option `{name}` = {first['input']!r}: {first['msg'].lower()}"
            ) from None
