"""A client of the HTTP API with nothing but the standard library."""

import http.client
import json
from urllib.parse import quote, urlencode


class Api:
    """The API of a gateway at an address."""

    def __init__(self, address, token=None):
        self.address, self.token = address, token

    def connection(self, timeout=15):
        return http.client.HTTPConnection(*self.address, timeout=timeout)

    def request(self, method, path, body=None, headers=None, timeout=15):
        """Status, headers and body of the answer."""
        headers = dict(headers or {})
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        connection = self.connection(timeout)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def json(self, method, path, body=None, status=200, **kwargs):
        """The JSON of an answer with that status."""
        found, headers, text = self.request(method, path, body, **kwargs)
        assert found == status, (found, text)
        assert headers["Content-Type"] == "application/json"
        return json.loads(text)

    def get(self, path, status=200, **query):
        query = f"?{urlencode(query)}" if query else ""
        return self.json("GET", path + query, status=status)

    def command(self, endpoint, body, status=200, wait=None, **kwargs):
        query = "" if wait is None else f"?wait={wait}"
        path = f"/v1/devices/{quote(endpoint, safe='')}/commands{query}"
        return self.json("POST", path, body, status=status, **kwargs)

    def device(self, endpoint, status=200):
        return self.get(f"/v1/devices/{quote(endpoint, safe='')}", status=status)
