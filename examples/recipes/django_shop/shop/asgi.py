"""The site, and the page of redset for its staff."""

import os
from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.core.asgi import get_asgi_application
from django.http import HttpRequest

import redset
import redset.web

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
site = get_asgi_application()


# access
async def access(request: Any) -> str | None:
    """Let superusers of Django do all, and other staff look."""
    asked = HttpRequest()
    sessions = import_module(settings.SESSION_ENGINE)
    asked.session = sessions.SessionStore(request.cookies.get(settings.SESSION_COOKIE_NAME))
    user = await sync_to_async(get_user)(asked)
    if not (user.is_active and user.is_staff):
        return None
    return "all" if user.is_superuser else "look"


page = redset.web.app(redset.connect(socket_timeout=5), access=access, allowed_hosts=settings.ALLOWED_HOSTS)


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"].startswith("/redset/"):
        await page({**scope, "root_path": scope.get("root_path", "") + "/redset"}, receive, send)
    else:
        await site(scope, receive, send)


# end
