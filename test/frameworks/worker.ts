/** The worker under test: the classes of all frameworks, each as its framework has it and wrapped. */
export { BarePlayer, Player } from "./actors.ts";
export { Agent, BareAgent } from "./agents.ts";
export { BareBoxed, Boxed } from "./containers.ts";
export { BareKvShop, BareShop, KvShop, Shop } from "./hono.ts";
export { BareKvParty, BareParty, KvParty, Party } from "./partyserver.ts";
export * from "./sentry.ts";

export default {} satisfies ExportedHandler;
