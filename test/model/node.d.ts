/** The little of Node that the model uses: the types of workers and of Node don't go together in one program. */

declare const process: {
  readonly env: Record<string, string | undefined>;
  nextTick(work: () => void): void;
};

declare module "node:v8" {
  export function serialize(value: unknown): Uint8Array;
}
