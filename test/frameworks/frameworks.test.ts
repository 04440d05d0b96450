/** What each framework does, wrapped and not: one file, because all of them stand in one worker, which takes seconds to load. */
import "./actors.suite.ts";
import "./agents.suite.ts";
import "./containers.suite.ts";
import "./hono.suite.ts";
import "./partyserver.suite.ts";
import "./sentry.suite.ts";
