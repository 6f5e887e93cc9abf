"""A FastAPI application with release health: `init` is all there is to it.

crashfree serve &                                       # prints the DSN
CRASHFREE_DSN=... python examples/fastapi_app.py 8000   # or: uvicorn fastapi_app:app

curl -H 'X-User: ada' localhost:8000/items/7            # a session that went well
curl -H 'X-User: bob' localhost:8000/basket             # one with an error that was handled
curl -H 'X-User: cid' localhost:8000/pay/0              # one that crashed
"""

from __future__ import annotations

import sys
from typing import Annotated

from fastapi import Depends, FastAPI, Header

import crashfree

crashfree.init(release="shop@1.0.0")


async def remember_user(x_user: Annotated[str | None, Header()] = None) -> None:
    if x_user:
        crashfree.set_user({"id": x_user})


app = FastAPI(dependencies=[Depends(remember_user)])


@app.get("/items/{item}")
async def show(item: int) -> dict[str, int]:
    return {"item": item}


@app.get("/basket")
def basket() -> dict[str, list[str]]:
    try:
        raise LookupError("the basket is lost")
    except LookupError as error:
        crashfree.capture_exception(error)
    return {"basket": []}


@app.get("/pay/{amount}")
def pay(amount: int) -> dict[str, float]:
    return {"share": 100 / amount}


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
