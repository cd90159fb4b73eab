"""A page of another site can make a browser send requests. None of them begins an answer, which would cost money."""

import json
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser

from tests.e2e.client import script
from tests.e2e.conftest import Stack

FROM_A_PAGE = {
    "fetch": "fetch(get, {mode: 'no-cors'})",
    "fetch-json": "fetch(post, {method: 'POST', body, headers: {'Content-Type': 'application/json'}})",
    "fetch-text": "fetch(post, {method: 'POST', mode: 'no-cors', body})",
    "fetch-bare": "fetch(post, {method: 'POST', mode: 'no-cors', body: new Blob([body])})",
    "beacon": "Promise.resolve(navigator.sendBeacon(post, body))",
    "image": "new Promise(done => { const image = new Image(); image.onerror = done; image.src = get; })",
    "script": "new Promise(done => { const script = document.createElement('script'); script.onerror = done;"
    " script.src = get; document.head.append(script); })",
    "event-source": "new Promise(done => { new EventSource(get).onerror = done; })",
    "form": "new Promise(done => { const form = document.createElement('form');"
    " const frame = document.createElement('iframe'); frame.name = 'there'; frame.onload = done;"
    " document.body.append(frame); form.action = post; form.method = 'POST';"
    " form.enctype = 'text/plain'; form.target = 'there'; const field = document.createElement('input');"
    " field.name = body.slice(0, -1) + ', \"x\": \"'; field.value = '\"}'; form.append(field);"
    " document.body.append(form); form.submit(); })",
}
"""Each of the ways that need no leave of the service. `fetch-json` asks for it first, and must be refused it."""


@pytest.mark.parametrize("way", FROM_A_PAGE)
def test_a_page_of_another_site_cannot_begin_an_answer(stack: Stack, browser: Browser, way: str) -> None:
    key = f"cross-site-{way}"
    query = script(key=key, chunks=1)
    address = f"{stack.client.url}/generate"
    page = browser.new_page()  # about:blank, of no site
    program = f"([get, post, body]) => {FROM_A_PAGE[way]}.then(() => null, () => null)"
    with page.expect_request(lambda request: "/generate" in request.url):
        page.evaluate(program, [f"{address}?{urlencode({'query': query})}", address, json.dumps({"query": query})])
    page.close()
    # A request that had been let through would be at the upstream before this one.
    assert stack.client.generate(script(key=f"after-{key}", chunks=1)).status == 200
    assert stack.upstream.requests(key) == []


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None]
)
def test_a_browser_that_does_not_tell_the_site_is_asked_for_json(stack: Stack, content_type: str | None) -> None:
    """These are the types that a page may send anywhere without asking first; old browsers send no Sec-Fetch-Site."""
    body = json.dumps({"query": script(key="not-json", chunks=1)}).encode()
    for client in (stack.client, stack.direct):
        reply = client.request("POST", "/generate", body, {"Content-Type": content_type} if content_type else {})
        assert (reply.status, reply.json["error"]["code"]) == (422, "invalid_input")
    assert stack.upstream.requests("not-json") == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_question_of_another_site_is_refused_whatever_its_type(stack: Stack, method: str) -> None:
    query = script(key=f"cross-site-{method}", chunks=1)
    body = json.dumps({"query": query}).encode() if method == "POST" else None
    target = "/generate" if body else f"/generate?{urlencode({'query': query})}"
    headers = {"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site", "Origin": "https://example.org"}
    reply = stack.client.request(method, target, body, headers)
    assert (reply.status, reply.json["error"]["code"]) == (403, "cross_site")
    assert stack.upstream.requests(f"cross-site-{method}") == []
    assert stack.client.request(method, target, body, headers | {"Sec-Fetch-Site": "same-origin"}).status == 200
