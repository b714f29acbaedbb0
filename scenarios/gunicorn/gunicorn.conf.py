"""A master and two workers, synchronous unless the command line says otherwise."""

import os
import sys

bind = f"127.0.0.1:{os.environ.get('PORT', 9292)}"
workers = 2
pythonpath = os.path.dirname(os.path.abspath(__file__))
wsgi_app = "app:app"
# Its socket for remote control would lie in the home folder, and leave one there. Older ones have none,
# and do not mind.
control_socket_disable = True
# Nothing is left in this folder.
sys.dont_write_bytecode = True
