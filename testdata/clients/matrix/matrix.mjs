// The matrix for Node: what `matrix.py` does for Python, on the same lists. Read that first.

import { appendFileSync, readFileSync } from "node:fs";

const read = (name) => JSON.parse(readFileSync(new URL(name, import.meta.url), "utf8"));
const FEATURES = Object.values(read("features.json")).flatMap((group) => Object.keys(group));
const REFUSED = read("refused.json");
const CODES = { 3: "INVALID_ARGUMENT", 12: "UNIMPLEMENTED", 16: "UNAUTHENTICATED" };

export const HOST = (process.env.TIETOPOHJA_URI ?? "grpc://127.0.0.1:31337").replace("grpc://", "");
export const USER = process.env.TIETOPOHJA_USER ?? "anyone";
export const PASSWORD = process.env.TIETOPOHJA_PASSWORD ?? "anything";

/** Runs every feature of one client: a function or a `Fault` for each that it offers; all others must
 * stand in `notOffered`, a text of names. Gives how many failed. */
export async function run(title, versions, offered, notOffered) {
  const others = notOffered.trim().split(/\s+/);
  const checks = { ...offered, ...Object.fromEntries(others.map((name) => [name, NOT_OFFERED])) };
  const twice = others.filter((name) => name in offered);
  const unknown = Object.keys(checks).filter((name) => !FEATURES.includes(name));
  const missing = FEATURES.filter((name) => !(name in checks));
  if (unknown.length || missing.length || twice.length) {
    throw new Error(`${title}: unknown ${unknown}; twice ${twice}; says nothing about ${missing}`);
  }
  console.log(`${title} (${versions.join(", ")})`);
  let passed = 0;
  let failed = 0;
  for (const feature of FEATURES) {
    const [result, note] = await one(feature, checks[feature]);
    if (result === "fail") failed += 1;
    else if (result !== "not offered") passed += 1;
    const line = { client: title, versions, feature, result, ...(note && { note }) };
    const record = process.env.MATRIX_RESULTS;
    if (record) appendFileSync(record, `${JSON.stringify(line)}\n`);
  }
  return { passed, failed };
}

const NOT_OFFERED = "not offered";

/** A check that fails in the client itself, with this error, for this reason. */
export class Fault {
  constructor(says, why, check) {
    this.why = why;
    this.check = () => refuses(says, check);
  }
}

async function one(feature, check) {
  if (check === NOT_OFFERED) return ["not offered"];
  const status = REFUSED[feature];
  try {
    if (status === undefined) await (check instanceof Fault ? check.check() : check());
    else await isRefused(feature, status, check);
  } catch (error) {
    console.log(`  FAILED ${feature}: ${error.message.slice(0, 1500)}`);
    return ["fail"];
  }
  if (status !== undefined) {
    console.log(`  ok     ${feature} (refused: ${status})`);
    return ["refused", status];
  }
  if (check instanceof Fault) {
    console.log(`  ok     ${feature} (the client's fault: ${check.why})`);
    return ["client fault", check.why];
  }
  console.log(`  ok     ${feature}`);
  return ["pass"];
}

async function isRefused(feature, status, check) {
  try {
    await check();
  } catch (error) {
    equal(codeOf(error), status);
    return;
  }
  throw new Error(`it works now: take the line \`${feature}\` out of matrix/refused.json`);
}

/** The name of an error's gRPC code. */
export function codeOf(error) {
  return CODES[error.code] ?? `code ${error.code}`;
}

/** Throws unless both are written the same. */
export function equal(found, wanted) {
  const text = (value) =>
    JSON.stringify(value, (_, part) => (typeof part === "bigint" ? `${part}n` : part));
  if (text(found) !== text(wanted)) {
    throw new Error(`found ${text(found)}, wanted ${text(wanted)}`);
  }
}

/** Throws unless the work fails and says this; gives the error. */
export async function refuses(says, work) {
  try {
    await work();
  } catch (error) {
    if (!error.message.includes(says)) {
      throw new Error(`the error does not say \`${says}\`: ${error.message.slice(0, 500)}`);
    }
    return error;
  }
  throw new Error("no error was thrown");
}
