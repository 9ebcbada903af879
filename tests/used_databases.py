"""A database of PostgreSQL that a test has used is made as new, which costs a tenth of making another.

What the test has made is dropped, its rows are removed, and what the library's tables had at first is put back. Then
all that the database consists of is compared with what a new one has. A database that differs, be it in a column, a
right or a setting, is not as new, and must not be used again.
"""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

FIRST_OID = 16384
"""The lowest number of an object that is not PostgreSQL's own. Numbers rise: what has a higher one than its database
was made in it, what has a lower one came with the template."""

_END_OTHERS = """
SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()"""

_DROP_AND_EMPTY = f"""
DO $$
DECLARE
    own CONSTANT oid := (SELECT oid FROM pg_database WHERE datname = current_database());
    statement text;
BEGIN
    SET LOCAL client_min_messages = error;
    FOR statement IN
        SELECT format('DROP %s IF EXISTS public.%I CASCADE', CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END,
            relname)
        FROM pg_class WHERE oid > own AND relkind IN ('r', 'p', 'v') AND relnamespace = 'public'::regnamespace
    LOOP EXECUTE statement; END LOOP;
    FOR statement IN
        SELECT format('TRUNCATE public.%I CASCADE', relname)
        FROM pg_class WHERE oid BETWEEN {FIRST_OID} AND own AND relkind = 'r' AND pg_relation_size(oid) > 0
    LOOP EXECUTE statement; END LOOP;
    PERFORM setval(oid, 1, false) FROM pg_class WHERE oid BETWEEN {FIRST_OID} AND own AND relkind = 'S';
END $$"""

_ROWS = "SELECT json_agg(t) FROM {} t"
_PUT_BACK = "INSERT INTO {} SELECT * FROM json_populate_recordset(NULL::{}, $1)"

_OBJECTS = f"""
SELECT string_agg(object, E'\\n' ORDER BY object) FROM (
    SELECT concat_ws(' ', 'relation', oid, relname, relkind, relowner, relacl, reloptions, relrowsecurity,
        reltablespace, relpersistence, relreplident) FROM pg_class WHERE oid >= {FIRST_OID}
    UNION ALL SELECT concat_ws(' ', 'column', attrelid, attnum, attname, atttypid, atttypmod, attnotnull,
        attcollation, attacl, attidentity) FROM pg_attribute WHERE attrelid >= {FIRST_OID}
    UNION ALL SELECT concat_ws(' ', 'schema', oid, nspname, nspowner, nspacl) FROM pg_namespace
    UNION ALL SELECT concat_ws(' ', 'constraint', oid, conname) FROM pg_constraint WHERE oid >= {FIRST_OID}
    UNION ALL SELECT concat_ws(' ', 'default', oid) FROM pg_attrdef
    UNION ALL SELECT concat_ws(' ', 'rule', oid) FROM pg_rewrite WHERE oid >= {FIRST_OID}
    UNION ALL SELECT concat_ws(' ', 'trigger', oid, tgname, tgenabled) FROM pg_trigger
    UNION ALL SELECT concat_ws(' ', 'event trigger', oid) FROM pg_event_trigger
    UNION ALL SELECT concat_ws(' ', 'policy', oid) FROM pg_policy
    UNION ALL SELECT concat_ws(' ', 'function', oid) FROM pg_proc WHERE oid >= {FIRST_OID}
    UNION ALL SELECT concat_ws(' ', 'type', oid, typname, typowner, typacl) FROM pg_type WHERE oid >= {FIRST_OID}
    UNION ALL SELECT concat_ws(' ', 'collation', oid) FROM pg_collation WHERE oid >= {FIRST_OID}
    UNION ALL SELECT concat_ws(' ', 'extension', oid) FROM pg_extension
    UNION ALL SELECT concat_ws(' ', 'default rights', oid) FROM pg_default_acl
    UNION ALL SELECT concat_ws(' ', 'rights of the database', datacl, datdba, datallowconn, datconnlimit)
        FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT concat_ws(' ', 'setting', setrole, setconfig) FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
) AS all_objects (object)"""


@dataclass(frozen=True)
class NewDatabase:
    """What a new database has.

    Attributes:
        objects: all that it consists of, but for its rows and what PostgreSQL itself brings; None: nothing.
        rows: what is in its tables that are not empty, as JSON.
    """

    objects: str | None
    rows: dict[str, str]


async def look_at(connection: asyncpg.Connection) -> NewDatabase:
    """Tell what a new database has, to whose like the connection is."""
    tables = await connection.fetch(f"SELECT relname FROM pg_class WHERE oid >= {FIRST_OID} AND relkind = 'r'")
    rows = {name: await connection.fetchval(_ROWS.format(name)) for (name,) in tables}
    return NewDatabase(await connection.fetchval(_OBJECTS), {name: found for name, found in rows.items() if found})


async def make_new(connection: asyncpg.Connection, new: NewDatabase) -> bool:
    """Make the database of a connection as new, and end all others; return False if that is more than is done here."""
    await connection.fetch(_END_OTHERS)
    await connection.execute(_DROP_AND_EMPTY)
    if await connection.fetchval(_OBJECTS) != new.objects:
        return False
    for table, rows in new.rows.items():
        await connection.execute(_PUT_BACK.format(table, table), rows)
    return True
