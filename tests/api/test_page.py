"""How the page at `/` is served; what it does is tested in a browser."""

import re

from tests.api.servers import ApiServer, problem


def test_the_page_and_its_parts_are_served_strictly(server: ApiServer) -> None:
    """Nothing but files of this server may run or be loaded, and nobody may put the page into a frame."""
    page = server.client.get("/")
    parts = re.findall(r'(?:src|href)="(/page/[^"]+)"', page.text)
    imported = re.findall(r'from "\./([^"]+)"', server.client.get("/page/page.js").text)

    assert len(parts) == 3
    assert len(imported) > 5
    for path in ["/", *parts, *(f"/page/{name}" for name in imported)]:
        served = server.client.get(path)
        assert served.status_code == 200
        assert served.headers["content-security-policy"].startswith("default-src 'self'; ")
        assert "unsafe" not in served.headers["content-security-policy"]
        assert served.headers["x-content-type-options"] == "nosniff"
        assert "http://" not in served.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in served.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert server.client.get("/page/page.js").headers["content-type"].startswith("text/javascript")
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", page.text) == []


def test_an_unchanged_part_is_not_sent_again(server: ApiServer) -> None:
    """Browsers ask each time, and are told that what they have holds."""
    first = server.client.get("/page/page.css")
    again = server.client.get("/page/page.css", headers={"If-None-Match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")


def test_nothing_else_is_served(server: ApiServer) -> None:
    """Neither what lies beside the files, nor what leads out of their folder."""
    for name in ("__init__.py", "missing.js", "..%2fapp.py", "%2e%2e%2fapp.py", ""):
        problem(server.client.get(f"/page/{name}"), 404)
    assert server.client.head("/").status_code == 200
    assert "/page/{name}" not in server.client.get("/openapi.json").text
