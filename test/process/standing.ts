/** A running workerd with `worker/standing.ts`, at any compatibility date, and the files in which its objects stand. */
import { copyFileSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { MiniflareOptions } from "miniflare";
import { type Backend, bundled, launch, type Receiver, type Receivers, taking } from "./harness.ts";

export interface Standing extends AsyncDisposable {
  call<R = unknown>(backend: Backend, name: string, method: string, ...args: unknown[]): Promise<R>;
  /** SIGKILL, at once. Dispose of it before the folder is used again. */
  kill(): void;
}

export async function standing(
  path: string,
  receiver: Receiver | Receivers,
  date: { compatibilityDate?: string; compatibilityFlags?: string[] } = {},
): Promise<Standing> {
  const { miniflare, pid, url } = await launch({
    name: "box",
    modules: true,
    script: await bundled("standing.ts"),
    compatibilityDate: "2026-07-01",
    ...date,
    durableObjectsPersist: path,
    durableObjects: { SQLITE: { className: "SqliteBox", useSQLite: true }, KV: { className: "KvBox", useSQLite: false } },
    bindings: { WITHOUT_SEND: false },
    serviceBindings: { RECEIVER: taking(receiver) },
  } as MiniflareOptions);
  return {
    async call<R>(backend: Backend, name: string, method: string, ...args: unknown[]): Promise<R> {
      const response = await fetch(new URL(`${backend}/${name}/${method}`, url), { method: "POST", body: JSON.stringify(args) });
      const text = await response.text();
      if (!response.ok) throw new Error(text);
      return (text === "" ? undefined : JSON.parse(text)) as R;
    },
    kill: () => void process.kill(pid, "SIGKILL"),
    [Symbol.asyncDispose]: () => miniflare.dispose(),
  };
}

/** The folder in which the objects of a backend stand, one file each. */
const folderOf = (path: string, backend: Backend): string => join(path, backend === "sqlite" ? "box-SqliteBox" : "box-KvBox");

/** Removes an object's files. Only while workerd is stopped. */
export function remove(path: string, backend: Backend, id: string): void {
  const folder = folderOf(path, backend);
  for (const file of readdirSync(folder)) if (file.startsWith(id)) rmSync(join(folder, file));
}

/**
 * Puts a copy of one object in the place of another, as after a restore: its rows are there, and no alarm, because the
 * platform restores none. Only while workerd is stopped.
 */
export function copyWithoutAlarm(path: string, backend: Backend, from: string, to: string): void {
  const folder = folderOf(path, backend);
  const [source, target] = [join(folder, `${from}.sqlite`), join(folder, `${to}.sqlite`)];
  using original = new DatabaseSync(source);
  original.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  remove(path, backend, to);
  copyFileSync(source, target);
  using copy = new DatabaseSync(target);
  copy.exec("DELETE FROM _cf_METADATA");
}
