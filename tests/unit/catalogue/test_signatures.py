"""What a method's signature takes along when its service is sent to another process."""

from __future__ import annotations

import pickle
from decimal import Decimal

from fusion_cluster.catalogue.signature import Signature


async def price(self: object, product: int, currency: str = "EUR") -> Decimal: ...  # type: ignore[empty-body]


def test_a_signature_that_was_used_can_be_pickled_and_says_the_same() -> None:
    signature = Signature(price, "Products.price")
    arguments = signature.bind((1,), {})
    assert signature.codec.encode(arguments)
    assert signature.result_type is Decimal
    copy = pickle.loads(pickle.dumps(signature))
    assert copy.name == "Products.price"
    assert copy.bind((1,), {"currency": "EUR"}) == arguments
    assert copy.codec.encode(arguments) == signature.codec.encode(arguments)
