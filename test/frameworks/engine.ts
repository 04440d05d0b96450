/**
 * A stand-in for the container engine, which no test machine has: the least of `ctx.container` that the Container class
 * asks for. Its container runs as soon as it is started, answers every request with the path, and ends when it is told to.
 */
export class Engine {
  running = false;
  #end: () => void = () => {};
  #ended: Promise<void> = Promise.resolve();

  start(): void {
    this.running = true;
    this.#ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  monitor(): Promise<void> {
    return this.#ended;
  }

  signal(): void {
    void this.destroy();
  }

  async destroy(): Promise<void> {
    await scheduler.wait(20);
    this.running = false;
    this.#end();
  }

  getTcpPort(): { fetch: (url: string) => Promise<Response> } {
    return { fetch: async (url) => new Response(`the container has served ${new URL(url).pathname}`) };
  }
}
