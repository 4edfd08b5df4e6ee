"""Django: an order is stored in the database, and its invoice is made by workers.

    python manage.py migrate
    REDSET_URL=redis://localhost uvicorn shop.asgi:application    # the site, and the page of redset at /redset/
    REDSET_URL=redis://localhost python manage.py work            # on any number of machines

Guarantee: each committed order gets exactly one invoice, by one or more attempts, or is a dead letter after five failed
ones. An invoice has the primary key of its order, so a second attempt finds it. If a process dies between its commit
and the addition to the set, or the server of the set loses data, the next sweep of a worker adds the order.
"""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    execute_from_command_line(sys.argv)
