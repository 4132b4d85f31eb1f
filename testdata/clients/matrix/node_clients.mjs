// The clients for Node: @lancedb/arrow-flight-sql-client and @gizmodata/gizmosql-client.

import { createRequire } from "node:module";

import { HOST, PASSWORD, USER, codeOf, Fault, equal, refuses, run } from "./matrix.mjs";

// Packages lie beside the build, where NODE_PATH says; `import` does not look there.
const require = createRequire(import.meta.url);
const COLUMNS = "FROM information_schema.columns WHERE table_name = 'indicator_value'";
const BARE = "the bytes are not a Flight SQL command";
const MANY = 100_000;
const MANY_SQL = `SELECT value AS n FROM generate_series(1, ${MANY})`;

// What SQL alone shows. `rows` gives the rows of a query as plain objects.
function answers(rows) {
  const value = async (sql) => (await rows(sql))[0].v;
  const count = async (sql) => (await rows(`SELECT count(*) AS v ${sql}`))[0].v;
  return {
    connect: async () => equal(await rows("SELECT 1 AS n"), [{ n: 1n }]),
    query: async () =>
      equal(await rows("SELECT 1 AS n, 'x' AS t UNION ALL SELECT 2, 'y' ORDER BY n"), [
        { n: 1n, t: "x" },
        { n: 2n, t: "y" },
      ]),
    large_result: async () => {
      const found = await rows(MANY_SQL);
      const sum = found.reduce((total, row) => total + row.n, 0n);
      equal([found.length, sum], [MANY, BigInt((MANY * (MANY + 1)) / 2)]);
    },
    side_by_side: async () => {
      const [many, two] = await Promise.all([rows(MANY_SQL), rows("SELECT 2 AS n")]);
      equal([many.length, two], [MANY, [{ n: 2n }]]);
    },
    unicode: async () =>
      equal(await rows("SELECT 'Äänekoski – Čáhput 漢字 🦌' AS \"ääkkönen\""), [
        { ääkkönen: "Äänekoski – Čáhput 漢字 🦌" },
      ]),
    integer: async () => equal(await value("SELECT 9223372036854775807 AS v"), 2n ** 63n - 1n),
    double: async () => equal(await value("SELECT CAST(0.1 AS DOUBLE) AS v"), 0.1),
    decimal: new Fault('found "1250"', "digits without the decimal point", async () => {
      equal(String(await value("SELECT CAST('1.25' AS DECIMAL(38, 3)) AS v")), "1.250");
    }),
    boolean: async () => equal(await value("SELECT TRUE AS v"), true),
    date: async () => equal(+(await value("SELECT DATE '2024-02-29' AS v")), Date.UTC(2024, 1, 29)),
    timestamp: async () =>
      equal(
        +(await value("SELECT CAST('2024-03-31T03:30:00.123456' AS TIMESTAMP) AS v")),
        Date.UTC(2024, 2, 31, 3, 30, 0, 123) + 0.456,
      ),
    null: async () => equal(await value("SELECT CAST(NULL AS VARCHAR) AS v"), null),
    long_text: async () =>
      equal((await value("SELECT repeat('ä', 1500000) AS v")) === "ä".repeat(1_500_000), true),
    bytes: async () => equal([...(await value("SELECT X'00FF' AS v"))], [0, 255]),
    list: async () => equal([...(await value("SELECT [1, 2, 3] AS v"))], [1n, 2n, 3n]),
    information_schema: async () => equal((await count(COLUMNS)) > 5n, true),
    sql_types: async () => {
      const types = (await rows(`SELECT data_type ${COLUMNS}`)).map((row) => row.data_type);
      equal(types.includes("DOUBLE"), true);
    },
    constraints: async () =>
      equal((await count("FROM information_schema.table_constraints")) > 0n, true),
    show: async () => {
      const names = (await rows("SHOW TABLES")).map((row) => row.table_name);
      equal(names.includes("indicator_value"), true);
    },
    databases: async () => {
      const names = (await rows("SHOW DATABASES")).map((row) => Object.values(row)[0]);
      equal(names, ["tietopohja"]);
    },
    as_of: async () => {
      const values = () => count("FROM published.indicator_value");
      equal((await values()) > 0n, true);
      await rows("SET tietopohja.as_of = '2020-01-01'");
      equal(await values(), 0n);
      await rows("RESET tietopohja.as_of");
      equal((await values()) > 0n, true);
    },
    error_text: () => refuses("missing", () => rows("SELECT missing FROM reference.county")),
    error_code: async () => {
      const error = await refuses("missing", () => rows("SELECT * FROM missing"));
      equal(codeOf(error), "INVALID_ARGUMENT");
    },
    goes_on: async () => {
      await refuses("SELEC", () => rows("SELEC 1"));
      equal(await rows("SELECT 1 AS n"), [{ n: 1n }]);
    },
    update: async () => {
      await rows("CREATE OR REPLACE TABLE workspace.matrix AS SELECT 41 AS a");
      equal(await rows("SELECT a FROM workspace.matrix"), [{ a: 41n }]);
      await rows("DROP TABLE workspace.matrix");
    },
  };
}

async function lancedb() {
  const { Client } = require("@lancedb/arrow-flight-sql-client");
  const connect = () =>
    Client.connect({ host: HOST, username: USER, password: PASSWORD, insecure: true });
  const shared = await connect();
  const rows = async (sql, client = shared) => {
    const result = await client.query(sql);
    return (await result.collectToObjects()).map((row) => row.toJSON());
  };
  const offered = {
    ...answers(rows),
    password: async () => equal(await rows("SELECT 1 AS n", await connect()), [{ n: 1n }]),
    zero_rows: async () => {
      const result = await shared.query("SELECT 1 AS n, 'x' AS t WHERE 1 = 0");
      const [batch] = await result.collectToArrow();
      equal([batch.numRows, batch.schema.fields.map((field) => field.name)], [0, ["n", "t"]]);
    },
    by_batch: async () => {
      const result = await shared.query("SELECT value FROM generate_series(1, 1000000000000)");
      for await (const batch of result.toArrowStream()) {
        if (batch.numRows > 0) return;
      }
      throw new Error("no rows came");
    },
  };
  // It has no more than a sign-in and a query.
  const missing = `
    token close question_mark dollar typed_on_bind null_parameter many_rows parameter_schema
    execute_schema catalogs schemas tables table_types columns one_table keys comments type_info
    sql_info get_schema partitions poll cancel renew session_read session_set release transaction
    ingest`;
  return [offered, missing];
}

async function gizmosql() {
  const { FlightSQLClient } = require("@gizmodata/gizmosql-client");
  const [host, port] = HOST.split(":");
  const signIn = { username: USER, password: PASSWORD };
  const connect = (how = signIn) =>
    new FlightSQLClient({ host, port: Number(port), plaintext: true, ...how });
  const shared = connect();
  const rows = async (sql, client = shared) =>
    (await client.execute(sql)).toArray().map((row) => row.toJSON());
  const signsInAndOut = async () => {
    const own = connect();
    equal(await rows("SELECT 1 AS n", own), [{ n: 1n }]);
    await own.close();
  };
  const offered = answers(rows);
  const all = {
    ...offered,
    password: signsInAndOut,
    close: signsInAndOut,
    token: async () => equal(await rows("SELECT 1 AS n", connect({ token: "abc" })), [{ n: 1n }]),
    zero_rows: async () => {
      const found = await shared.execute("SELECT 1 AS n, 'x' AS t WHERE 1 = 0");
      equal([found.numRows, found.schema.fields.map((field) => field.name)], [0, ["n", "t"]]);
    },
    catalogs: async () => equal(await shared.getCatalogs(), ["tietopohja"]),
    schemas: async () => {
      const names = (await shared.getSchemas()).map((entry) => entry.schema);
      equal(names.includes("published"), true);
    },
    tables: async () => {
      const names = (await shared.getTables(undefined, "reference")).map((entry) => entry.tableName);
      equal(names.includes("area_member"), true);
    },
    table_types: async () => equal((await shared.getTableTypes()).includes("TABLE"), true),
    keys: new Fault(BARE, "it sends the command without its envelope", async () => {
      const found = await shared.getPrimaryKeys("tietopohja", "reference", "area_member");
      equal(found.length > 0, true);
    }),
    sql_info: async () => equal((await shared.getSqlInfo([0])).get(0), "Tietopohja"),
    get_schema: new Fault(BARE, "it sends the command without its envelope", async () => {
      const found = await shared.getQuerySchema("SELECT 1 AS n, 'x' AS t");
      equal(found.fields.map((field) => field.name), ["n", "t"]);
    }),
    execute_schema: new Fault("Expected argument of type", "its request cannot be written", () =>
      shared.prepare("SELECT 1 AS n"),
    ),
    error_code: new Fault("code undefined", "its errors carry no code", offered.error_code),
  };
  const missing = `
    by_batch question_mark dollar typed_on_bind null_parameter many_rows parameter_schema columns
    one_table comments type_info partitions poll cancel renew session_read session_set release
    transaction ingest`;
  return [all, missing];
}

let [passed, failed] = [0, 0];
for (const [title, name, start] of [
  ["Node, lancedb", "@lancedb/arrow-flight-sql-client", lancedb],
  ["Node, gizmosql", "@gizmodata/gizmosql-client", gizmosql],
]) {
  const [offered, missing] = await start();
  const { version } = require(`${name}/package.json`);
  const told = await run(title, [`${name} ${version}`], offered, missing);
  passed += told.passed;
  failed += told.failed;
}
console.log(`Node: ${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
