/** What the subpath uses of `@cloudflare/vitest-pool-workers`, which provides the module where tests run. */
declare module "cloudflare:test" {
  export function runInDurableObject<O, R>(
    stub: DurableObjectStub<never>,
    callback: (instance: O, state: DurableObjectState) => R | Promise<R>,
  ): Promise<R>;
  export function evictDurableObject(stub: DurableObjectStub): Promise<void>;
}
