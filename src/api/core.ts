/** Where the state of an object keeps the core of its outbox: known to the core, and to subpaths that find the object's manager there. */

/**
 * Not a private map: a wrapper in between may have handed on a state that inherits from this one, or a proxy of it, and a dev server evaluates the
 * package again after a change, and constructs another instance for the same state. The number counts the forms of `Core`: two releases in one worker
 * share none.
 */
export const CORE: unique symbol = Symbol.for("do-transactional-outbox core 1") as never;
