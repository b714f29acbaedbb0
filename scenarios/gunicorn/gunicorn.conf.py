"""A master and two synchronous workers, Gunicorn's default kind."""

import os
import sys

bind = f"127.0.0.1:{os.environ.get('PORT', 9292)}"
workers = 2
pythonpath = os.path.dirname(os.path.abspath(__file__))
wsgi_app = "app:app"
# Nothing is left in this folder.
sys.dont_write_bytecode = True
