"""The operators of the language; importing this package fills the registry."""

from arith.language.operators import (
    anchor as anchor,
)
from arith.language.operators import (
    combine as combine,
)
from arith.language.operators import (
    elementwise as elementwise,
)
from arith.language.operators import (
    given as given,
)
from arith.language.operators import (
    probability as probability,
)
from arith.language.operators import (
    reduce as reduce,
)
from arith.language.operators import (
    schedule as schedule,
)
from arith.language.operators import (
    shape as shape,
)
from arith.language.operators import (
    support as support,
)
from arith.language.operators import (
    vocabulary as vocabulary,
)
from arith.language.registry import REGISTRY as REGISTRY
from arith.language.registry import Operator as Operator
