"""A Django project with release health: `init` in its settings is all there is to it.

crashfree serve &                                       # prints the DSN
cd examples/django_project
CRASHFREE_DSN=... python manage.py runserver 8000       # or: waitress-serve shop.wsgi:application

curl -H 'X-User: ada' localhost:8000/items/7            # a session that went well
curl -H 'X-User: bob' localhost:8000/basket             # one with an error that was handled
curl -H 'X-User: cid' localhost:8000/pay/0              # one that crashed
"""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    execute_from_command_line(sys.argv)
