"""What tests of the HTTP API send, and as whom."""

import io

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from guardrail.desk.web.app import build_app

BASE = "http://127.0.0.1:8787"
SEEDS = {"fox": 1, "owl": 2, "sky": 3, "elk": 4}  # of the works of the world


def drawing(seed, side=96):
    """A picture with enough in it to hash; with a work's seed, that work."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def near(work="fox", other=9):
    """A picture that is flagged as near a work."""
    mixed = 0.6 * np.asarray(drawing(SEEDS[work]), float) + 0.4 * np.asarray(drawing(other), float)
    return Image.fromarray(mixed.round().astype(np.uint8))


def png(image):
    kept = io.BytesIO()
    image.save(kept, "PNG")
    return kept.getvalue()


def files(**pictures):
    """Parts of a form, by name: a picture, or bytes that are none."""
    return [
        ("image", (f"{name}.png", png(one) if isinstance(one, Image.Image) else one)) for name, one in pictures.items()
    ]


def token_client(app, secret):
    client = TestClient(app, base_url=BASE, raise_server_exceptions=False)
    client.headers["Authorization"] = f"Bearer {secret}"
    return client


def client_of(desk, *scopes, organisation="default", role="admin"):
    """A client of a desk with a token of somebody new."""
    email = f"{role}-{len(desk.memory.accounts.names(organisation))}@{organisation}.org"
    person = desk.memory.accounts.open_account(organisation, email, role.title(), role)
    secret = desk.memory.accounts.tokens.make(person.actor, "tests", scopes or ("check",), 30)
    client = token_client(build_app(desk, workers=False), secret)
    client.actor = person.actor
    return client


def client_again(client):
    """Another client with the same token."""
    return token_client(client.app, client.headers["Authorization"].removeprefix("Bearer "))
