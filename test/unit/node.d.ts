/** The little of Node that these tests use: the types of workers and of Node don't go together in one program. */

declare module "node:v8" {
  /** Without the host objects of `serialize`, so that a view is written with all of its buffer, as storage does. */
  export class Serializer {
    writeHeader(): void;
    writeValue(value: unknown): void;
    releaseBuffer(): Uint8Array;
  }
}
declare function setImmediate(work: () => void): void;
declare module "node:fs" {
  export function readdirSync(folder: string, options: { recursive: true; encoding: "utf8" }): string[];
  export function readFileSync(file: string, encoding: "utf8"): string;
}
declare module "vite" {
  /** Parses a module: its `program` is an ESTree. */
  export function parseSync(file: string, text: string): { program: unknown; errors: unknown[] };
}
