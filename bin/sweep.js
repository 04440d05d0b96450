/** The sweep: takes objects from a file or from the registry, wakes them at a rate, and keeps its progress in a file. */

import { createHash } from "node:crypto";
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { progressOf } from "./progress.js";

/** The command is wrong, or is refused: trying again does not help. */
export class Usage extends Error {}

/** The most objects of one request. */
const MOST_AT_ONCE = 100;
const LONGEST_WAIT_MS = 30_000;
const REQUEST_MS = 120_000;
/** So many objects that failed are remembered. */
const MOST_FAILED = 100_000;
/** The longest name that the route takes. */
const NAME_LENGTH = 1024;
const ID = /^[0-9a-f]{64}$/i;

/** @returns the exit code */
export async function sweep(url, options) {
  const plan = planOf(url, options);
  const objects = options.registry ? null : linesIn(options.ids);
  if (plan.isDry) return await rehearse(plan, objects ?? (await fromRegistry(plan)));
  const sweeping = await begun(plan, objects);
  const { state, all } = sweeping;
  if (state.done > 0) console.log(`Goes on after ${state.done} of ${state.total} objects.`);
  const progress = progressOf(state);
  const stop = () => {
    save(plan, state);
    progress.end();
    console.log(`Interrupted after ${state.done} of ${state.total} objects. The same command goes on.`);
    process.exit(130);
  };
  process.once("SIGINT", stop).once("SIGTERM", stop);
  try {
    await wakeAll(plan, state, all, progress);
  } finally {
    progress.end();
    process.off("SIGINT", stop).off("SIGTERM", stop);
  }
  return ended(plan, state);
}

/** What is to be done, checked. */
function planOf(url, { namespace, ids, names, registry, rate, state, header, retries, "dry-run": isDry }) {
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) throw new Usage(`Expected a URL, got ${url}.`);
  if (!namespace) throw new Usage("Expected --namespace.");
  if ((ids === undefined) === !registry) throw new Usage("Expected either --ids or --registry.");
  if (ids !== undefined && !existsSync(ids)) throw new Usage(`There is no file ${ids}.`);
  const headers = { "content-type": "application/json", "user-agent": "do-transactional-outbox sweep" };
  const { OUTBOX_SWEEP_TOKEN: token } = process.env;
  if (token) headers.authorization = `Bearer ${token}`;
  for (const line of header) {
    const at = line.indexOf(":");
    if (at < 1) throw new Usage(`Expected a header as "name: value", got ${JSON.stringify(line)}.`);
    headers[line.slice(0, at).trim().toLowerCase()] = line.slice(at + 1).trim();
  }
  return {
    url: url.replace(/\/+$/, ""),
    ...{ namespace, headers, isDry, allNames: names, source: registry ? "registry" : "file" },
    rate: within("--rate", rate, 0.1, 1000),
    retries: within("--retries", retries, 0, 100),
    file: state ?? `.outbox-sweep-${namespace.replace(/[^\w-]/g, "_")}.json`,
  };
}

function within(name, text, min, max) {
  const number = Number(text);
  if (text.trim() === "" || !(number >= min && number <= max))
    throw new Usage(`Expected ${name} to be a number from ${min} to ${max}, got ${text}.`);
  return number;
}

/** The objects of a file, each once. */
function linesIn(file) {
  const lines = readFileSync(file, "utf8").split(/\r?\n/);
  const long = lines.findIndex((line) => line.trim().length > NAME_LENGTH && !line.trim().startsWith("#"));
  // The route would refuse it, with all that is asked for together, and the sweep would come no further.
  if (long >= 0) throw new Usage(`Line ${long + 1} of ${file} is no object: it has more than ${NAME_LENGTH} characters.`);
  return [...new Set(lines.map((line) => line.trim()).filter((line) => line && !line.startsWith("#")))];
}

async function fromRegistry(plan) {
  const ids = new Set();
  for (let after = ""; ; ) {
    const query = new URLSearchParams({ namespace: plan.namespace, ...(after && { after }) });
    const page = await request(plan, `ids?${query}`);
    for (const id of page.ids) ids.add(id);
    if (page.next === undefined) return [...ids];
    after = page.next;
  }
}

/** Says what would be done, and asks the route whether it may be. */
async function rehearse(plan, all) {
  await request(plan, "wake", { namespace: plan.namespace, ids: [] });
  const seconds = Math.ceil(all.length / plan.rate);
  console.log(`Would wake ${all.length} objects of ${plan.namespace} at ${plan.rate} a second: ${seconds} s. Nothing was woken.`);
  return 0;
}

/** The state of this sweep: that of an earlier run of it, or a new one. What the registry says is kept beside it, because it changes. */
async function begun(plan, objects) {
  const idsFile = `${plan.file}.ids`;
  if (existsSync(plan.file)) {
    const state = stateIn(plan.file);
    const all = objects ?? (existsSync(idsFile) ? linesIn(idsFile) : []);
    const isSame = state.url === plan.url && state.namespace === plan.namespace && state.source === plan.source;
    if (!isSame || state.hash !== hashOf(all)) {
      throw new Usage(`${plan.file} is of another sweep. Delete it, or name another file with --state.`);
    }
    return { state, all };
  }
  const all = objects ?? (await fromRegistry(plan));
  if (!objects) writeFileSync(idsFile, all.map((id) => `${id}\n`).join(""));
  const { url, namespace, source } = plan;
  const counts = { total: all.length, done: 0, woken: 0, waiting: 0, dead: 0, failed: [] };
  const state = { v: 1, url, namespace, source, hash: hashOf(all), ...counts };
  save(plan, state);
  return { state, all };
}

function stateIn(file) {
  try {
    const state = JSON.parse(readFileSync(file, "utf8"));
    if (state.v === 1 && Number.isSafeInteger(state.done) && Array.isArray(state.failed)) return state;
  } catch {
    // It is none.
  }
  throw new Usage(`${file} is no state of a sweep. Delete it, or name another file with --state.`);
}

const hashOf = (all) => createHash("sha256").update(all.join("\n")).digest("hex");

/** In one step: a sweep that is killed leaves the state before or after. */
function save(plan, state) {
  writeFileSync(`${plan.file}.new`, JSON.stringify(state));
  renameSync(`${plan.file}.new`, plan.file);
}

async function wakeAll(plan, state, all, progress) {
  const atOnce = Math.max(1, Math.min(MOST_AT_ONCE, Math.floor(plan.rate)));
  for (let next = Date.now(); state.done < all.length; ) {
    await sleep(Math.max(0, next - Date.now()));
    const part = all.slice(state.done, state.done + atOnce);
    // Not from the time that was planned: a route that was slow is not asked for more afterwards.
    next = Date.now() + (part.length * 1000) / plan.rate;
    const isId = (object) => !plan.allNames && ID.test(object);
    const ids = part.filter(isId).map((id) => id.toLowerCase());
    const names = part.filter((object) => !isId(object));
    const { results } = await request(plan, "wake", { namespace: plan.namespace, ids, names });
    for (const { id, error, waiting = 0, dead = 0 } of results) {
      if (error === undefined) state.woken++;
      else if (state.failed.length < MOST_FAILED) state.failed.push([id, error]);
      if (waiting > 0) state.waiting++;
      state.dead += dead;
    }
    state.done += part.length;
    save(plan, state);
    progress.show();
  }
}

/** Asks the route, again and again where it fails as a whole. */
async function request(plan, path, body) {
  for (let attempt = 0; ; attempt++) {
    const given = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
    const failure = await fetch(`${plan.url}/${path}`, {
      ...given,
      headers: plan.headers,
      redirect: "manual",
      signal: AbortSignal.timeout(REQUEST_MS),
    }).then(
      async (response) => {
        const answer = Object(await response.json().catch(() => null));
        if (response.ok && isAnswer(answer, body)) return { answer };
        if (response.ok) throw new Usage(`This is no answer of sweepRoute(): is it mounted at ${plan.url}?`);
        const text = `${response.status} ${answer.error ?? response.statusText}`;
        if (response.status < 500 && response.status !== 429 && response.status !== 408) throw new Usage(`The route refuses: ${text}`);
        return { text, retryAfter: Number(response.headers.get("retry-after")) || 0 };
      },
      (error) => ({ text: error.cause?.message ?? error.message, retryAfter: 0 }),
    );
    if (failure.answer) return failure.answer;
    if (attempt >= plan.retries) throw new Error(`The route does not answer: ${failure.text}. The same command goes on where it was.`);
    const wait = Math.min(LONGEST_WAIT_MS, Math.max(1000 * 2 ** attempt, failure.retryAfter * 1000));
    console.error(`${failure.text}. Trying again in ${wait / 1000} s.`);
    await sleep(wait);
  }
}

/** Whether the answer is about what was asked. Another page, a login say, may answer with 200 as well, and has woken nothing. */
function isAnswer({ ids, results }, body) {
  if (body === undefined) return Array.isArray(ids);
  return Array.isArray(results) && results.length === body.ids.length + (body.names ?? []).length;
}

function ended(plan, state) {
  const { total, woken, waiting, dead, failed } = state;
  console.log(`Woke ${woken} of ${total} objects of ${plan.namespace}: ${waiting} have messages waiting, ${dead} dead letters in all.`);
  for (const file of [plan.file, `${plan.file}.ids`]) rmSync(file, { force: true });
  if (failed.length === 0) return 0;
  const file = `${plan.file}.failed`;
  writeFileSync(file, failed.map(([id, error]) => `# ${String(error).replace(/\s+/g, " ")}\n${id}\n`).join(""));
  console.error(`${failed.length} could not be woken: ${failed[0][1]} ${file} has them, for --ids.`);
  return 1;
}
