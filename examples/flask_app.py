"""A Flask application with release health: `init` is all there is to it.

crashfree serve &                                       # prints the DSN
CRASHFREE_DSN=... python examples/flask_app.py 8000     # or: waitress-serve flask_app:app

curl -H 'X-User: ada' localhost:8000/items/7            # a session that went well
curl -H 'X-User: bob' localhost:8000/basket             # one with an error that was handled
curl -H 'X-User: cid' localhost:8000/pay/0              # one that crashed
"""

from __future__ import annotations

import sys

from flask import Flask, request

import crashfree

crashfree.init(release="shop@1.0.0")

app = Flask(__name__)


@app.before_request
def remember_user() -> None:
    user = request.headers.get("X-User")
    if user:
        crashfree.set_user({"id": user})


@app.get("/items/<int:item>")
def show(item: int) -> dict[str, int]:
    return {"item": item}


@app.get("/basket")
def basket() -> dict[str, list[str]]:
    try:
        raise LookupError("the basket is lost")
    except LookupError as error:
        crashfree.capture_exception(error)
    return {"basket": []}


@app.get("/pay/<int:amount>")
def pay(amount: int) -> dict[str, float]:
    return {"share": 100 / amount}


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)
