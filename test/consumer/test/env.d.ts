/// <reference types="@cloudflare/vitest-pool-workers/types" />

declare namespace Cloudflare {
  interface Env extends ImportedEnv {}
}
type ImportedEnv = import("../src/index.ts").Env;
