"""The architecture of TheSmilingChat's first version: one HTTP request and one row per smile, and partners that poll.

    STORE=sqlite:PATH gunicorn app:app
    STORE=mysql://USER:PASSWORD@HOST:PORT/DATABASE gunicorn app:app

A POST is answered once the row is committed. The partner receives the smile in the answer to its next poll, or to a
later poll if more than PAGE smiles are waiting.
"""

import os
import sqlite3
import threading
import time
from urllib.parse import urlsplit

import pymysql
from flask import Flask, jsonify, request

STORE = urlsplit(os.environ["STORE"])
ON_SQLITE = STORE.scheme == "sqlite"

PAGE = 200

SQLITE_TABLE = """CREATE TABLE IF NOT EXISTS smiles (
    number INTEGER PRIMARY KEY, sender TEXT, receiver TEXT, id TEXT, smile TEXT, at INTEGER)"""
SQLITE_INDEX = "CREATE INDEX IF NOT EXISTS received ON smiles (receiver, number)"
MYSQL_TABLE = """CREATE TABLE IF NOT EXISTS smiles (
    number BIGINT AUTO_INCREMENT PRIMARY KEY, sender VARCHAR(32), receiver VARCHAR(32), id VARCHAR(64),
    smile VARCHAR(64) CHARACTER SET utf8mb4, at BIGINT, INDEX received (receiver, number))"""

app = Flask(__name__)
of_this_thread = threading.local()


def connect():
    """Opens a connection in autocommit mode, and creates the table and its index if they do not exist."""
    if ON_SQLITE:
        connection = sqlite3.connect(STORE.path, isolation_level=None, timeout=60)
        statements = ["PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", SQLITE_TABLE, SQLITE_INDEX]
    else:
        connection = pymysql.connect(
            host=STORE.hostname, port=STORE.port or 3306, user=STORE.username, password=STORE.password,
            database=STORE.path[1:], charset="utf8mb4", autocommit=True,
        )
        statements = [MYSQL_TABLE]
    for statement in statements:
        connection.cursor().execute(statement)
    return connection


def run(statement, *values):
    if not hasattr(of_this_thread, "connection"):
        of_this_thread.connection = connect()
    cursor = of_this_thread.connection.cursor()
    cursor.execute(statement if ON_SQLITE else statement.replace("?", "%s"), values)
    return cursor


@app.post("/smiles")
def send():
    smile = request.get_json()
    stored = run(
        "INSERT INTO smiles (sender, receiver, id, smile, at) VALUES (?, ?, ?, ?, ?)",
        smile["from"], smile["to"], smile["id"], smile["smile"], int(time.time() * 1000),
    )
    return jsonify(type="ack", id=smile["id"], number=stored.lastrowid)


@app.get("/newest")
def newest():
    (number,) = run("SELECT COALESCE(MAX(number), 0) FROM smiles").fetchone()
    return jsonify(number)


@app.get("/smiles")
def receive():
    rows = run(
        "SELECT number, sender, id, smile, at FROM smiles WHERE receiver = ? AND number > ? ORDER BY number LIMIT ?",
        request.args["user"], int(request.args["after"]), PAGE,
    ).fetchall()
    fields = ("number", "from", "id", "smile", "at")
    return jsonify([dict(zip(fields, row)) for row in rows])
