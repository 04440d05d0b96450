/** What storage writes for a value: V8's serialiser, as workerd uses it. */
import { Serializer } from "node:v8";

/** The version, with which every row begins. */
const HEADER_BYTES = 2;

/** How many bytes a value takes, without what a row has once. */
export function storedBytes(value: unknown): number {
  const serializer = new Serializer();
  serializer.writeHeader();
  serializer.writeValue(value);
  return serializer.releaseBuffer().length - HEADER_BYTES;
}
