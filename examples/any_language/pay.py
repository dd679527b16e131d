#!/usr/bin/env python3
"""Pays an invoice under a lease that somebody holds, with psycopg 3.

    FENCEGATE_TOKEN=1-1042-... DATABASE_URL=postgres://... ./pay.py invoices:2026-11 7
"""

import os
import sys

import psycopg

fence, invoice = sys.argv[1], int(sys.argv[2])
try:
    # A transaction: committed at the end of the block, rolled back if anything in it fails.
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        # The token is a parameter. As a part of the text it would end up in the server's log.
        connection.execute("select fencegate.enter(%s, %s)", (fence, os.environ["FENCEGATE_TOKEN"]))
        connection.execute("update invoice set paid_by = 'python' where id = %s", (invoice,))
except psycopg.Error as error:
    # Every refusal's SQLSTATE begins with ZF: see docs/sql.md.
    if not (error.sqlstate or "").startswith("ZF"):
        raise
    print(f"refused: {error.diag.message_primary}. {error.diag.message_hint}", file=sys.stderr)
    sys.exit(3)
print(f"invoice {invoice} is paid")
