#!/usr/bin/env python3
"""Talks to a QEMU's monitor.

Usage: hmp.py QMP_SOCKET COMMAND...
A command is one of the human monitor, whose text is printed, or migrate-wait (until a snapshot is written)
or wait-running (until one is read, and the machine runs).
"""
import json
import socket
import sys
import time

PATIENCE = 120

connection = socket.socket(socket.AF_UNIX)
connection.settimeout(PATIENCE)
connection.connect(sys.argv[1])
stream = connection.makefile("rw")
stream.readline()


def ask(command, **arguments):
    stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    stream.flush()
    while True:
        answer = json.loads(stream.readline())
        if "return" in answer:
            return answer["return"]
        if "error" in answer:
            sys.exit("hmp: " + answer["error"]["desc"])


def until(done):
    end = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > end:
            sys.exit("hmp: it takes too long")
        time.sleep(0.05)


def migrated():
    state = ask("query-migrate").get("status")
    if state in ("failed", "cancelled"):
        sys.exit("hmp: the snapshot " + state)
    return state == "completed"


def running():
    state = ask("query-status")["status"]
    if state == "paused":
        ask("cont")
    return state == "running"


ask("qmp_capabilities")
for command in sys.argv[2:]:
    if command == "migrate-wait":
        until(migrated)
    elif command == "wait-running":
        until(running)
    else:
        text = ask("human-monitor-command", **{"command-line": command}).strip()
        if text:
            print(text, file=sys.stderr)
        if "Error" in text:
            sys.exit(1)
