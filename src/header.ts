/** The header's text: what every put writes. */

import { encoded } from "./lines.js";
import { type Memory, NEVER } from "./memory.js";
import { CALM } from "./trouble.js";

/** Gives the header of an object as it should stand. `waits` tells whether the outbox wants to be woken. */
export function headerOf(object: string): (memory: Memory, waits: boolean) => unknown {
  const quoted = JSON.stringify(object);
  /** How it begins: put together once an epoch. */
  let begin = { epoch: "", base: -1, text: "" };
  return (memory, waits) => {
    const { epoch, base, position, first, last, newest, own, running, trouble, paused, adopting, aside, ready, laned, dead } = memory;
    const { foreign, chore, late, since, done, main, firing } = memory;
    const gaps = main !== position - done;
    const busy = chore < NEVER;
    let rest = "";
    if (own || running || trouble !== CALM || firing || paused || adopting || aside || laned || dead || foreign || busy || late || gaps) {
      // While the outbox does not want to be woken the native slot holds the object's own alarm, and the row need not.
      const kept = own ?? (running && { ...running, retryCount: running.retryCount + 1 });
      const rare = {
        own: waits || firing || busy || kept?.retryCount ? kept : null,
        trouble: trouble === CALM ? undefined : trouble,
        main: gaps ? main : undefined,
        chore: busy ? chore : undefined,
        ...{ firing, paused, adopting: adopting || undefined, aside, ready, laned, dead, foreign, late, since },
      };
      rest = `,${JSON.stringify(rare).slice(1, -1)}`;
    }
    if (begin.epoch !== epoch || begin.base !== base) {
      begin = { epoch, base, text: `{"v":1,"object":${quoted},"epoch":"${epoch}","base":${base},"position":` };
    }
    return encoded(`${begin.text}${position},"first":${first},"last":${last}${rest}}`, newest);
  };
}
