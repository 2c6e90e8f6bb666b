"""Who may see the page: those with the link that the terminal shows, or with the password."""

import secrets
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from .limits import Tally

_MOST_WRONG, _SECONDS = 10, 60  # attempts of an address
_MOST_FORM = 4096  # bytes
# the form's own headers: without a referrer, browsers would not say which page it comes from
_FORM_HEADERS = {
    'referrer-policy': 'same-origin',
    'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}
_FORM = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mmpose_attn</title>
<style>
:root {{color-scheme: light dark; font-family: system-ui, sans-serif}}
body {{max-width: 26em; margin: 18vh auto; padding: 0 1em; line-height: 1.5}}
input, button {{font: inherit; padding: 0.5em; box-sizing: border-box; width: 100%;
  margin: 0.4em 0}}
p[role] {{padding: 0.5em 0.9em; border-left: 4px solid #d04437}}
</style>
<h1>People, their poses, and what attention does</h1>
{message}
<form method="post" action="login">
<label>{label}<input type="password" name="secret" autocomplete="current-password" required
autofocus></label>
<button>Open the page</button>
</form>
</html>
"""


class Access:
    """Lets in who knows the secret; after that, a cookie of the browser says so.

    Args:
        secret: a password, or the token of a link.
        is_link: whether it comes as ``/?token=``, too.
        port: that of the page; cookies do not tell ports apart.
    """

    def __init__(self, secret: str, *, is_link: bool, port: int) -> None:
        self._secret, self._is_link = secret.encode(), is_link
        self._cookie, self._pass = f'mmpose_attn_{port}', secrets.token_urlsafe(32)
        self._wrong = Tally(_SECONDS)

    async def refusal(self, request: Request, address: str) -> Response | None:
        """What somebody is told who may not go on yet; None if he may."""
        path, method = request.url.path, request.method
        if path == '/login' and method == 'POST':
            return self._judge(request, address, await _form_secret(request))
        tokens = request.query_params.getlist('token') if self._is_link else []
        if path == '/' and method == 'GET' and tokens:
            return self._judge(request, address, tokens[0] if len(tokens) == 1 else '')
        shown = request.cookies.get(self._cookie, '').encode(errors='surrogateescape')
        if secrets.compare_digest(shown, self._pass.encode()):
            return RedirectResponse('./', 303) if path == '/login' else None
        if path in ('/', '/login') and method in ('GET', 'HEAD'):
            return self._form('', 403)
        return PlainTextResponse('Open the page itself first: it asks who you are.', 403)

    def _judge(self, request: Request, address: str, secret: str | None) -> Response:
        if self._wrong.total(address)[0] >= _MOST_WRONG:
            wait = round(self._wrong.wait(address)) + 1
            response = self._form(f'Too many wrong attempts: wait {wait} seconds.', 429)
            response.headers['retry-after'] = str(wait)
            return response
        if secret is None:
            return self._form('The form cannot be read.', 400)
        if not secrets.compare_digest(secret.encode(errors='surrogateescape'), self._secret):
            self._wrong.add(address)
            return self._form(f'Wrong {"token" if self._is_link else "password"}.', 403)
        # without the token, so that it stays in no history
        response = RedirectResponse('./', 303)
        response.set_cookie(
            self._cookie,
            self._pass,
            httponly=True,
            samesite='lax',
            secure=request.headers.get('x-forwarded-proto') == 'https',
        )
        return response

    def _form(self, message: str, status: int) -> HTMLResponse:
        label = 'Token of the link that the terminal shows' if self._is_link else 'Password'
        html = _FORM.format(label=label, message=message and f'<p role="alert">{message}</p>')
        return HTMLResponse(html, status, headers=_FORM_HEADERS)


async def _form_secret(request: Request) -> str | None:
    body = b''
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_FORM:
            return None
    try:
        found = parse_qs(body.decode('ascii'), strict_parsing=True, max_num_fields=1)
    except ValueError:
        return None
    return found.get('secret', [None])[0]
