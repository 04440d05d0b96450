/** Bounded memory: what a destination knows about its targets and about messages in flight. */

/** How many targets, and how many messages of each kind, are remembered. */
const MOST_REMEMBERED = 1000;

/** Adds to a map that forgets its oldest entry when it is full. */
export function remember<K, V>(map: Map<K, V>, key: K, value: V): V {
  map.delete(key);
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > MOST_REMEMBERED && oldest !== undefined) map.delete(oldest);
  return value;
}
