/** One Durable Object's world: its lives, what it stores, its alarm, its callers, and the crashes that are ordered for it. */

import { type AlarmCall, Alarms, type Lateness } from "./alarms.ts";
import { Commits, durations, type Speed } from "./commits.ts";
import { Disk, Layer } from "./layers.ts";
import { type Life, Loop } from "./loop.ts";
import type { Backend } from "./rules.ts";
import { type Ground, Storage } from "./storage.ts";

/** What a class makes of a state and an env. */
export type ObjectClass<T> = new (ctx: never, env: never) => T;

interface Handled {
  alarm?: (info: AlarmCall) => unknown;
}

/** How a call ends when the object dies under it. */
export class Died extends Error {
  override readonly name = "Died";
}

/** A call that has begun. */
export interface Call<R> {
  ended: boolean;
  readonly result: Promise<R>;
}

export interface Choice {
  readonly backend: Backend;
  readonly tempo: Ground["tempo"];
  readonly seed: number;
  /** How late the platform's alarms are; punctual where nothing is said. */
  readonly alarms?: Lateness;
  /** How long commits take; no time where nothing is said. */
  readonly commits?: Speed;
  /** Crashes at these steps, counted from 1: each comes before what its step stands for. */
  readonly crashAt?: readonly number[];
}

class Living<T> implements Life {
  dead = false;
  instance: T | null = null;
  ctx: DurableObjectState | null = null;
  readonly storage: Storage;
  readonly commits: Commits;
  /** Who waits for an answer. */
  readonly calls: Set<(error: Error) => void> = new Set();

  constructor(ground: Ground, world: World<never>, takes: () => number) {
    const turn = new Layer(world.disk);
    this.storage = new Storage(ground, this, turn);
    this.commits = new Commits(world, this, turn, takes);
  }
}

export class World<T extends object> {
  readonly disk: Disk = new Disk();
  readonly loop: Loop;
  readonly alarms: Alarms;
  readonly choice: Choice;
  life: Living<T> | null = null;
  lives = 0;
  crashes = 0;
  /** Calls that have entered the object, its alarm's among them: what each may ask of others is limited by itself. */
  invocations = 0;
  /** Steps passed, and what the last ones were. */
  steps = 0;
  readonly trace: string[] = [];
  /** Told of every commit, when it is durable. */
  committed: () => void = () => {};
  /**
   * Told of every death: whether the platform will tell the object, whether it has given up calling, and the time of the alarm whose handler
   * has returned and is called once more.
   */
  died: (told: boolean, givenUp: boolean, again: number | null) => void = () => {};
  /** Told how the object's `alarm` has ended. */
  alarmed: (info: AlarmCall, error: unknown) => void = () => {};
  readonly #crashAt: number[];
  readonly #ground: Ground;
  readonly #takes: () => number;

  constructor(
    choice: Choice,
    readonly cls: () => ObjectClass<T>,
  ) {
    this.choice = choice;
    this.#crashAt = [...(choice.crashAt ?? [])];
    this.loop = new Loop(choice.seed, () => this.life);
    this.alarms = new Alarms(this.disk, this.loop, (info) => this.#alarm(info), choice.alarms, choice.seed);
    this.loop.source = this.alarms;
    this.loop.ended = () => this.life?.commits.begin();
    this.#takes = durations(choice.commits ?? "quick", choice.seed);
    this.#ground = {
      loop: this.loop,
      backend: choice.backend,
      tempo: choice.tempo,
      hook: (label) => this.hook(label),
      alarm: () => this.alarms.seen(),
      hasHandler: () => !this.life?.instance || typeof (this.life.instance as Handled).alarm === "function",
      durable: (then) => this.durable(then),
    };
  }

  /** The one way by which every step goes: returns whether the object still lives. */
  hook(label: string): boolean {
    this.steps++;
    this.trace.push(label);
    if (this.steps !== this.#crashAt[0]) return true;
    while (this.#crashAt[0] === this.steps) this.#crashAt.shift();
    this.crash(`ordered at step ${this.steps}, ${label}`);
    return false;
  }

  /** The object dies: what is not committed is gone, and nothing of it runs on. `abandons` tells that it wants its alarm not repeated. */
  crash(reason: string, abandons = false): void {
    const { life } = this;
    this.crashes++;
    if (life) {
      life.dead = true;
      this.life = null;
      life.storage.turn.drop();
      this.loop.clear();
      for (const reject of life.calls) this.loop.add("world", () => reject(new Died(reason)));
    }
    const told = this.alarms.guarding && !abandons;
    const again = abandons ? null : this.alarms.settling;
    if (abandons) this.alarms.abandoned();
    this.died(told, !abandons && this.alarms.failed(), again);
  }

  /** Orders a crash, so many steps from now. */
  crashIn(steps: number): void {
    this.#crashAt.push(this.steps + steps);
    this.#crashAt.sort((a, b) => a - b);
  }

  /** The platform takes the object out of memory. Nobody is calling it; timers are lost. */
  evict(): void {
    const { life } = this;
    if (!life || life.calls.size > 0 || this.alarms.firing || life.commits.underWay) return;
    life.dead = true;
    this.life = null;
    this.loop.clear();
  }

  /** Begins a call of the object, which starts if need be. Its result comes when what was written before is durable. */
  begin<R>(body: (instance: T, ctx: DurableObjectState) => R | Promise<R>): Call<R> {
    let settle: { resolve: (value: R) => void; reject: (error: unknown) => void };
    const result = new Promise<R>((resolve, reject) => {
      settle = { resolve, reject };
    });
    result.catch(() => {});
    const call: Call<R> & { ended: boolean } = { ended: false, result };
    this.loop.add("world", () => {
      const life = this.#start();
      const reject = (error: unknown): void => {
        call.ended = true;
        settle.reject(error);
      };
      // It may have died while it was constructed.
      if (life.dead) {
        reject(new Died("in the constructor"));
        return;
      }
      life.calls.add(reject);
      const end = (how: () => void): void => {
        // Nobody outside sees an answer before everything that was written before it is durable.
        life.commits.after(() => {
          life.calls.delete(reject);
          call.ended = true;
          how();
        });
      };
      const run = async (): Promise<R> => body(life.instance as T, life.ctx as DurableObjectState);
      const enter = (): void => {
        this.invocations++;
        run().then(
          (value) => end(() => settle.resolve(value)),
          (error) => end(() => settle.reject(error)),
        );
      };
      this.loop.add("event", enter, life);
    });
    return call;
  }

  /** Calls the object and lets it run until the call has ended. */
  async act<R>(body: (instance: T, ctx: DurableObjectState) => R | Promise<R>): Promise<R> {
    const call = this.begin(body);
    await this.ending(call);
    return call.result;
  }

  /** Lets the object run until a call has ended. */
  async ending(call: Call<unknown>): Promise<void> {
    await this.loop.run(() => call.ended);
    if (!call.ended) throw new Error("The call hangs: nothing is left that could end it.");
  }

  /** Whether the object has something under way that needs no time to pass, or is not durable. */
  get working(): boolean {
    return this.loop.working || this.life?.commits.underWay === true;
  }

  /** Lets time pass. */
  advance(ms: number): Promise<void> {
    return this.loop.run(() => false, this.loop.now + ms);
  }

  /** Lets everything happen that will happen by itself. */
  rest(): Promise<void> {
    return this.loop.run(() => false);
  }

  /** Something outside the object that it waits for: it leaves when what was written before is durable, and the answer is an event. */
  outside<R>(work: () => R, delayMs = 0): Promise<R> {
    const { life, loop } = this;
    const { section } = loop;
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        let answer: () => void;
        try {
          const value = work();
          answer = () => resolve(value);
        } catch (error) {
          answer = () => reject(error);
        }
        loop.add("event", answer, life, section, loop.now + delayMs);
      };
      life?.commits.after(leave);
    });
  }

  /** Calls `then` once everything is durable that the object has written by now: never, if it dies before. */
  durable(then: () => void): void {
    this.life?.commits.after(then, true);
  }

  #start(): Living<T> {
    if (this.life) return this.life;
    this.lives++;
    const life = new Living<T>(this.#ground, this as never, this.#takes);
    this.life = life;
    this.loop.section = null;
    const Cls = this.cls();
    life.instance = new Cls(this.#context(life) as never, {} as never);
    return life;
  }

  #context(life: Living<T>): DurableObjectState {
    const id = { toString: () => "model", name: "model", equals: (other: { toString(): string }) => other.toString() === "model" };
    const state = {
      id,
      storage: life.storage,
      waitUntil: () => {},
      blockConcurrencyWhile: <R>(body: () => Promise<R>): Promise<R> => {
        if (life.dead) return new Promise<R>(() => {});
        const done = this.loop.enclose(life, body);
        return done.catch((error) => {
          // The platform resets an object whose blocking part fails.
          if (!life.dead) this.crash(`blockConcurrencyWhile failed: ${error}`);
          return new Promise<R>(() => {});
        });
      },
      abort: (reason?: string, { retryAlarm = true }: { retryAlarm?: boolean } = {}): never => {
        if (!life.dead) this.crash(`abort: ${reason}`, !retryAlarm);
        throw new Error(reason);
      },
    };
    life.ctx = state as unknown as DurableObjectState;
    return life.ctx;
  }

  #alarm(info: AlarmCall): void {
    if (!this.hook("alarm")) return;
    const starts = this.life === null;
    const life = this.#start();
    const end = (error: unknown): void => {
      this.alarms.returned();
      life.commits.after(() => this.#alarmEnded(info, error));
    };
    const run = async (): Promise<unknown> => (life.instance as Handled).alarm?.(info);
    const enter = (): void => {
      if (!this.alarms.entered(starts)) return;
      this.invocations++;
      run().then(
        () => end(undefined),
        (error) => end(error ?? new Error("thrown")),
      );
    };
    this.loop.add("event", enter, life);
  }

  #alarmEnded(info: AlarmCall, error: unknown): void {
    if (!this.hook("alarm done")) return;
    this.alarmed(info, error);
    if (error !== undefined) this.alarms.failed();
    else if (this.alarms.succeeded()) this.disk.alarm = null;
    this.committed();
    this.hook("alarm cleared");
  }
}
