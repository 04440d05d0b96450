/** Inside: runs a step of a test within an object, where its storage can be reached. */

import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { told } from "../api/errors.js";
import { type Life, type Watched, watched } from "./probe.js";

/** A stub of an object whose class is wrapped with `withTransactionalOutbox()`, in the worker under test. */
export interface TestStub {
  readonly id: DurableObjectId;
}

/** An instance, as far as tests call it. */
export interface Instance {
  alarm(info?: AlarmInvocationInfo): unknown;
}

/** Runs within the object. One that started before this module was imported is started again first. */
export async function inside<R>(stub: TestStub, body: (life: Life, instance: Instance, object: Watched) => Promise<R> | R): Promise<R> {
  const object = watched(idOf(stub));
  const attempt = (): Promise<{ result: R } | undefined> =>
    runInDurableObject(stub as never, async (instance: unknown) =>
      object.life ? { result: await body(object.life, instance as Instance, object) } : undefined,
    );
  let done = await attempt();
  if (!done) {
    await evictDurableObject(stub as DurableObjectStub);
    done = await attempt();
  }
  if (!done) throw new TypeError(told("Expected `stub` to be one of an object whose class is wrapped with withTransactionalOutbox()."));
  return done.result;
}

function idOf(stub: TestStub): DurableObjectId {
  if (typeof stub?.id?.toString !== "function") throw new TypeError(told("Expected `stub` to be a Durable Object stub."));
  return stub.id;
}

/** A stub of the object with this id: a fresh one, because one whose object was aborted stays broken. */
export function stubOf(id: string): TestStub {
  for (const binding of Object.values(env as unknown as Record<string, unknown>)) {
    // Asked by name: reading a method of a service binding would call the service.
    if (!/^(Loopback)?DurableObjectNamespace$/.test(Object(binding).constructor?.name)) continue;
    const namespace = binding as DurableObjectNamespace;
    try {
      return namespace.get(namespace.idFromString(id));
    } catch {
      // The id is another namespace's.
    }
  }
  throw new Error(told(`No binding of the worker leads to the object ${id}.`));
}
