/** `deleteAll()` on SQLite-backed objects: a schema of any kind goes as a whole while messages wait, and can be created again. */
import { evictDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { callsOf, numbers, putMany } from "../support/batches.ts";
import { again, type Backend, env, inside, type Stub } from "../support/harness.ts";
import { paused, resumed } from "../support/standing.ts";

const SQLITE: Backend = { name: "sqlite", namespace: env.BOX_SQLITE, other: env.OTHER_SQLITE, form: env.FORM_SQLITE };

/** A paused object with these tables and twenty messages. */
async function withTables(statements: string[]): Promise<Stub> {
  const stub = await paused(SQLITE);
  await inside(stub, (_, __, { storage: { sql } }) => statements.forEach((statement) => void sql.exec(statement)));
  await putMany(stub, 20);
  return stub;
}

/** What the schema names, but for the tables that the platform keeps for itself. */
const schemaOf = ({ sql }: DurableObjectStorage): unknown[] =>
  sql
    .exec(
      String.raw`SELECT type, name FROM sqlite_master WHERE name NOT LIKE '\_cf\_%' ESCAPE '\' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`,
    )
    .toArray();

/** Tables of every kind, each as the statements that make and fill it. */
const SCHEMAS: Record<string, string[]> = {
  "a plain table with an index": [
    "CREATE TABLE t (a)",
    "CREATE UNIQUE INDEX i ON t (a)",
    "CREATE INDEX j ON t (a) WHERE a > 1",
    "INSERT INTO t VALUES (1), (2)",
  ],
  "foreign keys": [
    "CREATE TABLE parent (id INTEGER PRIMARY KEY)",
    "CREATE TABLE child (parent REFERENCES parent (id))",
    "INSERT INTO parent VALUES (1)",
    "INSERT INTO child VALUES (1)",
  ],
  "foreign keys that restrict, in every order of creation": [
    "CREATE TABLE child (parent REFERENCES parent (id) ON DELETE RESTRICT)",
    "CREATE TABLE parent (id INTEGER PRIMARY KEY, up REFERENCES above (id) ON DELETE RESTRICT)",
    "CREATE TABLE above (id INTEGER PRIMARY KEY)",
    "INSERT INTO above VALUES (1)",
    "INSERT INTO parent VALUES (1, 1)",
    "INSERT INTO child VALUES (1)",
  ],
  "cyclic foreign keys": [
    "CREATE TABLE a (id INTEGER PRIMARY KEY, b REFERENCES b (id) ON DELETE RESTRICT)",
    "CREATE TABLE b (id INTEGER PRIMARY KEY, a REFERENCES a (id) ON DELETE RESTRICT)",
    "INSERT INTO a VALUES (1, NULL)",
    "INSERT INTO b VALUES (1, 1)",
    "UPDATE a SET b = 1",
  ],
  "a table that refers to itself": [
    "CREATE TABLE tree (id INTEGER PRIMARY KEY, up REFERENCES tree (id) ON DELETE RESTRICT)",
    "INSERT INTO tree VALUES (1, 1), (2, 1), (3, 2)",
  ],
  "foreign keys to a table that is not there": ["CREATE TABLE child (parent REFERENCES missing (id))"],
  "foreign keys to what is not unique": [
    "CREATE TABLE parent (id)",
    "CREATE TABLE child (parent REFERENCES parent (id))",
    "INSERT INTO parent VALUES (1)",
  ],
  "foreign keys that set, cascade and wait": [
    "CREATE TABLE parent (id INTEGER PRIMARY KEY)",
    "CREATE TABLE one (parent REFERENCES parent (id) ON DELETE CASCADE)",
    "CREATE TABLE two (parent NOT NULL DEFAULT 9 REFERENCES parent (id) ON DELETE SET DEFAULT)",
    "CREATE TABLE three (parent REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)",
    "INSERT INTO parent VALUES (1)",
    "INSERT INTO one VALUES (1)",
    "INSERT INTO two VALUES (1)",
    "INSERT INTO three VALUES (1)",
  ],
  AUTOINCREMENT: ["CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)", "INSERT INTO t VALUES (NULL), (NULL)"],
  "triggers that forbid to delete": [
    "CREATE TABLE t (a REFERENCES other (a))",
    "CREATE TABLE other (a PRIMARY KEY)",
    "CREATE TRIGGER no BEFORE DELETE ON t BEGIN SELECT RAISE(ABORT, 'never'); END",
    "CREATE TRIGGER log AFTER DELETE ON other BEGIN INSERT INTO t VALUES (NULL); END",
    "INSERT INTO other VALUES (1)",
    "INSERT INTO t VALUES (1)",
  ],
  "views, one on another and one on nothing": [
    "CREATE TABLE t (a)",
    "CREATE TABLE gone (a)",
    "CREATE VIEW v AS SELECT a FROM t",
    "CREATE VIEW w AS SELECT a FROM v",
    "CREATE VIEW x AS SELECT a FROM missing",
    "CREATE TRIGGER instead INSTEAD OF DELETE ON v BEGIN DELETE FROM t; END",
  ],
  "full text": [
    "CREATE TABLE docs (id INTEGER PRIMARY KEY, text)",
    "CREATE VIRTUAL TABLE found USING fts5 (text, content='docs', content_rowid='id')",
    "CREATE TRIGGER docs_found AFTER INSERT ON docs BEGIN INSERT INTO found (rowid, text) VALUES (new.id, new.text); END",
    "CREATE VIRTUAL TABLE alone USING fts5 (text)",
    "CREATE VIRTUAL TABLE words USING fts5vocab ('alone', 'row')",
    "INSERT INTO docs VALUES (1, 'a text to be found')",
    "INSERT INTO alone VALUES ('another text')",
  ],
  "WITHOUT ROWID, STRICT and computed columns": [
    "CREATE TABLE t (a INT PRIMARY KEY, b INT GENERATED ALWAYS AS (a * 2) STORED) STRICT, WITHOUT ROWID",
    "INSERT INTO t VALUES (1)",
  ],
  "odd names": [
    `CREATE TABLE "a ""b"" 'c'; --" ("x y" PRIMARY KEY)`,
    `CREATE TABLE "_cfoo" (a)`,
    `CREATE TABLE "sqliteish" (a)`,
    `CREATE TABLE "table" (a REFERENCES "a ""b"" 'c'; --" ("x y"))`,
    `CREATE TABLE "REFERENCES" (a)`,
    `CREATE VIEW "a;view" AS SELECT * FROM "table"`,
    `CREATE TRIGGER "a""trigger" DELETE ON "table" BEGIN SELECT RAISE(ABORT, 'never'); END`,
    `CREATE INDEX "an ""index" ON "table" (a)`,
    `CREATE VIRTUAL TABLE "full ""text" USING fts5 (a)`,
    `CREATE TABLE "\u{10FFFF}" (a)`,
    `INSERT INTO "a ""b"" 'c'; --" VALUES (1)`,
    `INSERT INTO "table" VALUES (1)`,
  ],
  statistics: ["CREATE TABLE t (a)", "CREATE INDEX i ON t (a)", "INSERT INTO t VALUES (1), (2)", "ANALYZE"],
};

describe("deleteAll with messages pending deletes", () => {
  it.each(Object.entries(SCHEMAS))("%s, and the same can be created again", async (_, statements) => {
    const stub = await withTables(statements);
    await inside(stub, async (_, __, { storage }) => {
      await storage.deleteAll();
      expect(schemaOf(storage)).toEqual([]);
      for (const statement of statements) storage.sql.exec(statement);
      await storage.sync();
    });
    await evictDurableObject(stub);
    await inside(again(stub), async (_, __, { storage }) => {
      await storage.deleteAll();
      expect(schemaOf(storage)).toEqual([]);
      expect((await storage.list()).size).toBe(0);
    });
    await resumed(again(stub));
    expect(callsOf(stub).flat()).toEqual(numbers(20));
  });

  it("all of them at once", async () => {
    const names = (statement: string) => /(?:TABLE|VIEW|INDEX|TRIGGER) ("(?:[^"]|"")*"|\w+)/.exec(statement)?.[1];
    const taken = new Set<string | undefined>();
    const statements = Object.values(SCHEMAS).flatMap((schema) => {
      const made = schema.filter((statement) => statement.startsWith("CREATE")).map(names);
      if (made.some((name) => taken.has(name))) return [];
      for (const name of made) taken.add(name);
      return schema;
    });
    expect(statements.length).toBeGreaterThan(30);
    const stub = await withTables(statements);
    await inside(stub, async (_, __, { storage }) => {
      await storage.deleteAll();
      expect(schemaOf(storage)).toEqual([]);
      await storage.sync();
    });
  });

  it("nothing while a cursor of a table stands half-read, says so, and all once it has been read", async () => {
    const stub = await withTables(["CREATE TABLE t (a)", "INSERT INTO t VALUES (1), (2)"]);
    await inside(stub, async (_, __, { storage }) => {
      const cursor = storage.sql.exec("SELECT a FROM t");
      cursor.next();
      await expect(storage.deleteAll()).rejects.toMatchObject({ code: "unsupported", message: /cursor/ });
      expect([schemaOf(storage).length, (await storage.list()).size]).toEqual([1, 20]);
      // Read to its end, or ended by what was rolled back.
      try {
        cursor.toArray();
      } catch {}
      await storage.deleteAll();
      expect([schemaOf(storage).length, (await storage.list()).size]).toEqual([0, 0]);
    });
    await resumed(stub);
    expect(callsOf(stub).flat()).toEqual(numbers(20));
  });
});

describe("after deleteAll, in the same turn and with messages pending,", () => {
  it("AUTOINCREMENT counts from 1 again", async () => {
    const table = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)";
    const stub = await withTables([table, "INSERT INTO t VALUES (NULL), (NULL)"]);
    await inside(stub, async (_, __, { storage }) => {
      const deleted = storage.deleteAll();
      storage.sql.exec(table);
      expect(storage.sql.exec("INSERT INTO t VALUES (NULL) RETURNING id").one()).toEqual({ id: 1 });
      await deleted;
    });
  });

  it("tables that are created stay, with what is written to them and to the keys", async () => {
    const stub = await withTables(["CREATE TABLE t (a)", "INSERT INTO t VALUES ('before')"]);
    await inside(stub, async (_, outbox, { storage }) => {
      storage.kv.put("before", 1);
      storage.deleteAll();
      storage.sql.exec("CREATE TABLE t (a)");
      storage.sql.exec("INSERT INTO t VALUES ('after')");
      storage.kv.put("after", 1);
      outbox.send("after");
    });
    await evictDurableObject(stub);
    await inside(again(stub), async (_, __, { storage }) => {
      expect(storage.sql.exec("SELECT a FROM t").toArray()).toEqual([{ a: "after" }]);
      expect(await storage.list()).toEqual(new Map([["after", 1]]));
    });
    await resumed(again(stub));
    expect(callsOf(stub).flat()).toEqual([...numbers(20), "after"]);
  });

  it("foreign keys are checked at once, as before", async () => {
    const tables = ["CREATE TABLE parent (id INTEGER PRIMARY KEY)", "CREATE TABLE child (parent REFERENCES parent (id))"];
    const stub = await withTables(tables);
    await inside(stub, async (_, __, { storage }) => {
      const deleted = storage.deleteAll();
      for (const table of tables) storage.sql.exec(table);
      expect(() => storage.sql.exec("INSERT INTO child VALUES (1)")).toThrow("FOREIGN KEY constraint failed");
      await deleted;
      await storage.sync();
    });
  });

  it("keys and tables are gone for every read", async () => {
    const stub = await withTables(["CREATE TABLE t (a)"]);
    await inside(stub, (_, __, { storage }) => {
      storage.kv.put("a", 1);
      storage.deleteAll();
      expect(storage.kv.get("a")).toBeUndefined();
      expect([...storage.kv.list()]).toEqual([]);
      expect(() => storage.sql.exec("SELECT a FROM t")).toThrow("no such table");
    });
  });
});

describe("deleteAll in transactionSync with messages pending", () => {
  it.each(["commits", "throws"])("goes with it: that one %s", async (end) => {
    const stub = await withTables(["CREATE TABLE t (a)"]);
    await inside(stub, async (_, __, { storage }) => {
      const at = Date.now() + 60_000;
      await storage.setAlarm(at);
      const run = () =>
        storage.transactionSync(() => {
          storage.deleteAll();
          if (end === "throws") throw new Error("the test wants it");
        });
      if (end === "throws") expect(run).toThrow("the test wants it");
      else run();
      const [left, rest] = end === "throws" ? [at, 20] : [null, 0];
      expect([await storage.getAlarm(), (await storage.list()).size, schemaOf(storage).length]).toEqual([left, rest, Math.sign(rest)]);
    });
    await evictDurableObject(stub);
    await inside(again(stub), async (_, __, { storage }) => expect((await storage.list()).size).toBe(end === "throws" ? 20 : 0));
    await resumed(again(stub));
    expect(callsOf(stub).flat()).toEqual(numbers(20));
  });
});
