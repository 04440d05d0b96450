/** The table of the example: what it decides, given what has happened. With Emmett's specification of deciders, whose shape it has. */
import { DeciderSpecification } from "@event-driven-io/emmett";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { TableEvent } from "../../example-worker/states.ts";
import * as decider from "../../example-worker/table-decider.ts";
import { SEED, size } from "../support/random.ts";

const given = DeciderSpecification.for<decider.TableCommand, TableEvent, decider.TableNow>(decider);
const slot = "19:00";
const added: TableEvent = { type: "table_added", table: 1 };
const removed: TableEvent = { type: "table_removed", table: 1 };
const closed: TableEvent = { type: "table_closed", table: 1 };
const locked: TableEvent = { type: "table_lock_placed", table: 1, slot, bookingId: "ada", until: 5 };
const freed: TableEvent = { type: "slot_unlocked", table: 1, slot, bookingId: "ada", reason: "cancelled" };
const change = (type: "add" | "remove" | "open" | "close"): decider.TableCommand => ({ type, table: 1 });
const lock = (bookingId: string): decider.TableCommand => ({ type: "lock", table: 1, slot, bookingId, until: 5 });
const unlock = (bookingId: string): decider.TableCommand => ({ type: "unlock", table: 1, slot, bookingId, reason: "cancelled" });

type Refusals = [name: string, before: TableEvent[], command: decider.TableCommand, error: new (message: string) => Error];

describe("a table", () => {
  it.each<Refusals>([
    ["adding it twice", [added], change("add"), decider.TableAlreadyExists],
    ["removing what was never added", [], change("remove"), decider.TableNotFound],
    ["removing it twice", [added, removed], change("remove"), decider.TableNotFound],
    ["removing it while it is locked", [added, locked], change("remove"), decider.TableLocked],
    ["opening what was removed", [added, removed], change("open"), decider.TableNotFound],
    ["closing what was never added", [], change("close"), decider.TableNotFound],
    ["locking what was never added", [], lock("ada"), decider.TableNotFound],
    ["locking it while it is closed", [added, closed], lock("ada"), decider.TableClosed],
    ["a second booking of a slot", [added, locked], lock("bob"), decider.SlotTaken],
  ])("refuses %s", (_, before, command, error) => {
    given(before).when(command).thenThrows(error);
  });

  it.each<[name: string, before: TableEvent[], command: decider.TableCommand, after: TableEvent[]]>([
    ["is added", [], change("add"), [added]],
    ["is added again after it was removed", [added, removed], change("add"), [added]],
    ["is removed when its slot is free again", [added, locked, freed], change("remove"), [removed]],
    ["is locked", [added], lock("ada"), [locked]],
    ["is not locked twice for one booking, also when it has closed since", [added, locked, closed], lock("ada"), []],
    ["is unlocked for its own booking", [added, locked], unlock("ada"), [freed]],
    ["is not unlocked for another one", [added, locked], unlock("bob"), []],
    ["is not unlocked twice", [added, locked, freed], unlock("ada"), []],
    ["is not closed twice", [added, closed], change("close"), []],
  ])("%s", (_, before, command, after) => {
    if (after.length === 0) given(before).when(command).thenNothingHappened();
    else given(before).when(command).then(after);
  });

  it("has each slot locked for one booking at most, and is never removed with a lock, whatever it is asked", () => {
    const command: fc.Arbitrary<decider.TableCommand> = fc.oneof(
      fc.record({ type: fc.constantFrom("add", "remove", "open", "close"), table: fc.constant(1) }),
      fc
        .record({ bookingId: fc.constantFrom("ada", "bob", "eve"), isLock: fc.boolean(), slot: fc.constantFrom("18:00", slot) })
        .map(
          ({ isLock, ...rest }): decider.TableCommand =>
            isLock ? { type: "lock", table: 1, until: 5, ...rest } : { type: "unlock", table: 1, reason: "cancelled", ...rest },
        ),
    );
    fc.assert(
      fc.property(fc.array(command, { maxLength: 40 }), (commands) => {
        let state = decider.initialState();
        const holders = new Map<string, string>();
        for (const each of commands) {
          let events: TableEvent[] = [];
          try {
            events = [decider.decide(each, state)].flat();
          } catch (error) {
            expect(error).toBeInstanceOf(decider.TableRefusal);
          }
          for (const event of events) {
            if (event.type === "table_lock_placed") {
              expect([holders.has(event.slot), state.status]).toEqual([false, "open"]);
              holders.set(event.slot, event.bookingId);
            }
            if (event.type === "slot_unlocked") {
              expect(holders.get(event.slot)).toBe(event.bookingId);
              holders.delete(event.slot);
            }
            if (event.type === "table_removed") expect(holders.size).toBe(0);
            state = decider.evolve(state, event);
          }
          expect(Object.entries(state.locks).map(([at, { bookingId }]) => [at, bookingId])).toEqual(expect.arrayContaining([...holders]));
          expect(Object.keys(state.locks)).toHaveLength(holders.size);
        }
      }),
      { seed: SEED, numRuns: size(100, 2000) },
    );
  });
});
