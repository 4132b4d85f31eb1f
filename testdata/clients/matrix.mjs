// What each Node client can do with a running server, one JSON object a line, as matrix.py does for
// Python.
//
//     node matrix.mjs grpc://127.0.0.1:50051 FOLDER
//
// FOLDER holds package.json and node_modules. A feature that is not called is told as `not tried`.
// The exit status is 0 when every feature did as asserted.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [uri, folder] = process.argv.slice(2);
const { hostname, port } = new URL(uri.replace("grpc://", "http://"));
const require = createRequire(join(resolve(folder), "package.json"));
const page = readFileSync(new URL("matrix_page.py", import.meta.url), "utf8");
const FEATURES = [...page.match(/^FEATURES = \[(.*?)^\]/ms)[1].matchAll(/"(.+?)"/g)].map((m) => m[1]);

const UNICODE = "Äänekoski – 日本 🙂";

// The same questions to any client that turns SQL into rows.
function queries(rows) {
  const refused = (sql, says) => assert.rejects(() => rows(sql), (error) => `${error}`.includes(says));
  return {
    connect: async () => assert.equal((await rows("SELECT 1 AS n")).length, 1),
    "sign in": async () => assert.equal((await rows("SELECT 1 AS n")).length, 1),
    query: async () => assert.equal(Number((await rows("SELECT 41 + 1 AS n"))[0].n), 42),
    "zero rows": async () => assert.equal((await rows("SELECT 1 AS n WHERE 1 = 0")).length, 0),
    types: async () => {
      const [row] = await rows("SELECT 1.5 AS ratio, TRUE AS flag, CAST(NULL AS BIGINT) AS missing");
      assert.deepEqual([row.ratio, row.flag, row.missing], [1.5, true, null]);
    },
    unicode: async () => assert.equal((await rows(`SELECT '${UNICODE}' AS t`))[0].t, UNICODE),
    "large result": async () =>
      assert.equal((await rows("SELECT value AS n FROM generate_series(1, 200000)")).length, 200000),
    error: () => refused("SELEC 1", "SELEC"),
    update: async () => {
      await refused("CREATE TABLE t (a INT)", "not allowed");
      return "refused";
    },
  };
}

async function lancedb() {
  const { Client } = require("@lancedb/arrow-flight-sql-client");
  const client = await Client.connect({
    host: `${hostname}:${port}`,
    username: "anyone",
    password: "anything",
    insecure: true,
  });
  return queries(async (sql) => (await client.query(sql)).collectToObjects());
}

async function gizmosql() {
  const { FlightSQLClient } = require("@gizmodata/gizmosql-client");
  const client = new FlightSQLClient({
    host: hostname,
    port: Number(port),
    plaintext: true,
    username: "anyone",
    password: "anything",
  });
  const found = queries(async (sql) => (await client.execute(sql)).toArray());
  found.close = () => client.close();
  return found;
}

let failed = 0;
for (const [client, name, start] of [
  ["lancedb (Node)", "@lancedb/arrow-flight-sql-client", lancedb],
  ["gizmosql (Node)", "@gizmodata/gizmosql-client", gizmosql],
]) {
  const offered = await start();
  const manifest = join(resolve(folder), "node_modules", name, "package.json");
  const version = `${name} ${JSON.parse(readFileSync(manifest, "utf8")).version}`;
  for (const feature of FEATURES) {
    let outcome = "not tried";
    if (feature in offered) {
      try {
        outcome = (await offered[feature]()) ?? "pass";
      } catch (error) {
        console.error(`FAILED ${client}, ${feature}: ${error}`);
        outcome = "fail";
        failed += 1;
      }
    }
    console.log(JSON.stringify({ client, version, feature, outcome }));
  }
}
process.exitCode = failed ? 1 : 0;
