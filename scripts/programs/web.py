"""An application with Flask: `web.py flask PORT` in werkzeug's server with a thread for each
request, `web.py waitress PORT` in waitress with a pool of threads."""

import logging
import sys
import threading
import time

from flask import Flask

app = Flask(__name__)
lock, count = threading.Lock(), 0


@app.get("/")
def page():
    global count
    time.sleep(0.002)
    with lock:
        count += 1
    return "".join(f"{i}\n" for i in range(1000))


@app.get("/count")
def counted():
    return f"{count}\n"


logging.getLogger("werkzeug").setLevel(logging.ERROR)
port = int(sys.argv[2])
if sys.argv[1] == "flask":
    app.run("127.0.0.1", port, threaded=True)
else:
    import waitress

    waitress.serve(app, host="127.0.0.1", port=port, threads=8, _quiet=True)
