/** Objects and agents that Sentry instruments, in two of its major versions: around the outbox, within it, and without one; with the inspector's wrapper in each place. */
import { instrumentAgentWithSentry, instrumentDurableObjectWithSentry } from "@sentry/cloudflare";
import {
  instrumentAgentWithSentry as instrumentAgentWithSentry10,
  instrumentDurableObjectWithSentry as instrumentDurableObjectWithSentry10,
} from "sentry-10";
import { withTransactionalOutbox } from "../../src/index.ts";
import { withInspector } from "../../src/inspector/index.ts";
import { BareAgent } from "./agents.ts";
import { BareShop } from "./hono.ts";
import { options } from "./stage.ts";

/** What Sentry has sent: the names of transactions and spans, and the messages of errors. */
export const reported: string[] = [];

interface Item {
  readonly transaction?: string;
  readonly items?: readonly { readonly name?: string }[];
  readonly exception?: { readonly values?: readonly { readonly value?: string }[] };
}

/** Takes what would go to Sentry. */
const transport = () => ({
  async send([, items]: [unknown, [unknown, Item][]]): Promise<object> {
    for (const [, { transaction, items: spans = [], exception }] of items) {
      const names = [transaction, ...spans.map(({ name }) => name), ...(exception?.values ?? []).map(({ value }) => value)];
      reported.push(...names.filter((name) => name !== undefined));
    }
    return {};
  },
  flush: async () => true,
});

const settings = () => ({ dsn: "https://key@sentry.invalid/1", tracesSampleRate: 1, transport });

type Instrument = <C>(cls: C) => C;

/** Sentry's functions ask for types of other versions of the runtime. */
function instrument(by: unknown): Instrument {
  return <C>(cls: C) => (by as (given: unknown, cls: C) => C)(settings, cls);
}

const object = instrument(instrumentDurableObjectWithSentry);
const object10 = instrument(instrumentDurableObjectWithSentry10);
const agent = instrument(instrumentAgentWithSentry);
const agent10 = instrument(instrumentAgentWithSentry10);

type ShopClass = typeof BareShop;
type AgentClass = typeof BareAgent;
const shop = (): ShopClass => class extends BareShop {};
const bareAgent = (): AgentClass => class extends BareAgent {};

export const BareSentryAround: ShopClass = object(shop());
export const BareSentryWithin: ShopClass = object(shop());
export const SentryAround: ShopClass = withInspector(object(withTransactionalOutbox(shop(), options)));
export const SentryWithin: ShopClass = withTransactionalOutbox(withInspector(object(shop())), options);

export const BareSentry10Around: ShopClass = object10(shop());
export const BareSentry10Within: ShopClass = object10(shop());
export const Sentry10Around: ShopClass = withInspector(object10(withTransactionalOutbox(shop(), options)));
export const Sentry10Within: ShopClass = withTransactionalOutbox(object10(withInspector(shop())), options);

export const BareSentryAgentAround: AgentClass = agent(bareAgent());
export const BareSentryAgentWithin: AgentClass = agent(bareAgent());
export const SentryAgentAround: AgentClass = withInspector(agent(withTransactionalOutbox(bareAgent(), options)));
export const SentryAgentWithin: AgentClass = withTransactionalOutbox(withInspector(agent(bareAgent())), options);

export const BareSentry10AgentAround: AgentClass = agent10(bareAgent());
export const BareSentry10AgentWithin: AgentClass = agent10(bareAgent());
export const Sentry10AgentAround: AgentClass = withInspector(agent10(withTransactionalOutbox(bareAgent(), options)));
export const Sentry10AgentWithin: AgentClass = withTransactionalOutbox(agent10(withInspector(bareAgent())), options);
